"""Labels in file names: patterns as people write them, what does not match, and the suggestion in the error."""

from pathlib import Path

import pytest

from alexnet.data.sources.detect import open_dataset
from alexnet.data.sources.patterns import suggest_pattern
from image_files import plant, said


def labels(dataset) -> dict[str, str]:
    return {image.name: dataset.classes[image.label] for split in dataset.splits.values() for image in split}


@pytest.mark.parametrize(("pattern", "files"), [
    ("{label}.{n}.jpg", {"cat.0.jpg": "cat", "cat.12.JPG": "cat", "dog.1.jpg": "dog"}),
    (r"(?P<label>[a-z]+)\.\d+", {"cat.0.jpg": "cat", "cat.1.jpg": "cat", "dog.1.jpg": "dog"}),
    ("{label}_{n}.jpg", {"great_pyrenees_9.jpg": "great_pyrenees", "Bengal_3.jpg": "Bengal", "Bengal_4.jpg": "Bengal"}),
    ("{any}_{label}.png", {"0001_cat.png": "cat", "0002_cat.png": "cat", "a_b_dog.png": "dog"}),
    ("{label} ({n}).jpg", {"cat (1).jpg": "cat", "cat (2).jpg": "cat", "dog (1).jpg": "dog"}),
    ("images/{label}/{any}", {"images/cat/x.jpg": "cat", "images/cat/y.jpg": "cat", "images/dog/a/b.jpg": "dog"})])
def test_the_label_is_the_matched_part_of_the_name(tmp_path: Path, pattern: str, files: dict[str, str]):
    assert labels(open_dataset(plant(tmp_path / "pets", *files), labels=pattern)) == files


def test_images_that_do_not_match_are_counted_and_named(tmp_path: Path):
    folder = plant(tmp_path / "pets", *(f"{name}.{number}.jpg" for name in ("cat", "dog") for number in range(10)),
                   "readme.jpg", "._cat.1.jpg")
    dataset = open_dataset(folder, labels="{label}.{n}.jpg")
    assert "left out: 1 image without a label: readme.jpg" in said(dataset)
    assert "10% of each class (2 images" in dataset.division


def test_split_folders_are_kept(tmp_path: Path):
    folder = plant(tmp_path / "pets", *(f"{split}/{name}.{number}.jpg" for split, count in (("train", 5), ("valid", 2))
                                        for name in ("cat", "dog") for number in range(count)))
    dataset = open_dataset(folder, labels="{label}.{n}.jpg")
    assert {split: len(images) for split, images in dataset.splits.items()} == {"train": 10, "val": 4}
    assert dataset.held_out == 0


@pytest.mark.parametrize(("pattern", "problem"), [
    ("(?P<label>[", r"'\(\?P<label>\[' is not a regular expression"),
    ("cat.*", r"there is no table cat\.\*, on disk or in"),
    ("{label}_{number}.jpg", r"has \{number\}; only \{label\}, \{n\}"), ("{label}{label}", "has {label} twice"),
    ("{label}-{n}.jpg", r"matches none of the 2 images of .*pets, such as cat\.0\.jpg"),
    ("{any}.{n}.jpg", r"there is no table .* or give a pattern of the file names")])
def test_patterns_that_cannot_be_used_are_refused(tmp_path: Path, pattern: str, problem: str):
    folder = plant(tmp_path / "pets", "cat.0.jpg", "dog.1.jpg")
    with pytest.raises(ValueError, match=problem):
        open_dataset(folder, labels=pattern)


@pytest.mark.parametrize(("files", "pattern"), [
    (["cat.0.jpg", "cat.1.jpg", "dog.0.jpg", "dog.1.jpg"], "{label}.{n}.jpg"),
    (["train/cat.0.jpg", "train/cat.1.jpg", "train/dog.0.png", "train/dog.1.jpg"], "{label}.{n}.{any}"),
    (["Abyssinian_1.jpg", "Abyssinian_2.jpg", "great_dane_1.jpg", "great_dane_2.jpg"], "{label}_{n}.jpg"),
    (["cat (1).jpg", "cat (2).jpg", "dog (1).jpg", "dog (2).jpg"], "{label} ({n}).jpg"),
    (["n01440764_1.JPEG", "n01440764_2.JPEG", "n02102040_1.JPEG", "n02102040_2.JPEG"], "{label}_{n}.JPEG"),
    (["20210101_1.jpg", "20210101_2.jpg", "20210102_1.jpg", "20210102_2.jpg"], None),  # dates
    (["train/cat.0.jpg", "train/cat.1.jpg", "train/dog.0.jpg", "train/dog.1.jpg",
      *(f"test1/{number}.jpg" for number in range(9))], "{label}.{n}.jpg"),  # Kaggle's dogs-vs-cats
    (["images/Abyssinian_1.jpg", "images/Abyssinian_2.jpg", "images/pug_1.jpg", "images/pug_2.jpg",
      "annotations/trimaps/Abyssinian_1.png", "annotations/trimaps/pug_1.png"], "images/{label}_{n}.jpg"),  # Oxford's
    (["cat1.jpg", "cat2.jpg", "dog1.jpg", "dog2.jpg"], "{label}{n}.jpg"),
    (["IMG_0001.jpg", "IMG_0002.jpg", "IMG_0003.jpg"], None),  # one label is a camera's prefix
    (["aurora.jpg", "borealis.jpg"], None), (["a1.jpg", "b1.jpg", "c1.jpg"], None), ([], None)])
def test_a_pattern_is_suggested_for_names_with_labels_and_numbers(files: list[str], pattern: str | None):
    assert suggest_pattern(files) == pattern


def test_the_error_for_loose_images_suggests_the_pattern_and_the_suggestion_works(tmp_path: Path):
    folder = plant(tmp_path / "pets", *(f"{name}.{number}.jpg" for name in ("cat", "dog") for number in range(10)))
    with pytest.raises(ValueError, match=r"20 images and no class folders.* --labels '\{label\}\.\{n\}\.jpg'"):
        open_dataset(folder)
    assert open_dataset(folder, labels="{label}.{n}.jpg").classes == ("cat", "dog")
