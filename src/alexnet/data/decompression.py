"""Decompress a .tar.gz, .tar.xz or .tar.bz2 once into the user's cache, so that its images can be read in place."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.cache import cache_folder
from alexnet._runtime.locks import file_lock
from alexnet._runtime.progress import Bar
from alexnet.errors import UserError, require


@dataclass(frozen=True)
class Compression:
    """A compression of whole files."""

    magic: bytes
    """The first bytes of a file."""
    open: Callable[[IO[bytes]], IO[bytes]]
    """Open the decompressed stream of a compressed one."""


def _gzip(file: IO[bytes]) -> Any:
    return gzip.GzipFile(fileobj=file)


COMPRESSIONS = (Compression(b"\x1f\x8b", _gzip), Compression(b"\xfd7zXZ\0", lzma.LZMAFile),
                Compression(b"BZh", bz2.BZ2File))

MAX_RATIO, ALWAYS_ALLOWED_BYTES = 100, 1_000_000_000
"""Images hardly compress: an archive that becomes this many times larger, and more than this many bytes, is refused as
a decompression bomb."""

_BLOCK = 1 << 20


def decompressed_tar(path: Path) -> Path | None:
    """The decompressed form of a compressed tar, in the cache; None if the decompressed file is no tar.

    It is stored under the archive's name, size and modification time, so a changed archive is decompressed again.

    Raises:
        UserError: the archive is damaged, or a decompression bomb, or the disk of the cache is too small.
    """
    status = path.stat()
    key = hashlib.sha256(f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}".encode(
        "utf-8", "surrogateescape")).hexdigest()[:12]
    dest = cache_folder() / "decompressed" / f"{path.name}-{key}.tar"
    if dest.is_file():
        return dest
    if not _is_compressed_tar(path):
        return None
    dest.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(dest.with_suffix(".lock")):
        if not dest.is_file():
            with Bar(f"decompressing {path.name} once", "bytes") as bar:
                replace_file(dest, lambda temporary: _decompress(path, temporary, bar))
    return dest


def is_tar_header(block: bytes) -> bool:
    """Whether a block of 512 bytes is the header of a tar's member: its checksum is right."""
    try:
        return bool(tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape"))
    except tarfile.HeaderError:
        return False


def read_gzip(data: bytes, name: str, limit: int) -> bytes:
    """The decompressed bytes of a gzip file. Raises UserError if it is damaged or has more than `limit` bytes."""
    decompressor = zlib.decompressobj(wbits=31)
    try:
        decompressed = decompressor.decompress(data, limit)
    except zlib.error as error:
        raise UserError(f"{name} is damaged: {error}", "download it again") from error
    require(not decompressor.unconsumed_tail, f"{name} decompresses to more than {limit:,} bytes",
            "download it again, and check that it is the right file")
    require(decompressor.eof, f"{name} is damaged: it is cut off", "download it again")
    return decompressed


def _open(file: IO[bytes]) -> IO[bytes]:
    head = file.read(8)
    file.seek(0)
    return next(compression for compression in COMPRESSIONS if head.startswith(compression.magic)).open(file)


def _is_compressed_tar(path: Path) -> bool:
    with path.open("rb") as file, _open(file) as stream:
        return is_tar_header(_read_block(path, stream)[: tarfile.BLOCKSIZE])


def _decompress(path: Path, dest: Path, on_progress: Callable[[int, int], object]) -> None:
    compressed_bytes, written = path.stat().st_size, 0
    free = shutil.disk_usage(dest.parent).free
    limit = max(MAX_RATIO * compressed_bytes, ALWAYS_ALLOWED_BYTES)
    with path.open("rb") as file, _open(file) as stream, dest.open("wb") as out:
        while block := _read_block(path, stream):
            written += len(block)
            require(written <= limit, f"{path} decompresses to more than {MAX_RATIO} times its size, as no archive of "
                                      "images does", "do not use this archive")
            require(written < free, f"{path} does not fit, decompressed, on the disk of {dest.parent}",
                    "free some space, or set XDG_CACHE_HOME to a folder on a larger disk")
            out.write(block)
            if file.tell() < compressed_bytes:
                on_progress(file.tell(), compressed_bytes)
    on_progress(compressed_bytes, compressed_bytes)
    # The time is in the data set's fingerprint, which should not change when the cache is emptied and filled again.
    os.utime(dest, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))


def _read_block(path: Path, stream: IO[bytes]) -> bytes:
    try:
        return stream.read(_BLOCK)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is damaged or was not downloaded completely: {error}",
                     "download the archive again, and compare its size or checksum with the publisher's")
