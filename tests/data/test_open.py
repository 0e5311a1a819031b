"""DATA is packed once into the cache; which of its images evaluation uses."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from alexnet._runtime.locks import file_lock
from alexnet.data.open import open_or_pack
from alexnet.data.packed import PackedDataset
from alexnet.data.sources.detect import open_dataset


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_source_is_packed_once_into_the_cache(class_folders: Path, cache: Path):
    said: list[str] = []
    first, again = (open_or_pack(str(class_folders), 32, say=said.append) for _ in range(2))
    assert first.path == again.path
    assert first.path.is_relative_to(cache)
    assert len([line for line in said if line.startswith("packing")]) == 1


def test_a_finished_pack_in_the_cache_opens_while_it_is_locked(class_folders: Path):
    first = open_or_pack(str(class_folders), 32)
    with file_lock(first.path / "unfinished.lock"):
        assert open_or_pack(str(class_folders), 32).path == first.path


def test_a_process_waits_for_another_that_packs_the_same_images(class_folders: Path, cache: Path):
    """As on hosts that share a cache. The second finds the lock held, and returns what the first has packed."""
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        def hold(line: str) -> None:
            if line.startswith("packing"):
                with file_lock(dest(cache, line) / "unfinished.lock"):
                    second = pool.submit(open_or_pack, str(class_folders), 32, say=said.append, progress=False)
                    while not any("waiting for it" in line for line in said) and not second.done():
                        time.sleep(0.01)
                    assert not second.done(), second.exception()
                waiting.append(second)

        waiting: list[Future[PackedDataset]] = []
        first = open_or_pack(str(class_folders), 32, say=hold, progress=False)
        assert waiting[0].result(timeout=60).path == first.path


def dest(cache: Path, line: str) -> Path:
    """The folder that a note says is packed into."""
    folder = Path(line.partition("into ")[2].rpartition(" (")[0])
    folder.mkdir(parents=True, exist_ok=True)
    assert folder.is_relative_to(cache)
    return folder


def test_a_folder_that_changed_is_packed_anew(class_folders: Path, tmp_path: Path):
    import shutil

    mine = shutil.copytree(class_folders, tmp_path / "mine")
    before = open_or_pack(str(mine), 32)
    (mine / "train" / "ash" / "000.png").unlink()
    after = open_or_pack(str(mine), 32)
    assert len(after.split("train")) == len(before.split("train")) - 1


def test_a_note_says_that_small_images_are_enlarged(class_folders: Path):
    said: list[str] = []
    open_or_pack(str(class_folders), 64, say=said.append)
    assert any("about 32 pixels and are enlarged to 64; --arch cifar" in line for line in said)


def test_a_packed_folder_is_opened_and_its_side_checked(packed):
    assert open_or_pack(str(packed.path), 32).fingerprint == packed.fingerprint
    with pytest.raises(ValueError, match="packed at 32 pixels and 64 are needed"):
        open_or_pack(str(packed.path), 64)


def test_evaluation_uses_the_validation_split_or_all_of_a_folder_without_one(class_folders: Path):
    assert open_or_pack(str(class_folders), 32).test_splits == ("val",)
    whole = open_or_pack(str(class_folders / "val"), 32)  # four class folders, 44 images, of which 4 are held out
    assert {name: len(whole.split(name)) for name in whole.splits} == {"train": 40, "val": 4}
    assert whole.test_splits == ("train", "val")
    joined = whole.split(*whole.test_splits)
    assert sorted(joined.names) == sorted(open_dataset(class_folders / "val", held_out=0.0).splits["train"][k].name
                                          for k in range(44))


def test_which_images_are_held_out_depends_on_no_date_and_on_no_folder_above(class_folders: Path, tmp_path: Path):
    import os
    import shutil

    copy = shutil.copytree(class_folders / "val", tmp_path / "elsewhere" / "renamed", copy_function=shutil.copyfile)
    for number, path in enumerate(sorted(copy.rglob("*.png"), reverse=True)):
        os.utime(path, (number, number))
    there, here = (open_dataset(folder).splits["val"] for folder in (class_folders / "val", copy))
    assert [image.name for image in here] == [image.name for image in there]
    assert [image.content() for image in here] == [image.content() for image in there]
