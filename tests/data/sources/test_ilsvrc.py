"""ImageNet's archives are read in place, with the labels of every trained network."""

import os
from pathlib import Path

import pytest

from alexnet.data.imagenet_classes import WNID_OF_ILSVRC_ID, WNIDS
from alexnet.data.sources import ilsvrc as ilsvrc_module
from alexnet.data.sources.detect import open_dataset
from image_files import jpeg, per_class, tar_of

KIT_FOX, BIRD, TENCH, MACHINE = "n02119789", "n02012849", "n01440764", "n03126707"
SHADES = {KIT_FOX: 40, BIRD: 80, TENCH: 120, MACHINE: 160}
NUMBERS = {KIT_FOX: 1, BIRD: 429, TENCH: 449, MACHINE: 545}
"""ILSVRC2012_ID of the devkit's meta.mat. They are not in the order of the WordNet IDs."""
TRUTH = [TENCH, KIT_FOX, MACHINE, BIRD, KIT_FOX]


@pytest.fixture
def ilsvrc(tmp_path: Path) -> Path:
    """A folder laid out like the download, with two training images of each of four classes."""
    (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(tar_of({
        "ILSVRC2012_devkit_t12/readme.txt": b"read me",
        "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": "".join(
            f"{NUMBERS[wnid]}\n" for wnid in TRUTH).encode(),
    }, "w:gz"))
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(tar_of({
        f"{wnid}.tar": tar_of({
            f"{wnid}_1.JPEG": jpeg(shade),
            f"{wnid}_2.JPEG": jpeg(shade, "PNG") if wnid == KIT_FOX else jpeg(shade, mode="CMYK")})
        for wnid, shade in SHADES.items()}))
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(tar_of({
        f"ILSVRC2012_val_{place:08}.JPEG": jpeg(SHADES[wnid]) for place, wnid in enumerate(TRUTH, 1)}))
    return tmp_path


def test_ilsvrc_labels_follow_the_sorted_wordnet_numbers(ilsvrc: Path):
    """0, 134, 278 and 517 are the classes of every trained network: the lines of Caffe's synset_words.txt."""
    dataset = open_dataset(ilsvrc)
    assert len(dataset.classes) == 1000
    labels = {0: "tench", 134: "crane (n02012849)", 278: "kit fox", 517: "crane (n03126707)"}
    assert {label: dataset.classes[label] for label in labels} == labels
    assert dataset.wnids
    assert [dataset.wnids[label] for label in labels] == [TENCH, BIRD, KIT_FOX, MACHINE]
    counts = per_class(dataset, "train")
    assert {label: count for label, count in enumerate(counts) if count} == dict.fromkeys(labels, 2)
    assert [(image.name, image.label) for image in dataset.splits["val"]] == [
        ("val/ILSVRC2012_val_00000001.JPEG", 0), ("val/ILSVRC2012_val_00000002.JPEG", 278),
        ("val/ILSVRC2012_val_00000003.JPEG", 517), ("val/ILSVRC2012_val_00000004.JPEG", 134),
        ("val/ILSVRC2012_val_00000005.JPEG", 278)]


def test_the_first_validation_images_have_the_published_labels():
    """The first lines of the devkit's ground truth, and of TensorFlow's imagenet_2012_validation_synset_labels.txt."""
    truth = b"490\n361\n171\n822\n297\n482\n13\n704\n599\n164\n"
    assert ilsvrc_module.read_truth(truth, "the devkit") == [
        "n01751748", "n09193705", "n02105855", "n04263257", "n03125729", "n01735189", "n02346627", "n02776631",
        "n03794056", "n02328150"]


def test_every_class_has_one_number_of_the_devkit():
    assert sorted(WNID_OF_ILSVRC_ID) == list(range(1, 1001))
    assert sorted(WNID_OF_ILSVRC_ID.values()) == list(WNIDS)
    ends = {1: "n02119789", 2: "n02100735", 3: "n02110185", 999: "n07831146", 1000: "n03255030"}
    assert {number: WNID_OF_ILSVRC_ID[number] for number in ends} == ends


@pytest.mark.parametrize("number", ["0", "1001", "x"])
def test_a_label_beyond_the_1000_classes_is_named(number: str):
    with pytest.raises(ValueError, match=f"gives a validation image class {number}, which is not a number from 1 to"):
        ilsvrc_module.read_truth(f"1\n{number}\n".encode(), "the devkit")


def test_ilsvrc_images_are_read_in_place(ilsvrc: Path):
    dataset = open_dataset(ilsvrc)
    for image in (*dataset.splits["train"], *dataset.splits["val"]):
        pixels = image.pixels()
        assert pixels.shape == (10, 12, 3)
        if "_2.JPEG" not in image.name:  # the second files are a PNG and CMYK JPEGs
            assert abs(int(pixels.mean()) - SHADES[dataset.wnids[image.label]]) <= 1
    assert {path.name for path in ilsvrc.iterdir()} == {
        "ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"}


@pytest.mark.parametrize("name", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"])
def test_a_truncated_ilsvrc_archive_is_named(ilsvrc: Path, name: str):
    archive = ilsvrc / name
    archive.write_bytes(archive.read_bytes()[:3_000])
    with pytest.raises(ValueError, match=rf"{name} cannot be read"):
        open_dataset(ilsvrc)


@pytest.mark.parametrize("name", ["ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_img_val.tar"])
def test_a_missing_ilsvrc_archive_is_named(ilsvrc: Path, name: str):
    (ilsvrc / name).unlink()
    with pytest.raises(ValueError, match=f"has no {name}"):
        open_dataset(ilsvrc)


def test_a_damaged_ilsvrc_devkit_is_named(ilsvrc: Path):
    devkit = ilsvrc / "ILSVRC2012_devkit_t12.tar.gz"
    content = devkit.read_bytes()
    devkit.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"devkit_t12\.tar\.gz cannot be read"):
        open_dataset(ilsvrc)


def test_an_ilsvrc_validation_archive_of_another_count_is_refused(ilsvrc: Path):
    (ilsvrc / "ILSVRC2012_img_val.tar").write_bytes(tar_of({"ILSVRC2012_val_00000001.JPEG": jpeg()}))
    with pytest.raises(ValueError, match="holds 1 images and the devkit labels 5"):
        open_dataset(ilsvrc)


def test_the_ilsvrc_fingerprint_changes_with_the_archive(ilsvrc: Path):
    before = open_dataset(ilsvrc).fingerprint()
    assert open_dataset(ilsvrc).fingerprint() == before
    os.utime(ilsvrc / "ILSVRC2012_img_train.tar", (0, 0))
    assert open_dataset(ilsvrc).fingerprint() != before
