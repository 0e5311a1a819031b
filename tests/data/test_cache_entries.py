"""The cache's entries: which locks protect them from removal, and what a removal or a listing meets on its way."""

import os
import shutil
from pathlib import Path

import pytest

from alexnet._runtime.cache import cache_folder
from alexnet._runtime.locks import file_lock
from alexnet.data.cache_entries import cache_entries, chosen_entries, remove_entry
from alexnet.data.catalog import Catalog
from alexnet.data.decompression import decompressed_tar
from alexnet.data.open import open_or_pack
from alexnet.data.packing import LOCK
from alexnet.data.scan import scan
from alexnet.data.sources.detect import open_dataset
from alexnet.data.sources.embedded import PHOTOGRAPHS
from alexnet.errors import UserError
from image_files import tar_of


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """A cache of the test's own, in every test of this file: they remove what they find in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "alexnet"
    assert cache_folder() == folder
    folder.mkdir(parents=True)
    return folder


def write(file: Path, content: bytes = b"x") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def entry(name):
    return next(found for found in cache_entries() if found.name == name)


@pytest.mark.parametrize("name", ["", "cifar-10.tar.gz/"])
def test_no_part_of_a_name_chooses_a_download(root, name):
    write(root / "cifar-10.tar.gz")
    with pytest.raises(UserError, match="--clear has an empty name" if not name else "the cache has no"):
        chosen_entries(cache_entries(), [name], None)


@pytest.mark.parametrize(("name", "file", "lock"), [
    ("decompressed/a.tar.gz-0123.tar.new", "", "decompressed/a.tar.gz-0123.lock"),
    ("decompressed/a.tar.gz-0123.tar", "", "decompressed/a.tar.gz-0123.lock"),
    ("features/f.npy.new", "", "features/f.lock"),
    ("scans/s.npz.new", "", "scans/s.lock"),
    ("weights/alexnet.pth.part", "", "weights/alexnet.pth.lock"),
    ("cifar-10.tar.gz.part", "", "cifar-10.tar.gz.lock"),
    ("onnxruntime-web", "ort.tgz.part", "onnxruntime-web/ort.tgz.lock"),
    ("streamed/0123", "train-000.tar.part", "streamed/0123/train-000.tar.lock"),
    ("packed/photos-64", "unfinished.json", f"packed/photos-64/{LOCK}")])
def test_what_is_being_written_is_not_removed(root, name, file, lock):
    written = write(root / name / file)
    with file_lock(root / lock), pytest.raises(UserError, match=f"another process is writing {name}"):
        remove_entry(entry(name))
    assert written.is_file()
    remove_entry(entry(name))
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_the_file_that_a_decompression_writes_is_not_removed(root, tmp_path, monkeypatch):
    refused = []

    def remove(path, dest, bar):
        dest.write_bytes(b"half")
        with pytest.raises(UserError, match="another process is writing"):
            remove_entry(entry(f"decompressed/{dest.name}"))
        refused.append(dest.name)

    monkeypatch.setattr("alexnet.data.decompression._decompress", remove)
    made = decompressed_tar(write(tmp_path / "a.tar.gz", tar_of({"ash/1.jpg": b"x"}, "w:gz")))
    assert made is not None
    assert refused == [f"{made.name}.new"]
    assert made.read_bytes() == b"half"


def test_the_result_that_a_scan_writes_is_not_removed(class_folders, monkeypatch):
    refused = []

    def remove(path, result):
        path.write_bytes(b"half")
        with pytest.raises(UserError, match="another process is writing"):
            remove_entry(entry(f"scans/{path.name}"))
        refused.append(path.suffix)

    monkeypatch.setattr("alexnet.data.scan._write_cache", remove)
    scan(Catalog(open_dataset(class_folders)))
    assert refused == [".new"]


def test_no_pack_begins_while_its_folder_is_removed(root, monkeypatch):
    folder, rename, seen = write(root / "packed" / "photos-64" / "manifest.json").parent, Path.rename, []

    def try_to_pack(path, target):
        with file_lock(folder / LOCK, wait=False) as is_free:
            seen.append(is_free)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", try_to_pack)
    remove_entry(entry("packed/photos-64"))
    assert seen == [False]
    assert list((root / "packed").iterdir()) == []


def test_the_lock_of_a_pack_that_begins_after_the_rename_stays(root, monkeypatch):
    folder, rename = write(root / "packed" / "photos-64" / "manifest.json").parent, Path.rename

    def rename_and_pack(path, target):
        doomed = rename(path, target)
        write(folder / LOCK)
        return doomed

    monkeypatch.setattr(Path, "rename", rename_and_pack)
    remove_entry(entry("packed/photos-64"))
    assert (folder / LOCK).is_file()


@pytest.mark.parametrize("leftover", ["packed/photos-64.removed/shard.tar", "packed/photos-64.removed"])
def test_an_interrupted_removal_is_finished_by_the_next(root, leftover):
    write(root / leftover)
    write(root / "packed" / "photos-64" / "manifest.json")
    remove_entry(entry("packed/photos-64"))
    assert list((root / "packed").iterdir()) == []


def test_all_removes_an_entry_and_its_interrupted_removal(root):
    write(root / "packed" / "photos-64.removed" / "shard.tar")
    write(root / "packed" / "photos-64" / "manifest.json", b"longer")
    found = chosen_entries(cache_entries(), ["all"], None)
    assert [one.name for one in found] == ["packed/photos-64", "packed/photos-64.removed"]
    for one in found:
        remove_entry(one)
    assert list((root / "packed").iterdir()) == []


def test_files_that_vanish_while_they_are_listed_are_left_out(root, monkeypatch):
    for name in ("packed/photos-64/shard.tar", "packed/photos-64/journal.new", "a.tar.part"):
        write(root / name, b"1234")
    lstat = Path.lstat

    def lstat_of_what_stays(path):
        if path.suffix in (".new", ".part"):
            raise FileNotFoundError(path)
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", lstat_of_what_stays)
    assert [(found.name, found.bytes) for found in cache_entries()] == [("packed/photos-64", 4)]


def test_a_folder_that_vanishes_while_it_is_listed_is_left_out(root, monkeypatch):
    folder, scandir = write(root / "onnxruntime-web" / "ort.tgz").parent, os.scandir

    def scandir_of_what_stays(path):
        if Path(path) == folder:
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr("os.scandir", scandir_of_what_stays)
    assert [(found.name, found.bytes) for found in cache_entries()] == [("onnxruntime-web", 0)]


def test_a_second_pack_of_the_same_images_says_why_and_how_large_the_first_is(tmp_path):
    """Photographs of the package, packed without groups, with groups, and after one has changed."""
    for number, path in enumerate(sorted(PHOTOGRAPHS.glob("*.png"))):
        folder = tmp_path / "photos" / ("ash", "birch")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"p{number // 4}_{number}.png")

    def said(**options):
        lines: list[str] = []
        open_or_pack(str(tmp_path / "photos"), 32, say=lines.append, progress=False, **options)
        return [line for line in lines if "has a pack" in line]

    assert said() == []
    assert said() == []  # found in the cache
    (line,) = said(group="{group}_{n}.png")
    assert line.startswith(f"note: the cache has a pack of {tmp_path / 'photos'} already (0 MB), but that was without "
                           "--group and this is with --group {group}_{n}.png, so other images are held out")
    name = line.rpartition(" ")[2]
    assert chosen_entries(cache_entries(), [name], None)[0].source == str(tmp_path / "photos")
    (tmp_path / "photos" / "ash" / "p0_0.png").unlink()
    (line,) = said()
    assert "but the images, their names, dates or labels are not the same as then" in line
