"""CIFAR-10 from its official archive, in the binary version: the Python version is a pickle, which may run code."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime.download import fetch
from alexnet._runtime.progress import Bar
from alexnet.data.dataset import ArrayImage, Dataset
from alexnet.errors import UserError, require

ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # as that page prints it
FILES = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "val": ["test_batch.bin"]}
CLASSES_FILE = "batches.meta.txt"
RECORD_BYTES = 1 + 3 * 32 * 32

_DOWNLOAD_AGAIN = "download it again"


def fetch_cifar10(cache: Path) -> Path:
    """The archive in the cache, downloaded from its official address if it is not there (170 MB)."""
    with Bar(f"fetching {ADDRESS}", "bytes") as bar:
        return fetch(ADDRESS, cache / "cifar-10-binary.tar.gz", f"md5:{MD5}", bar)


def open_cifar10(archive: Path) -> Dataset:
    """50,000 training and 10,000 test images of 32 x 32 pixels in ten classes.

    Raises UserError for the Python and MATLAB versions, and for an archive that is damaged or another one.
    """
    contents = _read_members(archive)
    classes = tuple(contents[CLASSES_FILE].decode().split())
    splits = {split: _read_images(archive, split, b"".join(contents[name] for name in names), classes)
              for split, names in FILES.items()}
    return Dataset("cifar10", classes, splits, "CIFAR-10, binary version",
                   credits="CIFAR-10: A. Krizhevsky, V. Nair, G. Hinton")


def _read_members(archive: Path) -> dict[str, bytes]:
    """The contents of CIFAR-10's files, by name. No other member is read: the archive may be ImageNet's 138 GB."""
    require("python" not in archive.name and "matlab" not in archive.name,
            f"{archive} is the version of pickles or MATLAB files, which are not supported",
            "take cifar-10-binary.tar.gz from the same page")
    wanted = (CLASSES_FILE, *FILES["train"], *FILES["val"])
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:*") as members:
            for member in members:
                name = Path(member.name).name
                if name in wanted and (file := members.extractfile(member)):
                    contents[name] = file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{archive} cannot be read as CIFAR-10's archive: it is damaged, or not a tar file",
                        "name a folder of class folders, or download the archive again") from error
    missing = [name for name in wanted if name not in contents]
    if missing:
        raise UserError(f"{archive} has no {missing[0]}; it is not CIFAR-10's binary version",
                        "of any other archive, name the folder that it unpacks to")
    return contents


def _read_images(archive: Path, split: str, data: bytes, classes: tuple[str, ...]) -> list[ArrayImage]:
    """The images of a split from its records: a label, then 1,024 red, green and blue values."""
    require(len(data) % RECORD_BYTES == 0, f"{archive} is damaged: its {split} records are not whole", _DOWNLOAD_AGAIN)
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD_BYTES)
    labels: NDArray[np.uint8] = records[:, 0]
    if (labels >= len(classes)).any():
        raise UserError(f"{archive} is damaged: it has label {labels.max()} and {len(classes)} classes",
                        _DOWNLOAD_AGAIN)
    pixels_NHWC = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return [ArrayImage(f"{split}/{classes[label]}/{number:05}", int(label), pixels_HWC)
            for number, (label, pixels_HWC) in enumerate(zip(labels, pixels_NHWC, strict=True))]
