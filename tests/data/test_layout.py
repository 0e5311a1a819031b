"""A folder of images is understood as a user means it: splits, classes, hold-out; what is ignored is noted."""

import os
import tarfile
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from alexnet.data.images import BadImage
from alexnet.data.sources.detect import open_dataset
from image_files import jpeg, names, per_class, plant, said, trees


def test_class_folders_become_sorted_classes_with_readable_images(tmp_path: Path):
    dataset = open_dataset(trees(trees(tmp_path, under="train/"), count=4, under="val/"))
    assert dataset.classes == ("ash", "birch", "cedar")
    assert per_class(dataset, "train") == [20] * 3
    assert per_class(dataset, "val") == [4] * 3
    image = dataset.splits["train"][21]
    assert (image.name, image.label) == ("train/birch/001.jpg", 1)
    assert image.pixels().shape == (10, 12, 3)
    assert dataset.source == str(tmp_path.resolve())
    assert dataset.held_out == 0
    assert dataset.notes == (f"{tmp_path} holds train/: 3 classes (ash 20, birch 20, cedar 20), "
                             "val/: 3 classes (ash 4, birch 4, cedar 4); ignored: nothing",)


def test_names_are_unique_within_a_data_set(tmp_path: Path):
    dataset = open_dataset(trees(trees(tmp_path, under="train/"), under="val/"))
    global_indices = names(dataset, "train") + names(dataset, "val")
    assert len(set(global_indices)) == len(global_indices)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_the_validation_folder_has_one_of_several_names(tmp_path: Path, name: str):
    dataset = open_dataset(trees(trees(tmp_path, under="train/"), count=3, under=f"{name}/"))
    assert {image.split("/")[0] for image in names(dataset, "val")} == {name}
    assert list(dataset.splits) == ["train", "val"]
    assert ("test/ is the validation set" in said(dataset)) == (name == "test")


def test_a_test_folder_beside_a_validation_folder_is_a_split_of_its_own(tmp_path: Path):
    for split, count in (("train", 20), ("val", 3), ("test", 5)):
        trees(tmp_path, count=count, under=f"{split}/")
    dataset = open_dataset(tmp_path)
    assert [per_class(dataset, split) for split in ("train", "val", "test")] == [[20] * 3, [3] * 3, [5] * 3]
    assert "test/: 3 classes (ash 5, birch 5, cedar 5)" in said(dataset)


def test_a_fraction_of_each_class_is_held_out_if_there_is_no_split(tmp_path: Path):
    dataset = open_dataset(trees(tmp_path), held_out=0.2)
    assert (per_class(dataset, "train"), per_class(dataset, "val")) == ([16] * 3, [4] * 3)
    assert not set(names(dataset, "train")) & set(names(dataset, "val"))
    assert dataset.held_out == 0.2
    assert dataset.division == ("there is no validation split: 20% of each class (12 images, chosen by name) is held "
                                "out for validation")
    assert dataset.all_notes == (*dataset.notes, dataset.division)


def test_a_class_of_one_image_is_said_to_be_never_measured(tmp_path: Path):
    trees(tmp_path)
    plant(tmp_path, "oak/1.jpg")
    dataset = open_dataset(tmp_path)
    assert dataset.division.endswith("for validation; nothing of oak, which has one image and so is never measured")
    plant(tmp_path, *(f"{name}/1.jpg" for name in ("alder", "elm", "fir")))
    assert open_dataset(tmp_path).division.endswith(
        "; nothing of alder, elm, fir and 1 more, which have one image each and so are never measured")


def test_train_folder_alone_is_split_too(tmp_path: Path):
    dataset = open_dataset(trees(tmp_path, under="train/"))
    assert per_class(dataset, "val") == [2] * 3


def test_held_out_images_stay_the_same_when_classes_are_added(tmp_path: Path):
    before = set(names(open_dataset(trees(tmp_path)), "val"))
    after = set(names(open_dataset(trees(tmp_path, ("alder", "zelkova"))), "val"))
    assert before < after


def test_another_seed_holds_out_other_images(tmp_path: Path):
    trees(tmp_path)
    first, again, other = (names(open_dataset(tmp_path, seed=seed), "val") for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("held_out", [0.01, 0.5, 0.99])
def test_hold_out_leaves_a_training_image_and_takes_one_of_two(tmp_path: Path, held_out: float):
    dataset = open_dataset(plant(tmp_path, "one/a.jpg", "two/a.jpg", "two/b.jpg"), held_out=held_out)
    assert (per_class(dataset, "train"), per_class(dataset, "val")) == ([1, 1], [0, 1])


def test_nothing_is_held_out_for_a_fraction_of_zero(tmp_path: Path):
    dataset = open_dataset(trees(tmp_path), held_out=0.0)
    assert (per_class(dataset, "train"), per_class(dataset, "val")) == ([20] * 3, [0] * 3)


@pytest.mark.parametrize("held_out", [-0.1, 1.0])
def test_an_impossible_fraction_is_refused(tmp_path: Path, held_out: float):
    with pytest.raises(ValueError, match=f"the fraction to hold out, {held_out:g}, must be at least 0 and below 1"):
        open_dataset(trees(tmp_path), held_out=held_out)


def test_hidden_folders_and_resource_forks_are_ignored_and_noted(tmp_path: Path):
    plant(trees(tmp_path), ".ipynb_checkpoints/a.jpg", "__MACOSX/ash/._a.jpg", "ash/.ipynb_checkpoints/b.jpg")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("ash", "birch", "cedar")
    for folder in (".ipynb_checkpoints/", "__MACOSX/", "ash/.ipynb_checkpoints/"):
        assert f"{folder} (hidden or system folder)" in said(dataset)
    assert not [name for name in names(dataset, "train") if "/." in name]


def test_files_that_are_not_images_are_counted(tmp_path: Path):
    trees(tmp_path)
    for name in ("readme.txt", "ash/notes.txt", "ash/labels.csv", "birch/.DS_Store"):
        (tmp_path / name).write_text("not an image")
    dataset = open_dataset(tmp_path)
    assert "./ (.txt, 2 files), ash/labels.csv, birch/.DS_Store" in said(dataset)
    assert sum(map(len, dataset.splits.values())) == 60


def test_an_image_beside_the_class_folders_is_noted(tmp_path: Path):
    assert "./ (images beside the class folders, 1 file)" in said(open_dataset(plant(trees(tmp_path), "stray.jpg")))


def test_an_empty_class_is_left_out_and_named(tmp_path: Path):
    dataset = open_dataset(plant(trees(tmp_path), "fir/"))
    assert dataset.classes == ("ash", "birch", "cedar")
    assert "fir/ (no images)" in said(dataset)


def test_folders_within_a_class_belong_to_it(tmp_path: Path):
    dataset = open_dataset(plant(trees(tmp_path, count=1), "ash/2024/may/deep.JPEG"), held_out=0)
    assert "ash/2024/may/deep.JPEG" in names(dataset, "train")
    assert per_class(dataset, "train") == [2, 1, 1]


def test_a_loop_of_links_is_followed_once(tmp_path: Path):
    trees(tmp_path, count=2)
    (tmp_path / "ash" / "again").symlink_to(tmp_path / "ash", target_is_directory=True)
    (tmp_path / "birch" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert open_dataset(tmp_path, held_out=0).classes == ("ash", "birch", "cedar")


def test_linked_class_folders_count(tmp_path: Path):
    elsewhere = trees(tmp_path / "elsewhere", ("ash", "birch"))
    (tmp_path / "chosen").mkdir()
    for name in ("ash", "birch"):
        (tmp_path / "chosen" / name).symlink_to(elsewhere / name, target_is_directory=True)
    assert per_class(open_dataset(tmp_path / "chosen", held_out=0), "train") == [20, 20]


def test_validation_class_that_training_lacks_is_refused(tmp_path: Path):
    trees(trees(tmp_path, under="train/"), ("ash", "cedars"), 2, under="val/")
    with pytest.raises(ValueError, match=r"val has class 'cedars' and .*train has not \(did you mean cedar\?\)"):
        open_dataset(tmp_path)


def test_a_class_without_validation_images_shifts_no_label(tmp_path: Path):
    trees(trees(tmp_path, under="train/"), ("ash", "cedar"), 2, under="val/")
    assert per_class(open_dataset(tmp_path), "val") == [2, 0, 2]


def test_a_single_folder_around_the_classes_is_gone_through(tmp_path: Path):
    dataset = open_dataset(trees(tmp_path, under="archive/photos/"))
    assert dataset.classes == ("ash", "birch", "cedar")
    assert "holds archive/photos/: 3 classes" in said(dataset)


def test_two_levels_of_folders_with_images_of_their_own_are_refused_with_the_right_level(tmp_path: Path):
    plant(trees(tmp_path, under="photos/"), "photos/stray.jpg")
    with pytest.raises(ValueError, match=rf"did you mean {tmp_path}/photos\?"):
        open_dataset(tmp_path)


def test_one_level_too_low_is_refused_with_the_right_level(tmp_path: Path):
    trees(tmp_path)
    with pytest.raises(ValueError, match=rf"did you mean {tmp_path}\?"):
        open_dataset(tmp_path / "ash")


def test_one_class_of_imagenets_validation_images_is_refused_with_the_right_level(tmp_path: Path):
    plant(tmp_path, *(f"{wnid}/ILSVRC2012_val_0000000{number}.JPEG" for wnid in ("n01440764", "n02102040")
                      for number in range(3)))
    with pytest.raises(ValueError, match=rf"one class among several in .*did you mean {tmp_path}\?"):
        open_dataset(tmp_path / "n01440764")


def test_images_without_class_folders_are_refused(tmp_path: Path):
    plant(tmp_path / "loose", *(f"{number}.jpg" for number in range(7)))
    with pytest.raises(ValueError, match="holds 7 images and no class folders; put the images of each cl"
                       f".*; to classify the images: alexnet predict RUN {tmp_path}/loose$"):
        open_dataset(tmp_path / "loose")


def test_images_beside_a_data_set_are_not_taken_for_one_of_its_classes(tmp_path: Path):
    trees(tmp_path, under="photos/")
    plant(tmp_path, *(f"{folder}/{number}.jpg" for folder in ("new", "newer") for number in range(7)))
    with pytest.raises(ValueError, match="holds 7 images and no class folders"):
        open_dataset(tmp_path / "new")


def test_one_class_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="one class, 'ash', and a classifier needs two or more"):
        open_dataset(trees(tmp_path, ("ash",)))


def test_empty_folder_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no class folders with images"):
        open_dataset(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path):
    assert open_dataset(trees(tmp_path, ("car", "plane", "train"))).classes == ("car", "plane", "train")


def test_validation_images_without_class_folders_are_refused(tmp_path: Path):
    plant(trees(tmp_path, under="train/"), "val/1.jpg", "val/2.jpg")
    with pytest.raises(ValueError, match="val has no class folders with images; sort its images into"):
        open_dataset(tmp_path)


def test_unlabeled_test_images_are_not_used(tmp_path: Path):
    dataset = open_dataset(plant(trees(tmp_path, under="train/"), "test/1.jpg", "test/2.jpg"))
    assert per_class(dataset, "val") == [2] * 3
    assert "test/ (no class folders, so no labels, 2 files)" in said(dataset)


def test_a_million_images_are_cheap_to_hold(tmp_path: Path):
    trees(tmp_path, count=0)
    for name in ("n01440764", "n02012849"):
        (tmp_path / name).mkdir()
        for number in range(1_000):
            (tmp_path / name / f"{name}_{number}.JPEG").touch()
    tracemalloc.start()
    try:
        dataset = open_dataset(tmp_path)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / sum(map(len, dataset.splits.values())) < 250


def test_wordnet_folders_get_readable_names(tmp_path: Path):
    trees(tmp_path, ("n01440764", "n02012849", "n03126707"), count=2, under="train/")
    (tmp_path / "LOC_synset_mapping.txt").write_text(
        "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\n")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("tench", "crane (n02012849)", "crane (n03126707)")
    assert dataset.wnids == ("n01440764", "n02012849", "n03126707")


@pytest.mark.parametrize("place", ["", "photos/"])
def test_a_list_of_names_that_is_not_utf_8_is_read_as_latin_1(tmp_path: Path, place: str):
    root = plant(tmp_path / "photos", "n09999991/0.jpg", "n09999992/1.jpg")
    (tmp_path / place / "synset_words.txt").write_bytes(b"n09999991 caf\xe9, bar\nn09999992 tea\n")
    assert open_dataset(root).classes == ("caf\u00e9", "tea")


def test_broken_image_is_named_when_it_is_read(tmp_path: Path):
    (plant(tmp_path, "ash/a.jpg", "birch/b.jpg") / "ash" / "a.jpg").write_bytes(b"<html>")
    image = open_dataset(tmp_path, held_out=0).splits["train"][0]
    with pytest.raises(BadImage, match=r"ash/a\.jpg cannot be decoded"):
        image.pixels()


def test_file_names_outside_utf_8_are_read(tmp_path: Path):
    plant(tmp_path, "ash/a.jpg", "birch/b.jpg")
    os.rename(tmp_path / "ash" / "a.jpg", os.fsencode(tmp_path) + b"/ash/caf\xe9.jpg")  # noqa: PTH104
    dataset = open_dataset(tmp_path, held_out=0)
    assert dataset.splits["train"][0].pixels().shape == (10, 12, 3)
    assert dataset.fingerprint()


@pytest.mark.parametrize("change", ["add", "remove", "rename", "rewrite", "move to another class"])
def test_the_fingerprint_changes_with_the_files(tmp_path: Path, change: str):
    before = open_dataset(trees(tmp_path, count=3)).fingerprint()
    assert open_dataset(tmp_path).fingerprint() == before
    image = tmp_path / "ash" / "001.jpg"
    if change == "add":
        plant(tmp_path, "ash/new.jpg")
    elif change == "remove":
        image.unlink()
    elif change == "rename":
        image.rename(image.with_name("other.jpg"))
    elif change == "rewrite":
        image.write_bytes(jpeg(200) + b"longer")
    else:
        image.rename(tmp_path / "birch" / "new.jpg")
    assert open_dataset(tmp_path).fingerprint() != before


def test_class_folders_of_real_images_open(tmp_path: Path, images: Path):
    with tarfile.open(images / "imagenette.tar") as tar:
        members = (member for member in tar if member.isfile())
        chosen: Counter[str] = Counter()
        for member in members:
            folder = str(Path(member.name).parent)
            chosen[folder] += 1
            if chosen[folder] <= 3:
                tar.extract(member, tmp_path, filter="data")
            elif len(chosen) >= 4:
                break
    root = next(tmp_path.iterdir())
    dataset = open_dataset(root) if (root / "train").is_dir() else open_dataset(root / next(os.scandir(root)).name)
    assert len(dataset.classes) >= 2
    assert all(image.pixels().shape == (224, 224, 3) for split in dataset.splits.values() for image in split)
