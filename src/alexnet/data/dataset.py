"""What a data set is made of: images that know their class and how to become pixels, and the set of them."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from alexnet.data import images


class SourceImage(Protocol):
    """An image that is cheap to hold, a million at a time, and reads itself when asked."""

    @property
    def name(self) -> str:
        """Unique within its data set, such as `train/tench/n01440764_1.JPEG`."""

    @property
    def label(self) -> int:
        """The class's place in `Dataset.classes`."""

    def pixels(self) -> NDArray[np.uint8]:
        """uint8 [height, width, 3], RGB. Raises images.BadImage where it is broken."""

    def stamp(self) -> str:
        """Changes when the contents do, and is quick to tell."""


@dataclass(frozen=True, slots=True)
class FileImage:
    """A file of its own, at `name` under `root`: no path is kept for each, which would take four times the memory."""

    name: str
    label: int
    root: Path

    @property
    def path(self) -> Path:
        return self.root / self.name

    def pixels(self) -> NDArray[np.uint8]:
        return images.read(self.path)

    def stamp(self) -> str:
        return _stamp(self.path)


@dataclass(frozen=True, slots=True)
class TarImage:
    """Bytes somewhere in an archive, read in place: ImageNet's tar of tars needs no unpacking."""

    name: str
    label: int
    path: Path
    offset: int
    length: int

    def pixels(self) -> NDArray[np.uint8]:
        with self.path.open("rb") as archive:
            archive.seek(self.offset)
            data = archive.read(self.length)
        if len(data) < self.length:
            raise images.BadImage(f"{self.name} is cut off: {self.path} ends {self.length - len(data)} bytes too soon")
        return images.decode(data, self.name)

    def stamp(self) -> str:
        return f"{_stamp(self.path)}:{self.offset}:{self.length}"


@dataclass(frozen=True, slots=True, eq=False)
class ArrayImage:
    """Pixels that are in memory already: CIFAR-10, the embedded patches."""

    name: str
    label: int
    pixels_HWC: NDArray[np.uint8]

    def pixels(self) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self.pixels_HWC)

    def stamp(self) -> str:
        return f"{zlib.crc32(np.ascontiguousarray(self.pixels_HWC).data):08x}"


def _stamp(path: Path) -> str:
    status = os.stat(path)  # noqa: PTH116  # a million times: half the time of Path.stat
    return f"{status.st_size}:{status.st_mtime_ns}"


@dataclass(frozen=True)
class Dataset:
    """Images in splits, and what their labels mean."""

    name: str
    classes: tuple[str, ...]
    """Readable names, all different; a label is a place in it."""
    splits: Mapping[str, Sequence[SourceImage]]
    """`train`, and `val` where there are images to validate on."""
    source: str
    """Where they come from, in words or as a path."""
    wnids: tuple[str, ...] | None = None
    """WordNet's numbers of the classes, where the source goes by them."""
    notes: tuple[str, ...] = ()
    """What a user should know: folders passed over, images held out."""
    credits: str = ""
    held_out: float = 0.0
    """The share of each class that was held out as `val`, where the source has no split of its own."""

    def fingerprint(self) -> str:
        """Tells this data set from any other, and from itself after a change: a hash of names, labels and stamps."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for split, photos in sorted(self.splits.items()):
            for photo in photos:
                line = f"{split}\0{photo.name}\0{photo.label}\0{photo.stamp()}\n"
                digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def distinct(names: Sequence[str], wnids: Sequence[str]) -> tuple[str, ...]:
    """Readable names made distinct by their numbers where two are alike, as ImageNet's two cranes are."""
    return tuple(f"{name} ({wnid})" if list(names).count(name) > 1 else name
                 for name, wnid in zip(names, wnids, strict=True))
