"""What DATA may name, and how the refusal of anything else helps."""

import os
from pathlib import Path

import pytest

from alexnet.data.sources.detect import NAMES, open_dataset
from image_files import plant, trees


def test_the_named_data_sets_are_cifar10_and_embedded():
    assert NAMES == ("cifar10", "embedded")


def test_a_missing_path_is_refused_with_the_nearest_name(tmp_path: Path):
    trees(tmp_path / "flowers")
    with pytest.raises(ValueError, match=rf"there is no .*flower; did you mean {tmp_path}/flowers\?"):
        open_dataset(tmp_path / "flower")
    with pytest.raises(ValueError, match=r"there is no .*zoo; name a folder with a folder of images for each"):
        open_dataset(tmp_path / "zoo")
    with pytest.raises(ValueError, match=r"there is no cifar-10; did you mean cifar10\?"):
        open_dataset("cifar-10")


def test_an_image_a_run_and_a_checkpoint_are_refused_as_data(tmp_path: Path):
    plant(tmp_path, "photo.jpg", "run/log.jsonl", "model/checkpoint.json")
    with pytest.raises(ValueError, match=r"photo\.jpg is one image; name the data, a folder with"):
        open_dataset(tmp_path / "photo.jpg")
    for name in ("run", "model"):
        with pytest.raises(ValueError, match=rf"{name} is a run or a checkpoint, not images; name the data"):
            open_dataset(tmp_path / name)


def test_a_path_that_exists_is_never_suggested_for_itself(tmp_path: Path):
    (tmp_path / "photos").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"photos is a link to nowhere, which does not exist; name the folder itself"):
        open_dataset(tmp_path / "photos")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"pipe is neither a file nor a folder"):
        open_dataset(tmp_path / "pipe")
    trees(tmp_path / "cafe\u0301")
    with pytest.raises(ValueError, match=r"but a folder whose name is the same text in another Unicode form"):
        open_dataset(tmp_path / "caf\u00e9")


def test_a_folder_whose_parent_cannot_be_listed_is_refused_in_one_sentence(tmp_path: Path, monkeypatch):
    plant(tmp_path / "loose", "1.jpg")

    def refuse(path):
        raise PermissionError(f"Permission denied: {path}")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ValueError, match=r"there is no .*absent; name a folder"):
        open_dataset(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"loose holds 1 image and no class folders"):
        open_dataset(tmp_path / "loose")
