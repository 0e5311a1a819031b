"""What DATA may name, and how the refusal of anything else helps."""

import os
from pathlib import Path

import pytest

from alexnet.data.sources.detect import NAMES, open_dataset
from image_files import plant, trees


def test_the_named_data_sets_are_cifar10_cifar100_and_embedded():
    assert NAMES == ("cifar10", "cifar100", "embedded")


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


# --- The remedy -------------------------------------------------------------------------------------------------------


def numbered(root: Path, *folders: str) -> Path:
    """Images with names such as cat_0.jpg and dog_0.jpg in each folder, numbered on from folder to folder."""
    return plant(root, *(f"{folder}/{name}_{4 * index + number}.jpg" for index, folder in enumerate(folders)
                         for name in ("cat", "dog") for number in range(4)))


@pytest.mark.parametrize(("folders", "remedy"), [
    ([f"{name}/{split}/{label}" for name in ("ds1", "ds2") for split in ("train", "val") for label in "xy"],
     r"did you mean \S*/ds1\?$"),
    (["train/x", "train/y", "train2/x", "train2/y"], r"several training folders: train/, train2/; merge them, or move"),
    (["train/x", "train/y", "val/x", "val/y", "val/z"], r"; classes must have the same names in both$")])
def test_numbered_names_in_class_folders_do_not_change_the_remedy(tmp_path: Path, folders: list[str], remedy: str):
    with pytest.raises(ValueError, match=remedy) as error:
        open_dataset(numbered(tmp_path / "x", *folders))
    assert "--labels '" not in str(error.value)


def test_masks_of_the_same_names_are_not_suggested(tmp_path: Path):
    """Oxford-IIIT Pet has images/ and annotations/trimaps/."""
    root = numbered(numbered(tmp_path / "pets", "annotations/trimaps"), "images")
    with pytest.raises(ValueError, match=r"pets/images\?.* or if the labels are in the file names, add --labels "
                       r"'images/\{label\}_\{n\}\.jpg'"):
        open_dataset(root)
    dataset = open_dataset(root, labels="images/{label}_{n}.jpg")
    assert {image.name.split("/")[0] for split in dataset.splits.values() for image in split} == {"images"}


def test_a_table_that_does_not_label_the_images_does_not_replace_the_remedy(tmp_path: Path):
    root = plant(tmp_path / "x", *(f"{name}/{split}/{label}/{letter}.jpg" for name in ("ds1", "ds2")
                                   for split in ("train", "val") for label in "xy" for letter in "pq"))
    (root / "results.csv").write_text("epoch,loss\n1,0.5\n")
    with pytest.raises(ValueError, match=r"did you mean \S*/ds1\? or for the table: give paths relative to the data"):
        open_dataset(root)
