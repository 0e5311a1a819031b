"""manifest.json of a packed folder: its format number, and its records as frozen dataclasses, validated once.

`pack` writes the manifest last, with a checksum of itself, so a folder that has one is complete. Nothing in a manifest
is trusted: every value is checked for its type and its rules before anything else reads it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from alexnet._runtime.atomic_files import replace_durably
from alexnet.architecture.overrides import Json
from alexnet.data.quarantine import Quarantined
from alexnet.data.remarks import Remark
from alexnet.errors import UserError, did_you_mean, require

Codec = Literal["raw", "jpeg"]
CODECS: tuple[Codec, ...] = ("raw", "jpeg")

PACK_FORMAT = 5
"""Of manifest.json and of the journal."""

MANIFEST, MEAN = "manifest.json", "mean.npy"
JOURNAL = "unfinished.json"
"""A folder with this and no manifest is an unfinished pack (journal.py)."""

RESTORE = "restore it from a copy, or pack again into an empty folder"
"""The remedy for every damaged file of a packed folder."""

# --- The records ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileRecord:
    """Size and checksum of a file. Raises UserError for impossible values."""

    bytes: int
    """At least 1: no file of a packed folder is empty."""
    sha256: str
    """64 hexadecimal digits."""

    def __post_init__(self) -> None:
        require(self.bytes >= 1, f"it lists a file of {self.bytes} bytes, and none is empty")
        require(bool(re.fullmatch("[0-9a-f]{64}", self.sha256)), "it lists a file without a SHA-256")


@dataclass(frozen=True)
class ShardRecord:
    """The names of a shard's files, and how many images are in it."""

    file: str
    labels: str
    names: str
    hashes: str
    perceptual: str
    images: int
    index: str | None = None
    """Codec jpeg only: offset and length of each JPEG in the tar."""
    groups: str | None = None
    """Only if --group was given, and the shard has images."""

    @property
    def files(self) -> list[str]:
        names = (self.file, self.index, self.labels, self.names, self.hashes, self.perceptual, self.groups)
        return [name for name in names if name]


@dataclass(frozen=True)
class SplitRecord:
    """The shards of a split, and the images that were left out of them."""

    shards: tuple[ShardRecord, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    remarks: tuple[Remark, ...] = ()
    images_per_class: tuple[int, ...] = ()
    """Counted when the pack is finished; empty in the journal."""

    @property
    def images(self) -> int:
        return sum(shard.images for shard in self.shards)


@dataclass(frozen=True)
class Plan:
    """Everything that the bytes of a pack depend on. Raises UserError for impossible values."""

    source_fingerprint: str
    """`Dataset.fingerprint` of the images that are packed."""
    side: int
    """Of the stored squares, in pixels."""
    codec: Codec
    quality: int | None
    """Of the codec jpeg, 1 to 100; None for raw."""
    shard_images: int
    """Images in a shard, quarantined ones included; the last shard of a split may have fewer."""

    def __post_init__(self) -> None:
        require(self.codec in CODECS, f"there is no codec {self.codec!r}", did_you_mean(self.codec, CODECS))
        require(self.side >= 1, f"side {self.side} must be at least 1 pixel")
        require(self.quality is None or 1 <= self.quality <= 100, f"quality {self.quality} must lie in 1..100")
        require(self.shard_images >= 1, f"{self.shard_images} images a shard must be at least 1")


RGB = tuple[float, float, float]

_HEADER_BYTES = 1024
"""Of a .npy file at most: NumPy writes 128."""

_NAME_BYTES = 6 * 4096 + 4
"""Of an image's name in JSON at most: Linux's longest path in escapes as \\u0001, with quotes, comma and space."""


def _bytes_beside(shard: ShardRecord) -> dict[str, int]:
    """File beside a shard -> bytes that it has for each image at most, without its header."""
    sizes = {shard.names: _NAME_BYTES, shard.labels: 8, shard.hashes: 8, shard.perceptual: 16, shard.index: 16,
             shard.groups: 8}
    return {name: size for name, size in sizes.items() if name}


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says of a packed folder. Raises UserError for values that contradict each other."""

    plan: Plan
    source: str
    credits: str
    notes: tuple[str, ...]
    classes: tuple[str, ...]
    wnids: tuple[str, ...] | None
    """WordNet IDs of the classes, if the source has them."""
    held_out: float
    """The fraction of each class that was held out as `val`; 0 if the source has a validation split of its own."""
    rgb_mean: RGB
    """On 0..255."""
    rgb_covariance: tuple[RGB, RGB, RGB]
    splits: Mapping[str, SplitRecord]
    files: Mapping[str, FileRecord]
    """Every file of the folder except the manifest itself."""
    software: Mapping[str, str]
    """Versions of the packages that made the pack."""
    grouped_by: str | None = None
    """The value of --group: images of one group are in one split, and in one fold."""

    def __post_init__(self) -> None:
        require(self.wnids is None or len(self.wnids) == len(self.classes), "its wnids are not one for each class")
        check_names(self.files)
        require(MEAN in self.files, f"it lists no {MEAN}")
        self._check_size(MEAN, self.plan.side**2 * 3 * 4, f"side {self.plan.side}")
        for name, split in self.splits.items():
            counts = split.images_per_class
            require(len(counts) == len(self.classes) and sum(counts) == split.images,
                    f"its images_per_class of {name} are not those of the images in the shards of {name}")
            for shard in split.shards:
                self._check_shard(shard)

    def _check_shard(self, shard: ShardRecord) -> None:
        require(self.plan.codec != "jpeg" or bool(shard.index), f"its shard {shard.file!r} has no index")
        for name in shard.files:
            require(name in self.files, f"it lists {name!r} without a checksum")
        pixels = shard.images * self.plan.side**2 * 3
        require(self.plan.codec != "raw" or self.files[shard.file].bytes >= pixels,
                f"its shard {shard.file} is too short for {shard.images} images")
        for file, image_bytes in _bytes_beside(shard).items():
            self._check_size(file, image_bytes * shard.images, f"{shard.images} images")

    def _check_size(self, file: str, most: int, of: str) -> None:
        """Raise UserError for a file that is larger than `pack` writes it: a stream would fetch all of it."""
        size = self.files[file].bytes
        require(size <= most + _HEADER_BYTES, f"its {file}, of {of}, has {size:,} bytes")

    @property
    def shards(self) -> list[ShardRecord]:
        """Of all splits."""
        return [shard for split in self.splits.values() for shard in split.shards]

    def fingerprint(self) -> str:
        """Identify the data: equal for equal classes, images, order and pixels, wherever the folder is."""
        return _digest(to_json({"classes": self.classes, "files": self.files}))


def check_names(names: Iterable[str]) -> None:
    """Raise UserError for a file name that may point outside the packed folder."""
    for name in names:
        require(bool(re.fullmatch(r"\w[\w.-]*", name, re.ASCII)),
                f"it names the file {name!r}, and only plain file names within the folder are allowed")


# --- Records and JSON -------------------------------------------------------------------------------------------------

Record = TypeVar("Record")


def to_json(record: object) -> dict[str, Json]:
    """A record, or a mapping, as plain values that JSON holds."""
    content = _encode(record)
    assert isinstance(content, dict)
    return content


def _encode(value: object) -> Json:
    if dataclasses.is_dataclass(value):
        return {field.name: _encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    assert value is None or isinstance(value, bool | int | float | str)
    return value


def from_json(kind: type[Record], content: object) -> Record:
    """The record from plain values; keys that are not among its fields are ignored.

    Raises UserError naming the first value that does not have the type of its field, or breaks a rule of its record.
    """
    return _decode(kind, content, "it")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _decode(kind: Any, value: Any, where: str) -> Any:  # a type hint is a type, a union or a Literal: Any
    """The value converted to the type hint. `where` is its path within the record, for the message."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    below = "" if where == "it" else f"{where}."
    if dataclasses.is_dataclass(kind):
        require(isinstance(value, dict), f"{where} is not an object")
        return kind(**{name: _decode(hint, value.get(name), f"{below}{name}")  # type: ignore[operator]
                       for name, hint in _hints(kind).items()})  # type: ignore[arg-type]
    if origin in (Mapping, dict):
        require(isinstance(value, dict), f"{where} is not an object")
        return {key: _decode(arguments[1], item, f"{where}[{key!r}]") for key, item in value.items()}
    if origin is tuple:
        any_number = arguments[-1] is Ellipsis
        length = "" if any_number else f" of {len(arguments)}"
        require(isinstance(value, list) and (any_number or len(value) == len(arguments)),
                f"{where} is not a list{length}")
        return tuple(_decode(arguments[0], item, f"{where}[{number}]") for number, item in enumerate(value))
    if origin is types.UnionType:  # `X | None` only
        return None if value is None else _decode(arguments[0], value, where)
    if kind is float:
        require(type(value) in (int, float) and abs(value) <= sys.float_info.max, f"{where} is not a number")
        return float(value)
    if kind is int:
        require(type(value) is int and value >= 0, f"{where} is not a whole number of 0 or more")
        return value
    require(type(value) is str, f"{where} is not text")
    return value


# --- The file ---------------------------------------------------------------------------------------------------------


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_json(folder / MANIFEST, to_json(manifest))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a packed folder. Raises UserError if it is damaged, hostile or of another format."""
    return parse_record(Manifest, (folder / MANIFEST).read_bytes(), folder / MANIFEST)


def parse_record(kind: type[Record], data: bytes, path: Path | str) -> Record:
    """The record in the bytes of a file that `write_json` wrote. `path`, which may be a URL, names it in errors."""
    content = parse_json(data, path)
    try:
        return from_json(kind, content)
    except UserError as error:
        raise UserError(f"{path} is invalid: {error.problem}", RESTORE) from None


def write_json(path: Path, content: dict[str, Json]) -> None:
    """Write all of it or nothing, with the format number and a checksum of itself."""
    content = {"format": PACK_FORMAT} | content
    text = json.dumps({"checksum": _digest(content)} | content, indent=1)
    replace_durably(path, text.encode())


def read_json(path: Path) -> dict[str, Json]:
    """What `write_json` wrote. Raises UserError if it is damaged or of another format."""
    return parse_json(path.read_bytes(), path)


def parse_json(data: bytes, path: Path | str) -> dict[str, Json]:
    """As `read_json`, of the bytes of a file at a path or a URL."""
    damaged = UserError(f"{path} is damaged or not of a packed folder: its checksum does not match", RESTORE)
    try:
        content = json.loads(data.decode())
        checksum, version = content.pop("checksum"), content["format"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged from None
    if checksum != _digest(content):
        raise damaged
    require(version == PACK_FORMAT, f"{path} has format {version} and this alexnet reads {PACK_FORMAT}",
            "pack it again")
    return content


def _digest(content: dict[str, Json]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
