"""A data set before packing (`Dataset`): images in splits, each with a name, a label and a way to read its pixels.

`SourceImage` is the interface of an image. `FileImage` is a file of its own, `TarImage` a member of an archive,
`ArrayImage` pixels in memory.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from alexnet.data import images
from alexnet.data.content import Content, content_hash, decode_content
from alexnet.data.images import BadImage
from alexnet.errors import did_you_mean, require, some


class SourceImage(Protocol):
    """An image that is read when it is needed; a million of them fit in memory."""

    @property
    def name(self) -> str:
        """Unique within its data set, such as `train/tench/n01440764_1.JPEG`."""

    @property
    def label(self) -> int:
        """Index of its class in `Dataset.classes`."""

    def content(self) -> Content:
        """The encoded image, or the pixels of one that exists as an array only: what `content_hash` identifies.

        Raises BadImage if it cannot be read, such as from an archive that is truncated.
        """

    def pixels(self) -> NDArray[np.uint8]:
        """uint8 [height, width, 3], RGB. Raises BadImage if the image cannot be decoded."""

    def stamp(self) -> str:
        """Text that changes when the contents change, found without reading them (size and modification time)."""


@dataclass(frozen=True, slots=True)
class FileImage:
    """An image in a file of its own, at `name` under `root`. A full path for each would take four times the memory."""

    name: str
    label: int
    root: Path

    @property
    def path(self) -> Path:
        return self.root / self.name

    def content(self) -> Content:
        return images.read_bytes(self.path)

    def pixels(self) -> NDArray[np.uint8]:
        return decode_content(self.content(), self.name)

    def stamp(self) -> str:
        return _stamp(self.path)


@dataclass(frozen=True, slots=True)
class TarImage:
    """An image in an archive, read in place: ImageNet's tar of tars needs no unpacking."""

    name: str
    label: int
    path: Path
    offset: int
    length: int

    def content(self) -> Content:
        if self.length > images.BYTE_LIMIT:  # only a decompression bomb has such a member
            raise BadImage(f"{self.name} has {self.length:,} bytes, more than {images.BYTE_LIMIT:,}", "leave it out")
        with self.path.open("rb") as archive:
            archive.seek(self.offset)
            data = archive.read(self.length)
        if len(data) < self.length:
            raise BadImage(f"{self.name} is truncated: {self.path} ends {self.length - len(data)} bytes too soon",
                                  "download it again")
        return data

    def pixels(self) -> NDArray[np.uint8]:
        return decode_content(self.content(), self.name)

    def stamp(self) -> str:
        return f"{_stamp(self.path)}:{self.offset}:{self.length}"


@dataclass(frozen=True, slots=True, eq=False)
class ArrayImage:
    """An image whose pixels are in memory already: CIFAR-10, the embedded patches."""

    name: str
    label: int
    pixels_HWC: NDArray[np.uint8]

    def content(self) -> Content:
        return self.pixels_HWC

    def pixels(self) -> NDArray[np.uint8]:
        return decode_content(self.pixels_HWC, self.name)

    def stamp(self) -> str:
        return f"{zlib.crc32(np.ascontiguousarray(self.pixels_HWC).data):08x}"


def _stamp(path: Path) -> str:
    status = os.stat(path)  # noqa: PTH116  # called a million times, in half the time of Path.stat
    return f"{status.st_size}:{status.st_mtime_ns}"


SYSTEM_FILE, NO_EXTENSION = "hidden or system", "no extension"
"""Reasons to ignore files."""


@dataclass(frozen=True)
class Ignored:
    """Something in a source that is no part of the data set."""

    path: str
    """Of the file or folder, relative to the source. Folders end in a slash; the source itself is `./`."""
    reason: str
    """A phrase: "hidden or system folder", ".txt", "link to nothing"."""
    count: int
    """Files of the source that are left out for this reason. 0 for an empty or unread folder."""

    def __str__(self) -> str:
        if self.count == 1 and not self.path.endswith("/"):  # one file, whose name may say why
            obvious = self.reason in (SYSTEM_FILE, NO_EXTENSION) or self.path.lower().endswith(self.reason)
            return self.path if obvious else f"{self.path} ({self.reason})"
        files = f", {self.count:,} file{'s' * (self.count > 1)}" if self.count else ""
        return f"{self.path} ({self.reason}{files})"


@dataclass(frozen=True)
class Grouping:
    """Which images belong together, such as those of one animal: none of a group is measured while others train."""

    by: str
    """The value of --group."""
    groups: Mapping[str, str]
    """Name of an image -> its group. An image that is not in it is a group of its own."""

    def name_of(self, image: str) -> str:
        """The group of an image; of an image without one, a name that no group has."""
        return self.groups.get(image) or _name_alone(image)

    def number_of(self, image: str) -> int:
        """A number for the group of an image: 0 to 2**64 - 1."""
        return _number(self.name_of(image))


def number_alone(image: str) -> int:
    """`Grouping.number_of` an image that has no group."""
    return _number(_name_alone(image))


def _name_alone(image: str) -> str:
    return f"\0{image}"


def _number(group: str) -> int:
    return content_hash(group.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True)
class Dataset:
    """Images in splits, with the names of their classes."""

    name: str
    classes: tuple[str, ...]
    """Readable names, all different; a label is an index into them."""
    splits: Mapping[str, Sequence[SourceImage]]
    """`train`; `val` if there are validation images; `test` if there are test images beside these."""
    source: str
    """Where the images come from: a path, or a description."""
    wnids: tuple[str, ...] | None = None
    """WordNet IDs of the classes, if the source uses them."""
    notes: tuple[str, ...] = ()
    """What a user should know, such as what was ignored. `division` is apart, as not every command divides data."""
    credits: str = ""
    held_out: float = 0.0
    """The fraction of each class that was held out as `val`; 0 if the source has a validation split of its own."""
    ignored: tuple[Ignored, ...] = ()
    """What the source holds that is not used. `notes` names it too."""
    grouping: Grouping | None = None
    """Which images belong together; None if that was not stated."""

    @property
    def division(self) -> str:
        """How the images were divided into `train` and `val`; "" if the source has its own splits."""
        counts = {name: Counter(image.label for image in split) for name, split in self.splits.items()}
        return held_out_note(self.held_out, self.grouping.by if self.grouping else None, self.classes, counts)

    @property
    def all_notes(self) -> tuple[str, ...]:
        """`notes`, and `division` if there is one."""
        return self.notes + (self.division,) * bool(self.division)

    @property
    def image_count(self) -> int:
        """In all splits."""
        return sum(map(len, self.splits.values()))

    def fingerprint(self) -> str:
        """A hash of all names, labels and stamps: it identifies the data set, and changes when the data set does."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for split, source in sorted(self.splits.items()):
            for image in source:
                line = f"{split}\0{image.name}\0{image.label}\0{image.stamp()}\n"
                digest.update(line.encode("utf-8", "surrogateescape"))
                if self.grouping:
                    digest.update(f"group\0{self.grouping.number_of(image.name)}\n".encode())
        if self.grouping:
            digest.update(f"grouped by\0{self.grouping.by}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def require_splits(source: str, splits: Collection[str], names: Sequence[str]) -> None:
    """Raise UserError for the first of `names` that is no split of the data.

    Args:
        source: the data, for the error.
        splits: those that it has.
        names: those that are wanted.
    """
    for name in names:
        require(name in splits, f"{source} has no split {name!r}", did_you_mean(name, splits))


def held_out_note(
    fraction: float, grouped_by: str | None, classes: Sequence[str], counts: Mapping[str, Mapping[int, int]],
) -> str:
    """Say how data without a validation split was divided; "" if nothing was held out.

    Args:
        fraction: of each class that was held out.
        grouped_by: the value of --group, if whole groups were held out.
        classes: their names.
        counts: split -> label -> number of images.
    """
    if not fraction:
        return ""
    held, total = (sum(counts.get(split, {}).values()) for split in ("val", "train"))
    total += held
    if not grouped_by:
        alone = [name for label, name in enumerate(classes)
                 if counts.get("train", {}).get(label, 0) == 1 and not counts.get("val", {}).get(label, 0)]
        return (f"there is no validation split: {fraction:.0%} of each class ({held:,} image{'s' * (held != 1)}, "
                "chosen by name) is held out for validation" + (
                    f"; nothing of {some(alone, 3)}, which has one image and so is never measured"
                    if len(alone) == 1 else f"; nothing of {some(alone, 3)}, which have one image each and "
                    "so are never measured" if alone else ""))
    shares = {name: counts["val"].get(label, 0) / count for label, name in enumerate(classes)
              if (count := sum(counts[split].get(label, 0) for split in ("train", "val")))}
    least, most = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    said = (f"there is no validation split: {held:,} of {total:,} images are held out for validation, in whole groups "
            f"(--group {grouped_by}): "
            + (f"{shares[least]:.1%} of each class" if shares[least] == shares[most] else
               f"between {shares[least]:.1%} of {least} and {shares[most]:.1%} of {most}"))
    none = [name for name, share in shares.items() if not share]
    return said + (f"; nothing of {' and '.join(none[:3])} is held out, as one group has all or nearly all images of "
                   "the class" if none else "")


def are_numbers(classes: Sequence[str]) -> bool:
    """Whether all class names are bare numbers, such as 0 to 9.

    The number need not be the index of the class in a weights file: sorted as text, 10 comes before 2. So a class
    index and a class name of this kind must never be compared.
    """
    return bool(classes) and all(name.isascii() and name.isdecimal() for name in classes)


def distinct(names: Sequence[str], wnids: Sequence[str]) -> tuple[str, ...]:
    """Readable class names, with the WordNet ID appended to names that occur twice, such as ImageNet's two cranes."""
    count = Counter(names)
    return tuple(f"{name} ({wnid})" if count[name] > 1 else name for name, wnid in zip(names, wnids, strict=True))
