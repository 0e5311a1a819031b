"""CIFAR-10 and CIFAR-100 as they are downloaded: the binary and the Python version, as an archive or unpacked.

CIFAR-100's labels are its 100 fine classes. Nothing in the pickles of the Python version is executed (pickles.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime.download import Download, fetch, require_checksum
from alexnet._runtime.progress import Bar
from alexnet.data.dataset import ArrayImage, Dataset
from alexnet.data.sources.pickles import read_pickled_dict
from alexnet.data.tree import FileTree
from alexnet.errors import UserError, require

ADDRESS = "https://www.cs.toronto.edu/~kriz/"
ARCHIVES = {"cifar10": ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
            "cifar100": ("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8")}
"""For each name, the archive at ADDRESS and its MD5, as the page cifar.html there prints it."""

_MOST_BYTES = 200_000_000
"""Of a download: the archives have 170 and 169 million."""

_DOWNLOAD_AGAIN = "download it again"
_PIXEL_BYTES = 3 * 32 * 32


@dataclass(frozen=True)
class Version:
    """One of the four forms of the data."""

    name: str
    title: str
    classes_file: str
    """Which names the classes, and by which the version is recognized."""
    files: Mapping[str, tuple[str, ...]]
    """The files of each split."""
    label_key: str
    """In the pickles of the Python version."""
    label_bytes: int = 0
    """In front of each image of the binary version; the last one is the label. 0: the Python version."""
    classes_key: str = ""


_PYTHON10 = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "val": ("test_batch",)}
_BINARY10 = {split: tuple(f"{name}.bin" for name in names) for split, names in _PYTHON10.items()}

VERSIONS = (
    Version("cifar10", "CIFAR-10, binary version", "batches.meta.txt", _BINARY10, "", label_bytes=1),
    Version("cifar10", "CIFAR-10, Python version", "batches.meta", _PYTHON10, "labels", classes_key="label_names"),
    Version("cifar100", "CIFAR-100, binary version", "fine_label_names.txt",
            {"train": ("train.bin",), "val": ("test.bin",)}, "", label_bytes=2),
    Version("cifar100", "CIFAR-100, Python version", "meta", {"train": ("train",), "val": ("test",)}, "fine_labels",
            classes_key="fine_label_names"),
)


def fetch_cifar(name: str, cache: Path) -> Path:
    """The archive in the cache, downloaded from its official address if it is not there (170 MB).

    Raises:
        UserError: the download fails, or the file has another checksum.
    """
    file, md5 = ARCHIVES[name]
    if (cache / file).is_file():
        require_checksum(cache / file, f"md5:{md5}")
        return cache / file
    with Bar(f"fetching {ADDRESS}{file}", "bytes") as bar:
        return fetch(Download(f"{ADDRESS}{file}", f"md5:{md5}", _MOST_BYTES), cache / file, bar)


def find_cifar(tree: FileTree) -> tuple[Version, str] | None:
    """The version that the files are, and the folder they are in, as a prefix of their paths; None if there is none."""
    versions = {version.classes_file: version for version in VERSIONS}
    for file in tree.files:
        if "meta" not in file and "label" not in file:  # of the million files of ImageNet
            continue
        folder, slash, name = file.rpartition("/")
        require(name != "batches.meta.mat", f"{tree.source} is CIFAR's MATLAB version, which is not supported",
                "take the binary or the Python version from the same page")
        if version := versions.get(name):
            siblings = {f"{folder}{slash}{part}" for parts in version.files.values() for part in parts}
            if not siblings.isdisjoint(tree.files):
                return version, folder + slash
    return None


def open_cifar(tree: FileTree, version: Version, folder: str) -> Dataset:
    """50,000 training and 10,000 test images of 32 x 32 pixels in 10 or 100 classes.

    Args:
        version, folder: as `find_cifar` found them.

    Raises:
        UserError: a file is missing or damaged.
    """
    classes = _class_names(tree, version, folder)
    splits: dict[str, list[ArrayImage]] = {}
    for split, names in version.files.items():
        for name in names:
            require(folder + name in tree.files, f"{tree.source} has no {folder}{name}, which {version.title} has",
                    _DOWNLOAD_AGAIN)
        parts = [_read_file(tree, version, folder + name) for name in names]
        pixels_NHWC, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
            raise UserError(f"{tree.source} is damaged: it has label {labels.max()} and {len(classes)} classes",
                            _DOWNLOAD_AGAIN)
        splits[split] = [ArrayImage(f"{split}/{classes[label]}/{number:05}", int(label), pixels_HWC)
                         for number, (label, pixels_HWC) in enumerate(zip(labels, pixels_NHWC, strict=True))]
    fine = " (its fine labels; the 20 coarse ones are not used)" if version.name == "cifar100" else ""
    notes = (f"{tree.source} holds {version.title}, {len(classes)} classes{fine}",
             "the test images are the validation set, as there is no other: they choose the best epoch")
    return Dataset(version.name, classes, splits, version.title, notes=notes,
                   credits="CIFAR: A. Krizhevsky, V. Nair, G. Hinton")


def _class_names(tree: FileTree, version: Version, folder: str) -> tuple[str, ...]:
    file = folder + version.classes_file
    if version.label_bytes:
        return tuple(tree.read(file).decode("utf-8", "replace").split())
    names = read_pickled_dict(tree.read(file), f"{file} in {tree.source}").get(version.classes_key, b"")
    require(isinstance(names, list), f"{file} in {tree.source} has no {version.classes_key}", _DOWNLOAD_AGAIN)
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names)


def _read_file(tree: FileTree, version: Version, file: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images of a file, uint8 [N, 32, 32, 3], and their labels [N]. An image is stored as three planes."""
    data, name = tree.read(file), f"{file} in {tree.source}"
    if version.label_bytes:
        record_bytes = version.label_bytes + _PIXEL_BYTES
        require(len(data) % record_bytes == 0, f"{name} is damaged: its records are not whole", _DOWNLOAD_AGAIN)
        records = np.frombuffer(data, np.uint8).reshape(-1, record_bytes)
        planes, labels = records[:, version.label_bytes :], records[:, version.label_bytes - 1]
    else:
        batch = read_pickled_dict(data, name)
        planes, labels = batch.get("data", b""), np.asarray(batch.get(version.label_key, ()))
        require(isinstance(planes, np.ndarray) and planes.dtype == np.uint8
                and planes.shape == (len(labels), _PIXEL_BYTES) and labels.dtype.kind in "iu",
                f"{name} does not hold uint8 data and {version.label_key} of the same number of images",
                _DOWNLOAD_AGAIN)
    return planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels.astype(np.int64)
