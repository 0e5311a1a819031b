"""CIFAR-10 from its official archive, the binary version, in which there is no pickle to trust."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path

import numpy as np

from alexnet._runtime.download import fetch
from alexnet._runtime.progress import Bar
from alexnet.data.dataset import ArrayImage, Dataset

ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # as that page prints it
FILES = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "val": ["test_batch.bin"]}
RECORD_BYTES = 1 + 3 * 32 * 32


def fetch_cifar10(cache: Path) -> Path:
    """The archive in the cache, from its official address if it is not there yet (170 MB)."""
    with Bar(f"fetching {ADDRESS}", "bytes") as bar:
        return fetch(ADDRESS, cache / "cifar-10-binary.tar.gz", f"md5:{MD5}", bar)


def open_cifar10(archive: Path) -> Dataset:
    """50,000 training and 10,000 test images of 32x32 pixels in ten classes.

    Raises ValueError for the Python version (pickles), or where the archive is not whole.
    """
    if "python" in archive.name or "matlab" in archive.name:
        raise ValueError(f"{archive} is the version of pickles or MATLAB files, which are not read; take "
                         "cifar-10-binary.tar.gz from the same page")
    contents: dict[str, bytes] = {}
    wanted = ("batches.meta.txt", *FILES["train"], *FILES["val"])  # and no more: it may be ImageNet's 138 GB
    try:
        with tarfile.open(archive, "r:*") as members:
            for member in members:
                name = Path(member.name).name
                if name in wanted and (file := members.extractfile(member)):
                    contents[name] = file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        reason = str(error).partition(":")[0]  # the rest is every compression's own complaint
        raise ValueError(f"{archive} cannot be read as CIFAR-10's archive ({reason}); name a folder of classes, or "
                         "download the archive again") from error
    missing = [name for name in wanted if name not in contents]
    if missing:
        raise ValueError(f"{archive} has no {missing[0]}; it is not CIFAR-10's binary version; of any other "
                         "archive, name the folder that it unpacks to")
    classes = tuple(contents["batches.meta.txt"].decode().split())
    splits = {}
    for split, names in FILES.items():
        data = b"".join(contents[name] for name in names)
        if len(data) % RECORD_BYTES:
            raise ValueError(f"{archive} is damaged: its {split} records are not whole; download it again")
        # A record is its label, then 1,024 red, green and blue values.
        records = np.frombuffer(data, np.uint8).reshape(-1, RECORD_BYTES)
        if (records[:, 0] >= len(classes)).any():
            raise ValueError(f"{archive} is damaged: it has label {records[:, 0].max()} and {len(classes)} classes; "
                             "download it again")
        pixels_NHWC = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        splits[split] = [ArrayImage(f"{split}/{classes[label]}/{number:05}", int(label), pixels_HWC)
                         for number, (label, pixels_HWC) in enumerate(zip(records[:, 0], pixels_NHWC, strict=True))]
    return Dataset("cifar10", classes, splits, "CIFAR-10, binary version",
                   credits="CIFAR-10: A. Krizhevsky, V. Nair, G. Hinton")
