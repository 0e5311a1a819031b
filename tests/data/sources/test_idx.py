"""MNIST's idx files become RGB images; files that do not fit together are refused by name."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from alexnet.data.sources.detect import open_dataset
from image_files import names, per_class, said, trees

PIXELS = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)  # three images of 2 rows and 4 columns


def images(pixels: np.ndarray) -> bytes:
    return struct.pack(">BBBB3I", 0, 0, 8, 3, *pixels.shape) + pixels.tobytes()


def labels(*values: int) -> bytes:
    return struct.pack(">BBBBI", 0, 0, 8, 1, len(values)) + bytes(values)


def mnist(folder: Path, compress: bool = True, stem: str = "", form: str = "{}-images-idx3-ubyte") -> Path:
    folder.mkdir()
    for split in ("train", "t10k"):
        name = stem + form.format(split)
        for file, data in ((name, images(PIXELS)),
                           (name.replace("images", "labels").replace("idx3", "idx1"), labels(7, 0, 7))):
            path = folder / (f"{file}.gz" if compress else file)
            path.write_bytes(gzip.compress(data) if compress else data)
    return folder


@pytest.mark.parametrize(("compress", "form"), [
    (True, "{}-images-idx3-ubyte"), (False, "{}-images-idx3-ubyte"), (False, "{}-images.idx3-ubyte")])
def test_gray_images_become_rgb_and_the_test_files_the_validation_set(tmp_path: Path, compress: bool, form: str):
    dataset = open_dataset(mnist(tmp_path / "mnist", compress, form=form))
    assert (dataset.name, dataset.classes) == ("mnist", ("0", "7"))
    assert (per_class(dataset, "train"), per_class(dataset, "val")) == ([1, 2], [1, 2])
    image = dataset.splits["train"][1]
    assert (dataset.classes[image.label], image.pixels().shape, image.pixels()[1, 2].tolist()) == (
        "0", (2, 4, 3), [14, 14, 14])  # the second image begins at 8; row 1, column 2 is 8 + 4 + 2
    assert len(set(names(dataset, "train") + names(dataset, "val"))) == 6
    assert list(dataset.splits) == ["train", "val"]
    assert f"{form.format('t10k')}{'.gz' * compress} is the validation set, as there is no other" in said(dataset)


def test_images_of_emnist_are_transposed(tmp_path: Path):
    """EMNIST's readme: each image is stored column by column."""
    dataset = open_dataset(mnist(tmp_path / "letters", stem="emnist-letters-", form="{}-images-idx3-ubyte"))
    pixels = dataset.splits["train"][0].pixels()
    assert (pixels.shape, pixels[:, :, 0].tolist()) == ((4, 2, 3), [[0, 4], [1, 5], [2, 6], [3, 7]])


@pytest.mark.parametrize(("file", "data", "problem"), [
    ("train-labels-idx1-ubyte", labels(1, 2), r"3 images in train-images-idx3-ubyte and 2 labels in train-labels"),
    ("train-labels-idx1-ubyte", b"", r"train-labels-idx1-ubyte in .* is not an idx file of labels"),
    ("train-labels-idx1-ubyte", images(PIXELS), r"not an idx file of labels: it begins with the bytes 00 00 08 03"),
    ("train-images-idx3-ubyte", images(PIXELS)[:-1], r"is damaged: it states the size 3 x 2 x 4 and holds 23 values"),
    ("t10k-images-idx3-ubyte", gzip.compress(images(PIXELS), mtime=0)[:-9], r"t10k-images-idx3-ubyte in .* is damaged"),
    ("train-labels-idx1-ubyte", labels(5, 5, 5), ""),
    ("train-labels-idx1-ubyte", None, r"has no .*train-labels-idx1-ubyte; put it beside the file of images"),
    ("other-train-images-idx3-ubyte", images(PIXELS), r"holds several data sets: .*other-train")])
def test_files_that_do_not_fit_are_refused_by_name(tmp_path: Path, file: str, data: bytes | None, problem: str):
    folder = mnist(tmp_path / "mnist", compress=False)
    if data is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(data)
    if problem:
        with pytest.raises(ValueError, match=problem):
            open_dataset(folder)
    else:
        assert open_dataset(folder).classes == ("0", "5", "7")  # 0 and 7 in the test files


def test_class_folders_beside_idx_files_are_refused_and_chosen_by_the_option(tmp_path: Path):
    inside, below = mnist(tmp_path / "inside"), trees(tmp_path / "below", ("cat", "dog"), 4)
    trees(inside, ("cat", "dog"), 4)
    mnist(below / "raw")
    with pytest.raises(ValueError, match=r"inside holds folders of images, and also train-images-idx3-ubyte\.gz, which "
                       r"holds other .*; add --labels folders for the folders, or move the others into a folder of"):
        open_dataset(inside)
    with pytest.raises(ValueError, match=rf"also raw/train-images-idx3.* or name {below}/raw for the others"):
        open_dataset(below)
    for root in (inside, below):
        assert open_dataset(root, labels="folders").classes == ("cat", "dog")
    with pytest.raises(ValueError, match=r"raw holds its own labels, and --labels folders would have no effect; leave"):
        open_dataset(below / "raw", labels="folders")
