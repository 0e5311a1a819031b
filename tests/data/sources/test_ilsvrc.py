"""ImageNet's archives are read in place, with the labels of every trained network."""

import io
import os
from pathlib import Path

import numpy as np
import pytest

from alexnet.data.sources.detect import open_dataset
from image_files import jpeg, per_class, tar_of

#: (ILSVRC2012_ID, WNID, words): not in the order of the WNIDs; number 5 is an inner node of the tree.
SYNSETS = [(1, "n02119789", "kit fox, Vulpes macrotis"), (2, "n02012849", "crane"), (3, "n01440764", "tench"),
           (4, "n03126707", "crane"), (5, "n00001740", "entity")]
TRUTH = [3, 1, 4, 2, 1]


@pytest.fixture
def ilsvrc(tmp_path: Path) -> Path:
    """A folder laid out like the download, with four classes and two training images each."""
    scipy_io = pytest.importorskip("scipy.io")
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height",
              "num_train_images")
    synsets = np.zeros((len(SYNSETS), 1), [(field, object) for field in fields])
    for row, (number, wnid, words) in zip(synsets[:, 0], SYNSETS, strict=True):
        children = np.array([1, 2, 3, 4]) if number == 5 else np.empty((0, 0))
        for field, value in zip(fields, (number, wnid, words, "a gloss", children.size, children, 1, 2), strict=True):
            row[field] = value
    meta = io.BytesIO()
    scipy_io.savemat(meta, {"synsets": synsets}, do_compression=True)
    shade = {wnid: 40 * number for number, wnid, _ in SYNSETS}
    (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(tar_of({
        "ILSVRC2012_devkit_t12/readme.txt": b"read me",
        "ILSVRC2012_devkit_t12/data/meta.mat": meta.getvalue(),
        "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": "".join(f"{n}\n" for n in TRUTH).encode(),
    }, "w:gz"))
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(tar_of({
        f"{wnid}.tar": tar_of({
            f"{wnid}_1.JPEG": jpeg(shade[wnid]),
            f"{wnid}_2.JPEG": jpeg(shade[wnid], "PNG") if number == 1 else jpeg(shade[wnid], mode="CMYK")})
        for number, wnid, _ in SYNSETS[:4]}))
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(tar_of({
        f"ILSVRC2012_val_{place:08}.JPEG": jpeg(40 * number) for place, number in enumerate(TRUTH, 1)}))
    return tmp_path


def test_ilsvrc_labels_follow_the_sorted_wordnet_numbers(ilsvrc: Path):
    dataset = open_dataset(ilsvrc)
    assert dataset.wnids == ("n01440764", "n02012849", "n02119789", "n03126707")
    assert dataset.classes == ("tench", "crane (n02012849)", "kit fox", "crane (n03126707)")
    assert per_class(dataset, "train") == [2] * 4
    assert [(image.name, image.label) for image in dataset.splits["val"]][:3] == [
        ("val/ILSVRC2012_val_00000001.JPEG", 0), ("val/ILSVRC2012_val_00000002.JPEG", 2),
        ("val/ILSVRC2012_val_00000003.JPEG", 3)]


def test_ilsvrc_images_are_read_in_place(ilsvrc: Path):
    dataset = open_dataset(ilsvrc)
    number = {wnid: number for number, wnid, _ in SYNSETS}
    for image in (*dataset.splits["train"], *dataset.splits["val"]):
        pixels = image.pixels()
        assert pixels.shape == (10, 12, 3)
        if "_2.JPEG" not in image.name:  # the second files are a PNG and CMYK JPEGs
            assert abs(int(pixels.mean()) - 40 * number[dataset.wnids[image.label]]) <= 1
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
    devkit.write_bytes(devkit.read_bytes()[:200])
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
