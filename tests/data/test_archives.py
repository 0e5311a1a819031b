"""Zip and tar archives of any layout are read in place; damaged, encrypted, unsafe and huge ones are refused."""

import io
import shutil
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from alexnet.data import archives, decompression
from alexnet.data.archives import open_archive
from alexnet.data.images import BadImage
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from image_files import jpeg, names, per_class, tar_of, trees

FILES = {f"{split}/{name}/{number}.jpg": jpeg(40 * label + number) for split, count in (("train", 4), ("val", 2))
         for label, name in enumerate(("ash", "birch")) for number in range(count)}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "alexnet"


def zip_of(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return memory.getvalue()


KINDS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "flowers.zip": zip_of, "stored.zip": lambda files: zip_of(files, zipfile.ZIP_STORED),
    "flowers.tar": tar_of,
    "flowers.tar.gz": lambda files: tar_of(files, "w:gz"), "flowers.tgz": lambda files: tar_of(files, "w:gz"),
    "flowers.tar.xz": lambda files: tar_of(files, "w:xz"), "flowers.tar.bz2": lambda files: tar_of(files, "w:bz2")}


def make(path: Path, files: dict[str, bytes]) -> Path:
    path.write_bytes(KINDS[path.name](files))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_has_the_same_images_as_the_folder_it_was_made_of(tmp_path: Path, kind: str):
    for name, data in FILES.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    folder, archive = open_dataset(tmp_path / "folder"), open_dataset(make(tmp_path / kind, FILES))
    assert (archive.name, archive.classes) == (kind.partition(".")[0], ("ash", "birch"))
    for split, count in (("train", 8), ("val", 4)):
        assert len(names(archive, split)) == count
        assert names(archive, split) == names(folder, split)
        for ours, theirs in zip(archive.splits[split], folder.splits[split], strict=True):
            assert ours.label == theirs.label
            assert ours.content() == FILES[ours.name]
            assert np.array_equal(ours.pixels(), theirs.pixels())


@pytest.mark.parametrize("kind", ["flowers.zip", "flowers.tar.gz"])
def test_an_archive_with_one_folder_around_the_classes_is_understood(tmp_path: Path, kind: str):
    archive = make(tmp_path / kind, {f"flower photos/{name}": data for name, data in FILES.items()})
    assert per_class(open_dataset(archive), "train") == [4, 4]


def test_the_folders_of_macos_and_hidden_files_in_an_archive_are_no_classes(tmp_path: Path):
    files = FILES | {"__MACOSX/train/ash/._0.jpg": b"\0\5\x16\7", "train/ash/._0.jpg": b"\0\5\x16\7",
                     "train/.DS_Store": b"\0\0\0\1Bud1"}
    dataset = open_dataset(make(tmp_path / "flowers.zip", files))
    assert (dataset.classes, per_class(dataset, "train")) == (("ash", "birch"), [4, 4])


@pytest.mark.parametrize(("name", "stem"), [("my.flowers.zip", "my.flowers"), ("a.tar.gz", "a"), ("a.tgz", "a"),
                                            ("a.tar", "a"), (".zip", ".zip")])
def test_the_name_of_the_data_is_that_of_the_archive_without_its_ending(name: str, stem: str):
    assert archives.archive_stem(Path(name)) == stem


def test_threads_read_a_zip_at_the_same_time(tmp_path: Path):
    archive = open_archive(make(tmp_path / "flowers.zip", FILES))
    assert archive
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(archive.read, [*FILES] * 20)) == [*FILES.values()] * 20


def test_an_archive_is_packed_without_unpacking(tmp_path: Path):
    packed = pack(open_dataset(make(tmp_path / "flowers.zip", FILES)), tmp_path / "packed", side=32)
    assert (len(packed.split("train")), len(packed.split("val"))) == (8, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flowers.zip", "packed"]


def test_a_compressed_tar_is_decompressed_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    archive = make(tmp_path / "flowers.tar.gz", FILES)
    before = open_dataset(archive).fingerprint()
    assert [path.suffix for path in (cache / "decompressed").iterdir()] == [".tar"]
    monkeypatch.setattr(decompression, "_decompress", lambda *arguments: pytest.fail("it was decompressed again"))
    assert open_dataset(archive).fingerprint() == before


def test_a_compressed_tar_is_the_same_data_after_the_cache_was_emptied(tmp_path: Path, cache: Path):
    archive = make(tmp_path / "flowers.tar.gz", FILES)
    before = open_dataset(archive).fingerprint()
    shutil.rmtree(cache)
    assert open_dataset(archive).fingerprint() == before


@pytest.mark.parametrize(
    "name", ["../evil/0.jpg", "/etc/0.jpg", "train/../../0.jpg", "C:/train/0.jpg", "..\\evil\\0.jpg"])
@pytest.mark.parametrize("kind", ["flowers.zip", "flowers.tar"])
def test_a_name_that_points_out_of_the_archive_is_refused(tmp_path: Path, kind: str, name: str):
    if kind.endswith("tar") and "\\" in name:
        pytest.skip("a backslash is part of a name in a tar")
    with pytest.raises(ValueError, match=r"holds a member with the unsafe name .* do not use this archive"):
        open_dataset(make(tmp_path / kind, FILES | {name: jpeg()}))


def test_backslashes_of_windows_separate_folders_in_a_zip(tmp_path: Path):
    dataset = open_dataset(make(tmp_path / "flowers.zip", {name.replace("/", "\\"): FILES[name] for name in FILES}))
    assert per_class(dataset, "train") == [4, 4]


def test_class_names_of_zips_that_do_not_declare_their_encoding(tmp_path: Path):
    """Info-ZIP stores UTF-8 without the flag: the bytes of ä are C3 A4, which cp437 reads as ├ñ."""
    files = {f"{name}/{number}.jpg": jpeg(number) for name in ("l@@rche", "birke") for number in range(4)}
    (tmp_path / "trees.zip").write_bytes(zip_of(files).replace(b"@@", b"\xc3\xa4"))
    assert open_dataset(tmp_path / "trees.zip").classes == ("birke", "lärche")


def test_links_within_a_tar_are_followed_and_others_are_named(tmp_path: Path):
    with tarfile.open(tmp_path / "flowers.tar", "w") as tar:
        for name, data in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for name, kind, target in (("train/ash/soft.jpg", tarfile.SYMTYPE, "../birch/3.jpg"),
                                   ("train/ash/hard.jpg", tarfile.LNKTYPE, "train/birch/2.jpg"),
                                   ("train/ash/out.jpg", tarfile.SYMTYPE, "../../../etc/passwd"),
                                   ("train/ash/loop.jpg", tarfile.SYMTYPE, "loop.jpg")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
    dataset = open_dataset(tmp_path / "flowers.tar")
    content = {image.name: image.content() for image in dataset.splits["train"]}
    assert content["train/ash/soft.jpg"] == FILES["train/birch/3.jpg"]
    assert content["train/ash/hard.jpg"] == FILES["train/birch/2.jpg"]
    assert {"train/ash/out.jpg", "train/ash/loop.jpg"}.isdisjoint(content)
    assert "out.jpg" in "\n".join(dataset.notes)


# --- Damaged and hostile archives -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_archive_is_called_damaged_by_its_name(tmp_path: Path, kind: str):
    path = make(tmp_path / kind, FILES)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"{kind} is damaged.*download the archive again"):
        open_dataset(path)


def test_a_tar_with_a_damaged_header_in_the_middle_is_not_taken_for_a_shorter_one(tmp_path: Path):
    path = make(tmp_path / "flowers.tar", FILES)
    data = bytearray(path.read_bytes())
    begin = data.index(b"train/birch/2.jpg")
    data[begin + 148 : begin + 154] = b"999999"  # the header's checksum
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"flowers\.tar is damaged: after 6 members there is no valid header"):
        open_dataset(path)


def test_a_damaged_member_of_a_zip_is_a_bad_image(tmp_path: Path):
    path = make(tmp_path / "stored.zip", FILES)
    data = bytearray(path.read_bytes())
    begin = data.index(FILES["train/ash/1.jpg"])
    data[begin + 100] ^= 255
    path.write_bytes(data)
    bad = next(image for image in open_dataset(path).splits["train"] if image.name == "train/ash/1.jpg")
    with pytest.raises(BadImage, match=r"train/ash/1\.jpg in .*stored\.zip is damaged"):
        bad.pixels()


def test_an_encrypted_zip_is_refused(tmp_path: Path):
    data = bytearray(zip_of(FILES))
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # the flags in each local header, and in the directory
        begin = -1
        while (begin := data.find(mark, begin + 1)) >= 0:
            data[begin + offset] |= 1
    (tmp_path / "flowers.zip").write_bytes(data)
    with pytest.raises(ValueError, match=r"flowers\.zip is encrypted; unpack it, and name the folder"):
        open_dataset(tmp_path / "flowers.zip")


@pytest.mark.parametrize("kind", ["flowers.zip", "flowers.tar.gz"])
def test_a_member_that_expands_beyond_an_image_file_is_not_read(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch,
):
    bomb = FILES | {"train/ash/bomb.jpg": bytes(2_000_000)}
    monkeypatch.setattr(archives, "BYTE_LIMIT", 1_000_000)
    monkeypatch.setattr("alexnet.data.images.BYTE_LIMIT", 1_000_000)
    image = next(image for image in open_dataset(make(tmp_path / kind, bomb)).splits["train"] if "bomb" in image.name)
    with pytest.raises(BadImage, match=r"bomb\.jpg.* 2,000,000 bytes, more than 1,000,000"):
        image.content()


@pytest.mark.parametrize(("kind", "number"), [(zipfile.ZIP_BZIP2, 12), (zipfile.ZIP_LZMA, 14)])
def test_a_zip_whose_memory_zipfile_does_not_limit_is_refused(tmp_path: Path, kind: int, number: int):
    path = tmp_path / "a.zip"
    path.write_bytes(zip_of(FILES, kind))
    with pytest.raises(ValueError, match=rf"has a compression \(type {number}\) that is not supported; unpack it"):
        open_archive(path)


def test_a_zip_that_understates_its_members_takes_no_more_memory_than_it_states(tmp_path: Path):
    data = zip_of({"a/1.jpg": bytes(200_000_000)})
    (tmp_path / "a.zip").write_bytes(data.replace((200_000_000).to_bytes(4, "little"), (1_000).to_bytes(4, "little")))
    tree = open_archive(tmp_path / "a.zip")
    tracemalloc.start()
    with pytest.raises(BadImage, match=r"a/1\.jpg in .* is damaged: Bad CRC-32"):
        tree.read("a/1.jpg")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_zip_that_understates_its_members_yields_no_more_than_it_states(tmp_path: Path):
    data = bytearray(zip_of({"train/ash/0.jpg": bytes(1_000_000)}))
    stated = (1_000_000).to_bytes(4, "little")
    data = data.replace(stated, (1_000).to_bytes(4, "little"))
    (tmp_path / "bomb.zip").write_bytes(data)
    archive = open_archive(tmp_path / "bomb.zip")
    assert archive
    with pytest.raises(BadImage, match="damaged"):
        archive.read("train/ash/0.jpg")


def test_a_compressed_tar_that_becomes_a_hundred_times_larger_is_refused(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(decompression, "ALWAYS_ALLOWED_BYTES", 1_000_000)
    path = make(tmp_path / "flowers.tar.xz", {"train/ash/0.jpg": bytes(5_000_000)})
    with pytest.raises(ValueError, match=r"decompresses to more than 100 times its size"):
        open_dataset(path)
    assert not list(cache.rglob("*.tar*"))


def test_too_small_a_disk_is_refused(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    usage = type("Usage", (), {"free": 1_000})
    monkeypatch.setattr(decompression.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ValueError, match=r"does not fit, decompressed, on the disk of .*XDG_CACHE_HOME"):
        open_dataset(make(tmp_path / "flowers.tar.gz", FILES))
    assert not list(cache.rglob("*.tar*"))


@pytest.mark.parametrize(("data", "problem"), [
    (b"Rar!\x1a\7\1\0" + bytes(600), "is a RAR archive, which is not supported; unpack it"),
    (b"7z\xbc\xaf\x27\x1c" + bytes(600), "is a 7z archive, which is not supported; unpack it"),
    (b"\x28\xb5\x2f\xfd" + bytes(600), "is compressed with zstd, which is not supported; unpack it")])
def test_archives_that_are_not_read_are_named(tmp_path: Path, data: bytes, problem: str):
    (tmp_path / "flowers.tar").write_bytes(data)
    with pytest.raises(ValueError, match=problem):
        open_dataset(tmp_path / "flowers.tar")


def test_an_archive_of_archives_says_so(tmp_path: Path):
    trees(tmp_path / "x")
    inner = {"train.zip": zip_of(FILES), "test1.zip": zip_of(FILES), "sample_submission.csv": b"id,label\n1,0\n"}
    several = r"holds no images but other archives, such as test1\.zip; name the right one; if each is a class"
    with pytest.raises(ValueError, match=several):
        open_dataset(make(tmp_path / "flowers.zip", inner))
    one = r"such as train\.zip; name that archive, or unpack it"
    with pytest.raises(ValueError, match=one):
        open_dataset(make(tmp_path / "flowers.zip", {"train.zip": zip_of(FILES)}))
