"""Zip and tar archives as file trees (`open_archive`): their images are read in place, nothing is unpacked.

A compressed tar (.tar.gz, .tar.xz, .tar.bz2) has no index, so decompression.py decompresses it once into the cache.
No member's name is used as a path on disk. A member is limited to the size of an image file before it is read, so an
archive that expands to terabytes costs no more than its images.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from alexnet.data import images
from alexnet.data.dataset import TarImage
from alexnet.data.decompression import COMPRESSIONS, decompressed_tar, is_tar_header
from alexnet.data.images import BYTE_LIMIT, BadImage
from alexnet.data.tree import is_junk_folder
from alexnet.errors import UserError, require

DAMAGED = "download the archive again, and compare its size or checksum with the publisher's"
UNPACK = "unpack it, and name the folder"

COMPRESSION_TYPES = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Of a zip's members. zipfile decompresses bz2 and LZMA without a limit: 1 kB of bz2 may become a gigabyte of memory,
whatever size the archive states."""

_OTHER_ARCHIVES = {b"Rar!": "a RAR archive", b"7z\xbc\xaf": "a 7z archive", b"\x28\xb5\x2f\xfd": "compressed with zstd"}
"""Archives that are recognized by their first four bytes and not read."""


def open_archive(path: Path) -> ZipTree | TarTree | None:
    """The files of an archive; None if the file is no archive at all.

    Raises:
        UserError: the archive is damaged, encrypted, of a kind that is not read, or has unsafe names.
    """
    with path.open("rb") as file:
        head = file.read(tarfile.BLOCKSIZE)
    if kind := _OTHER_ARCHIVES.get(head[:4]):
        raise UserError(f"{path} is {kind}, which is not supported", UNPACK)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ZipTree(path)
    if any(head.startswith(compression.magic) for compression in COMPRESSIONS):
        plain = decompressed_tar(path)
        return TarTree(plain, path) if plain else None
    return TarTree(path, path) if is_tar_header(head) else None


def _safe_name(archive: Path, name: str) -> str:
    """The name of a member as a relative path. Raises UserError for one that points out of the archive."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    require(".." not in parts and not name.startswith("/") and not re.match(r"[A-Za-z]:", name),
            f"{archive} holds a member with the unsafe name {name!r}, which points out of the archive",
            "do not use this archive")
    return "/".join(parts)


def _all_folders(files: Iterable[str], folders: Iterable[str]) -> tuple[str, ...]:
    """The folders that the archive lists, and those that its files' paths imply."""
    found = set(folders)
    for path in [*files, *folders]:
        while (path := posixpath.dirname(path)) and path not in found:
            found.add(path)
    return tuple(sorted(found - {""}))


def _in_junk_folder(name: str) -> bool:
    """Whether a member is in a hidden folder or one of an operating system, which FolderTree does not enter either."""
    return any(map(is_junk_folder, name.split("/")[:-1]))


def archive_stem(path: PurePath) -> str:
    """The archive's name without .zip, .tar, .tar.gz or .tgz: the name of the data set."""
    return re.sub(r"(\.tar)?\.[^.]+$", "", path.name) or path.name


# --- Zip --------------------------------------------------------------------------------------------------------------


class ZipTree:
    """The files of a zip archive. Threads may read it at the same time."""

    def __init__(self, path: Path) -> None:
        self.path, self.name, self.source = path, archive_stem(path), str(path.resolve())
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
            raise UserError(f"{path} is damaged or was not downloaded completely: {error}", DAMAGED) from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        folders = []
        for member, decoded in zip(self._zip.infolist(), _zip_names(self._zip.infolist()), strict=True):
            name = _safe_name(path, decoded)
            if _in_junk_folder(name):
                folders.append(name.rpartition("/")[0])
                continue
            if decoded.endswith("/"):
                folders.append(name)
                continue
            require(name not in self._members, f"{path} holds two files of the name {name}", UNPACK)
            require(not member.flag_bits & 1, f"{path} is encrypted", UNPACK)
            require(member.compress_type in COMPRESSION_TYPES,
                    f"{path} has a compression (type {member.compress_type}) that is not supported", UNPACK)
            self._members[name] = member
        self.files = tuple(sorted(self._members))
        self.folders = _all_folders(self.files, folders)
        self.skipped: dict[str, str] = {}

    def read(self, file: str) -> bytes:
        """The bytes of a member. Raises BadImage, naming it, if it is damaged or larger than an image file may be."""
        member, name = self._members[file], f"{file} in {self.path}"
        if member.file_size > BYTE_LIMIT:
            raise BadImage(f"{name} has {member.file_size:,} bytes, more than {BYTE_LIMIT:,}", "leave it out")
        try:
            return read_member(self._zip, member)
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError, zlib.error,
                ) as error:
            raise BadImage(f"{name} is damaged: {error}", DAMAGED) from error

    def checksum(self, file: str) -> str:
        """Checksum and size as the archive's directory states them."""
        return f"{self._members[file].CRC:08x}:{self._members[file].file_size}"

    def image(self, file: str, label: int) -> ZipImage:
        return ZipImage(file, label, self)


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a zip's member, whose size the caller has checked, and whose checksum is verified at their end.

    `ZipFile.read` would decompress up to 2 GB and keep `file_size` bytes of it.
    """
    assert member.compress_type in COMPRESSION_TYPES
    with archive.open(member) as stream:
        return stream.read(member.file_size)


@dataclass(frozen=True, slots=True, eq=False)
class ZipImage:
    """An image in a zip archive, decompressed when it is read."""

    name: str
    label: int
    archive: ZipTree

    def content(self) -> bytes:
        return self.archive.read(self.name)

    def pixels(self) -> NDArray[np.uint8]:
        return images.decode(self.content(), self.name)

    def stamp(self) -> str:
        return self.archive.checksum(self.name)


_UTF8_FLAG = 0x800
"""In a member's flags: its name is UTF-8. Without it, zipfile decodes the name as cp437."""


def _zip_names(members: list[zipfile.ZipInfo]) -> list[str]:
    """The members' names with `/` between folders.

    Programs on Linux and macOS store UTF-8 without saying so. If all names are valid UTF-8, they are read as that.
    Some programs on Windows store backslashes.
    """
    raw = [member.filename.encode("cp437") for member in members if not member.flag_bits & _UTF8_FLAG]
    try:
        b"\n".join(raw).decode()
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = "cp437"
    names = [member.filename if member.flag_bits & _UTF8_FLAG else member.filename.encode("cp437").decode(encoding)
             for member in members]
    return [name.replace("\\", "/") for name in names]


# --- Tar --------------------------------------------------------------------------------------------------------------


class TarTree:
    """The files of an uncompressed tar archive; links within it are followed."""

    def __init__(self, path: Path, original: Path) -> None:
        """
        Args:
            path: the uncompressed tar.
            original: the archive that the user named, from which `path` was decompressed, or the same.
        """
        self.path, self.original = path, original
        self.name, self.source = archive_stem(original), str(original.resolve())
        self._places: dict[str, tuple[int, int]] = {}
        self.skipped: dict[str, str] = {}
        folders, links = [], {}
        for member in self._members():
            name = _safe_name(original, member.name)
            if _in_junk_folder(name):
                folders.append(name.rpartition("/")[0])
            elif member.isdir():
                folders.append(name)
            elif member.issym():
                links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
            elif member.islnk():
                links[name] = posixpath.normpath(member.linkname)
            elif member.isreg() and not member.issparse():
                self._places[name] = member.offset_data, member.size
            else:
                self.skipped[name] = "it is neither a file nor a folder"
        self._follow(links)
        self.files = tuple(sorted(self._places))
        self.folders = _all_folders(self.files, folders)

    def read(self, file: str) -> bytes:
        """The bytes of a member. Raises BadImage, naming it, if it is cut off or larger than an image file may be."""
        offset, size = self._places[file]
        if size > BYTE_LIMIT:
            raise BadImage(f"{file} in {self.original} has {size:,} bytes, more than {BYTE_LIMIT:,}", "leave it out")
        with self.path.open("rb") as archive:
            archive.seek(offset)
            data = archive.read(size)
        if len(data) < size:
            raise BadImage(f"{file} in {self.original} is cut off", DAMAGED)
        return data

    def image(self, file: str, label: int) -> TarImage:
        return TarImage(file, label, self.path, *self._places[file])

    def _members(self) -> list[tarfile.TarInfo]:
        """All members. Raises UserError if the archive is damaged, which tarfile takes for its end."""
        try:
            with tarfile.open(self.path, "r:") as archive:
                members = list(archive)
                end = archive.offset
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            raise UserError(f"{self.original} is damaged or was not downloaded completely: {error}", DAMAGED) from error
        with self.path.open("rb") as file:
            file.seek(end)
            require(not any(file.read(tarfile.BLOCKSIZE)),
                    f"{self.original} is damaged: after {len(members):,} members there is no valid header", DAMAGED)
        return members

    def _follow(self, links: dict[str, str]) -> None:
        """Give each link the place of its file. Links that lead to no file of the archive are skipped."""
        for name in links:
            target, steps = name, 0
            while target in links and steps < 40:
                target, steps = links[target], steps + 1
            if target in self._places:
                self._places[name] = self._places[target]
            else:
                self.skipped[name] = "it is a link to nothing"
