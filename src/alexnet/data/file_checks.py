"""Read and verify the files of a packed folder: a missing, truncated or damaged one is an error that names it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from alexnet.data.manifest import RESTORE, FileRecord, ShardRecord
from alexnet.errors import UserError

Scalar = TypeVar("Scalar", bound=np.generic)


def read_array(path: Path, shape: tuple[int, ...], kind: type[Scalar]) -> NDArray[Scalar]:
    """Read a .npy file that must hold an array of this shape and type.

    Nothing is allocated for any other array, and nothing is unpickled. Raises UserError naming the file if it is
    damaged, FileNotFoundError if it is missing.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0(file) if version == (1, 0) else None
            if header == (shape, False, np.dtype(kind)):
                return np.fromfile(file, kind, math.prod(shape)).reshape(shape)
    except FileNotFoundError:
        raise
    except Exception:  # the header is a Python literal: a damaged one raises anything
        pass
    sides = " x ".join(map(str, shape))
    raise UserError(f"{path} is damaged: it is not an array of {sides} {kind.__name__}", RESTORE)


def read_extents(folder: Path, shard: ShardRecord, image_bytes: int) -> NDArray[np.int64]:
    """Offset and length of each image in a shard, [n, 2]: from a tar's index, or the header of a .npy file of pixels.

    Raises:
        UserError: the header is damaged, or the index points outside the tar.
    """
    if shard.index is None:
        begin = _header_bytes(folder / shard.file)
        return np.stack([begin + np.arange(shard.images) * image_bytes, np.full(shard.images, image_bytes)], axis=1)
    extents_n2 = read_array(folder / shard.index, (shard.images, 2), np.int64)
    ends, size = extents_n2.sum(1), (folder / shard.file).stat().st_size
    if shard.images and not (extents_n2.min() >= 0 and extents_n2.max() <= size and ends.max() <= size):
        raise UserError(f"{folder / shard.index} points outside {shard.file}", RESTORE)
    return extents_n2


def _header_bytes(path: Path) -> int:
    """Where the pixels of a .npy file begin. The file's size would say another place if it has been truncated."""
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            return file.tell()
    except FileNotFoundError:
        raise
    except Exception as error:  # the header is a Python literal: a damaged one raises anything
        raise UserError(f"{path} is damaged: it is not a .npy file", RESTORE) from error


def read_names(path: Path, count: int) -> list[str]:
    with contextlib.suppress(ValueError, RecursionError):
        names = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(names, list) and len(names) == count and {*map(type, names)} <= {str}:
            return names
    raise UserError(f"{path} is damaged: it is not a list of {count} names", RESTORE)


def check_sizes(folder: Path, files: Mapping[str, FileRecord]) -> None:
    """Raise UserError naming the first file that is missing, truncated or too long."""
    for name, record in files.items():
        if fault := size_fault(folder / name, record.bytes):
            raise UserError(f"{folder / name} {fault}", RESTORE)


def size_fault(path: Path, expected: int) -> str:
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    return "" if size == expected else (
        f"is {'truncated' if size < expected else 'too long'}: {size:,} bytes of {expected:,}")


def find_fault(folder: Path, file: tuple[str, FileRecord]) -> str:
    """What is wrong with a file, beginning with its name; empty if its checksum matches."""
    name, record = file
    if fault := size_fault(folder / name, record.bytes):
        return f"{name} {fault}"
    with (folder / name).open("rb") as content:
        matches = hashlib.file_digest(content, "sha256").hexdigest() == record.sha256
    return "" if matches else f"{name} is damaged: its checksum does not match"
