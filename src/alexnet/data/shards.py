"""Writes one shard of a packed folder, with its index, labels and names. packed.py reads them.

Shapes: N images of a split, n of a shard.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Codec = Literal["raw", "jpeg"]
CODECS: tuple[Codec, ...] = ("raw", "jpeg")
SHARD_SUFFIX = {"raw": ".npy", "jpeg": ".tar"}

_TAR_BLOCK = 512


# --- Writing ----------------------------------------------------------------------------------------------------------


class Stored(NamedTuple):
    """An image as a shard takes it."""

    payload: bytes | memoryview
    """Codec raw: the bytes of uint8 [side, side, 3]; codec jpeg: a JPEG file's."""
    label: int
    name: str


def write_shard(
    folder: Path, stem: str, codec: Codec, side: int, first: int, stored: Iterable[Stored],
) -> dict[str, Any]:
    """Write one shard and its companions, and return its record for the manifest.

    first: the number of its first image in the split, which names the tar's members.
    The stream is consumed one image at a time, so a shard never stands in memory. Raises OSError where the disk
    is full; a memory map would kill the process with SIGBUS.
    """
    labels: list[int] = []
    names: list[str] = []

    def noting() -> Iterator[Stored]:
        for image in stored:
            labels.append(image.label)
            names.append(image.name)
            yield image

    record: dict[str, Any] = {"file": stem + SHARD_SUFFIX[codec]}
    if codec == "raw":
        _write_array(folder / record["file"], side, noting())
    else:
        record["index"] = f"{stem}.index.npy"
        np.save(folder / record["index"], _write_tar(folder / record["file"], first, noting()))
    record |= {"labels": f"{stem}.labels.npy", "names": f"{stem}.names.json", "images": len(labels)}
    np.save(folder / record["labels"], np.array(labels, np.int64))
    (folder / record["names"]).write_text(json.dumps(names), encoding="utf-8")
    return record


def _write_array(path: Path, side: int, stored: Iterator[Stored]) -> None:
    def header(images: int) -> None:
        shape = (images, side, side, 3)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})

    count = 0
    with path.open("wb") as file:
        header(0)
        for count, image in enumerate(stored, 1):  # noqa: B007
            file.write(image.payload)
        # How many can be decoded is known only now. NumPy pads the header so that the first axis may change in place.
        file.seek(0)
        header(count)


def _write_tar(path: Path, first: int, stored: Iterator[Stored]) -> NDArray[np.int64]:
    """The tar, without dates or owners so that equal images give equal bytes. Returns its index, [n, 2]."""
    places: list[tuple[int, int]] = []

    def add(name: str, content: bytes) -> int:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        begin = tar.offset + _TAR_BLOCK  # short names: USTAR's header is one block
        tar.addfile(member, io.BytesIO(content))
        return begin

    with path.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, image in enumerate(stored, first):
            content = bytes(image.payload)
            places.append((add(f"{number:09}.jpg", content), len(content)))
            add(f"{number:09}.cls", str(image.label).encode())
    return np.array(places, np.int64).reshape(-1, 2)


def describe_file(path: Path) -> dict[str, Any]:
    """Its size and checksum, once it is safely on disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
