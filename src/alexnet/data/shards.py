"""Write one shard of a packed folder, with its index, labels and names. packed.py reads them.

Shapes: n images of a shard.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alexnet.data.manifest import Codec, FileRecord, ShardRecord

SHARD_SUFFIX = {"raw": ".npy", "jpeg": ".tar"}

_TAR_BLOCK = 512


class EncodedImage(NamedTuple):
    """An image as it is stored in a shard."""

    payload: bytes | memoryview
    """Codec raw: the bytes of uint8 [side, side, 3]; codec jpeg: a JPEG file's."""
    label: int
    name: str
    content_hash: int
    """`content_hash` of the image in its source, before it was made a square."""
    perceptual_hash: NDArray[np.uint64]
    """[2], of the stored square (perceptual_hash.py)."""
    group: int | None = None
    """`Grouping.number_of` the image; None if the images have no groups."""


def write_shard(
    folder: Path, stem: str, codec: Codec, side: int, first: int, encoded: Iterable[EncodedImage],
) -> ShardRecord:
    """Write one shard and the files beside it.

    The images are consumed one at a time, so a shard is never held in memory. A full disk raises OSError; a shard
    written through a memory map would kill the process with SIGBUS.

    Args:
        stem: of the file names, such as `train-00012`.
        side: of each image, in pixels.
        first: the number of the shard's first image in the order of its split, images that cannot be decoded included.
            The members of a tar are named from it on.
    """
    labels: list[int] = []
    names: list[str] = []
    hashes: list[int] = []
    perceptual: list[NDArray[np.uint64]] = []
    groups: list[int] = []

    def recorded() -> Iterator[EncodedImage]:
        for image in encoded:
            labels.append(image.label)
            names.append(image.name)
            hashes.append(image.content_hash)
            perceptual.append(image.perceptual_hash)
            groups.extend([] if image.group is None else [image.group])
            yield image

    file, index = stem + SHARD_SUFFIX[codec], None
    if codec == "raw":
        _write_array(folder / file, side, recorded())
    else:
        index = f"{stem}.index.npy"
        np.save(folder / index, _write_tar(folder / file, first, recorded()))
    record = ShardRecord(file, f"{stem}.labels.npy", f"{stem}.names.json", f"{stem}.hashes.npy",
                         f"{stem}.perceptual.npy", len(labels), index, f"{stem}.groups.npy" if groups else None)
    if record.groups:
        np.save(folder / record.groups, np.array(groups, np.uint64))
    np.save(folder / record.labels, np.array(labels, np.int64))
    np.save(folder / record.hashes, np.array(hashes, np.uint64))
    np.save(folder / record.perceptual, np.array(perceptual, np.uint64).reshape(-1, 2))
    (folder / record.names).write_text(json.dumps(names), encoding="utf-8")
    return record


def _write_array(path: Path, side: int, encoded: Iterator[EncodedImage]) -> None:
    def write_header(images: int) -> None:
        shape = (images, side, side, 3)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})

    count = 0
    with path.open("wb") as file:
        write_header(0)
        for count, image in enumerate(encoded, 1):  # noqa: B007
            file.write(image.payload)
        # The number of images that can be decoded is known only now. NumPy pads the header so that the first axis can
        # be changed in place.
        file.seek(0)
        write_header(count)


def _write_tar(path: Path, first: int, encoded: Iterator[EncodedImage]) -> NDArray[np.int64]:
    """Write a tar without dates and owners, so that equal images give equal bytes.

    Returns:
        Its index, [n, 2]: offset and length of each JPEG.
    """
    extents: list[tuple[int, int]] = []

    def add(name: str, content: bytes) -> int:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        begin = tar.offset + _TAR_BLOCK  # the names are short, so USTAR's header is one block
        tar.addfile(member, io.BytesIO(content))
        return begin

    with path.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, image in enumerate(encoded, first):
            content = bytes(image.payload)
            extents.append((add(f"{number:09}.jpg", content), len(content)))
            add(f"{number:09}.cls", str(image.label).encode())
    return np.array(extents, np.int64).reshape(-1, 2)


def describe_file(path: Path) -> FileRecord:
    """Flush the file to the disk and return its size and checksum."""
    with path.open("r+b") as file:  # Windows flushes only what may be written
        os.fsync(file.fileno())
        return FileRecord(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
