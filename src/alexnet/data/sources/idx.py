"""MNIST's idx files (also Fashion-MNIST, KMNIST, EMNIST), gzipped or not: grayscale images that become RGB."""

from __future__ import annotations

import math
import re
import struct

import numpy as np
from numpy.typing import NDArray

from alexnet.data.dataset import ArrayImage, Dataset
from alexnet.data.decompression import read_gzip
from alexnet.data.tree import FileTree
from alexnet.errors import UserError, quoted_bytes, require

_IMAGES = re.compile(r"(?P<stem>.*?)(?P<split>train|t10k|test)-images([-.]idx3)?[-.]ubyte(\.gz)?")
_MAX_BYTES = 4_000_000_000
"""Of a decompressed file. The largest, EMNIST by class, has 550 MB."""


def find_idx(tree: FileTree) -> dict[str, tuple[str, str]]:
    """For each split, `train` or `val`, its files of images and of labels; empty if there are no training files.

    Raises UserError if several data sets lie in one folder, as in EMNIST's archive.
    """
    found: dict[str, tuple[str, str]] = {}
    for file in (file for file in tree.files if "ubyte" in file):  # ImageNet has a million other files
        folder, slash, name = file.rpartition("/")
        if match := _IMAGES.fullmatch(name):
            split = "train" if match["split"] == "train" else "val"
            labels = folder + slash + name.replace("-images", "-labels").replace("idx3", "idx1")
            if split in found and found[split][0].removesuffix(".gz") != file.removesuffix(".gz"):
                raise UserError(f"{tree.source} holds several data sets: {found[split][0]} and {file}",
                                "move the files of each into a folder of its own")
            found[split] = file, labels
    return dict(sorted(found.items())) if "train" in found else {}


def open_idx(tree: FileTree, files: dict[str, tuple[str, str]]) -> Dataset:
    """The images of MNIST-style files. Classes are the numbers that occur as labels.

    Args:
        files: as `find_idx` found them.

    Raises:
        UserError: a file is missing or damaged.
    """
    contents = {split: _read_split(tree, *names) for split, names in files.items()}
    numbers = np.unique(np.concatenate([labels for _, labels in contents.values()]))
    require(len(numbers) >= 2, f"all images of {tree.source} have the same label, and a classifier needs two or more",
            "check that these are the right files")
    splits = {split: [ArrayImage(f"{split}/{label}/{number:06}", int(np.searchsorted(numbers, label)), pixels_HWC)
                      for number, (pixels_HWC, label) in enumerate(zip(images_NHWC, labels.tolist(), strict=True))]
              for split, (images_NHWC, labels) in contents.items()}
    notes = [f"{tree.source} holds {len(numbers)} classes, named by their numbers, as idx files have no class names"]
    if "val" in splits:
        notes.append(f"{files['val'][0]} is the validation set, as there is no other: it chooses the best epoch")
    return Dataset(tree.name, tuple(map(str, numbers.tolist())), splits, tree.source, notes=tuple(notes))


def _read_split(tree: FileTree, images: str, labels: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images uint8 [N, height, width, 3] (a view with stride 0 over the colors), and labels uint8 [N]."""
    images_NHW, labels_N = _read(tree, images, 3), _read(tree, labels, 1)
    require(len(images_NHW) == len(labels_N),
            f"{tree.source} has {len(images_NHW):,} images in {images} and {len(labels_N):,} labels in {labels}",
            "take both files from the same data set")
    if images.rpartition("/")[2].startswith("emnist-"):  # EMNIST stores an image column by column
        images_NHW = images_NHW.transpose(0, 2, 1)
    return np.broadcast_to(images_NHW[..., None], (*images_NHW.shape, 3)), labels_N


def _read(tree: FileTree, file: str, dimensions: int) -> NDArray[np.uint8]:
    """The array in an idx file: two zero bytes, the type (8: uint8), the dimensions, each one's size, the values."""
    other = file.removesuffix(".gz") if file.endswith(".gz") else f"{file}.gz"
    file = next((name for name in (file, other) if name in tree.files), file)
    require(file in tree.files, f"{tree.source} has no {file}", "put it beside the file of images")
    data, name = tree.read(file), f"{file} in {tree.source}"
    if data[:2] == b"\x1f\x8b":
        data = read_gzip(data, name, _MAX_BYTES)
    begin = 4 + 4 * dimensions
    require(len(data) >= begin and data[:4] == bytes((0, 0, 8, dimensions)),
            f"{name} is not an idx file of {'images' if dimensions == 3 else 'labels'}: it begins with "
            f"{quoted_bytes(data[:4])}", "download it again")
    shape = struct.unpack_from(f">{dimensions}I", data, 4)
    require(len(data) == begin + math.prod(shape), f"{name} is damaged: it states the size "
            f"{' x '.join(map(str, shape))} and holds {len(data) - begin:,} values", "download it again")
    return np.frombuffer(data, np.uint8, offset=begin).reshape(shape)
