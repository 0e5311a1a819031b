"""Labels and splits in forms that are not read are named, with what to do."""

from pathlib import Path

import pytest

from alexnet.data.sources.detect import open_dataset
from alexnet.errors import UserError
from image_files import plant, said, trees


def touch(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


@pytest.mark.parametrize(("images", "others", "remedy"), [
    (["jpg/image_1.jpg", "jpg/image_2.jpg"], ["imagelabels.mat", "setid.mat"],  # Oxford flowers
     "or if imagelabels.mat holds the labels, write its labels into a CSV table of file_name and label"),
    (["images/1.jpg", "images/2.jpg"], ["Labels.xlsx"], "or if Labels.xlsx holds the labels, write its labels into a "
     "CSV table of file_name and label, and name that with --labels; a .xlsx file is not read"),
    (["images/1.jpg", "images/2.jpg"], ["image_labels.json"], "or if image_labels.json holds the labels, write its"),
    (["train2017/1.jpg", "val2017/2.jpg"], ["annotations/instances_train2017.json"],  # COCO
     "or if annotations/instances_train2017.json marks the objects in the images: a classifier needs one label"),
    (["train/images/a.jpg", "valid/images/b.jpg"], ["train/labels/a.txt", "data.yaml"], "or if data.yaml marks the"),
    (["images/train/a.jpg", "images/val/b.jpg"], ["labels/train/a.txt"], "or if labels/train/a.txt marks the objects"),
    (["JPEGImages/a.jpg", "JPEGImages/b.jpg"], ["Annotations/a.xml"], "or if Annotations/a.xml marks the objects"),
    (["images/a.jpg", "images/b.jpg"], ["train.txt", "val.txt"],
     "or if train.txt lists images with their labels, add --labels train.txt"),
])
def test_the_error_for_loose_images_names_what_may_label_them(tmp_path: Path, images, others, remedy):
    root = touch(plant(tmp_path / "x", *images), *others)
    with pytest.raises(UserError) as error:
        open_dataset(root)
    assert remedy in str(error.value)


@pytest.mark.parametrize("lists", [
    ("meta/test.txt", "meta/train.txt"),  # Food-101
    ("TestImages.txt", "TrainImages.txt"),  # MIT indoor scenes
    ("train_test_split.txt",),  # CUB-200
    ("lists/test_list.mat", "lists/train_list.mat"),  # Stanford dogs
    ("labels/test1.txt", "labels/train1.txt", "labels/val1.txt"),  # Describable textures
    ("test.json",), ("annotations/trainval.txt",), ("splits.json",),
])
def test_lists_of_a_split_that_is_not_used_are_named(tmp_path: Path, lists):
    root = touch(trees(tmp_path / "x", ("ash", "birch"), 5, under="images/"), *lists)
    are = "are" if len(lists) > 1 else "is"
    assert (f"{', '.join(lists)} may state which images are for testing, and {are} not used, so the error is not that "
            "of this split") in said(open_dataset(root))


def test_other_lists_and_data_with_a_split_have_no_such_note(tmp_path: Path):
    root = touch(trees(tmp_path / "x", ("ash", "birch"), 5), "classes.txt", "readme.txt", "labels.txt", "latest.txt")
    assert "may state" not in said(open_dataset(root))
    root = touch(plant(tmp_path / "y", *(f"{split}/{name}/{split}.jpg" for split in ("train", "val") for name in "ab")),
                 "train.txt", "val.txt")
    assert "may state" not in said(open_dataset(root))


def test_a_list_of_files_and_labels_is_read_on_request(tmp_path: Path):
    root = plant(tmp_path / "x", *(f"images/{name}{number}.jpg" for name in "ab" for number in range(4)))
    (root / "train.txt").write_text("".join(f"images/{name}{number}.jpg {label}\n" for label, name in enumerate("ab")
                                            for number in range(4)))
    dataset = open_dataset(root, labels="train.txt")
    assert dataset.classes == ("0", "1")
    assert {image.name[7]: image.label for image in dataset.splits["train"]} == {"a": 0, "b": 1}
