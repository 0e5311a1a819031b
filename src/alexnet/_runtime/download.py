"""Downloads a file: resumes a partial download, within a limit, and verifies the checksum before the file is named."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from alexnet._runtime.http_get import RedirectRules, open_url
from alexnet._runtime.locks import file_lock
from alexnet._runtime.object_store import is_object_url, read_object
from alexnet._runtime.transfer import BLOCK_SECONDS, Answer, Pace, TransferError, UnavailableError, receiving
from alexnet.errors import UserError

OnProgress = Callable[[int, int], object]
"""Called with the bytes received so far and the bytes of the whole file."""

OpenFrom = Callable[[int], AbstractContextManager[Answer]]
"""Requests the bytes of a file from an offset on. It runs in a thread of its own."""

ATTEMPTS = 5
"""Consecutive attempts without progress before the download fails."""
TIMEOUT_SECONDS = 15.0
STALL_SECONDS = 30.0
"""Default time without progress (`transfer.Pace`) in which a connection, or a series of failures, is given up."""
RETRY_STATUS = {408, 425, 429, 500, 502, 503, 504}
"""HTTP status codes after which the same request may succeed."""

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_NO_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.EISDIR,
             errno.ENAMETOOLONG, errno.ELOOP}


class ChecksumError(UserError):
    """The downloaded bytes have another checksum than the publisher's. They have been deleted.

    Attributes:
        found: the checksum of the bytes, in hexadecimal digits.
    """

    found = ""


@dataclass(frozen=True)
class Download:
    """A file to download, the limits, and what the user can do after a failure.

    Attributes:
        checksum: kind and hexadecimal digest, or the digest's beginning as far as the publisher gives it:
            "md5:...", "sha256:7be5be79". Empty: the file is not verified.
        limit: bytes that the file may have at most.
        size: bytes of the whole file; None: unknown. It detects a truncated response that gives no length.
        same_host: refuse redirects to another host.
        remedy: what the user can do after a failure; default: put the file at its place.
        stall_seconds: time without progress in which a connection, or a series of failures, is given up.
        folder_variable: the environment variable that names another folder for the file.
    """

    url: str
    checksum: str
    limit: int
    size: int | None = None
    same_host: bool = False
    remedy: str = ""
    stall_seconds: float = STALL_SECONDS
    folder_variable: str = "XDG_CACHE_HOME"


def fetch(
    source: Download, dest: Path, on_progress: OnProgress | None = None, open_from: OpenFrom | None = None,
) -> Path:
    """Download a file to `dest`, unless it exists. If several processes ask for the same file, one downloads it.

    Never more than `source.limit` bytes reach the disk. Redirects from https to another scheme, and from a public to a
    private address, are refused.

    Args:
        on_progress: an exception that it raises ends the download.
        open_from: requests the bytes; default: by http, https, s3 or gs, as the URL says.

    Returns:
        `dest`. After a failure the bytes received so far remain in `dest`.part, and the next call resumes there; of a
        full disk nothing remains.

    Raises:
        UserError: the server refuses, the file is too large, the network fails `ATTEMPTS` times or for
            `stall_seconds`, or the disk is full or may not be written.
        ChecksumError: the checksum differs.
    """
    if dest.is_file():
        return dest
    part = dest.with_name(f"{dest.name}.part")
    with _place_errors(source, dest, part):
        dest.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(dest.with_name(f"{dest.name}.lock")):
            if dest.is_file():  # another process has downloaded it meanwhile
                return dest
            part.touch()
            try:
                _receive_all(source, dest, part, on_progress, open_from or partial(_open, source, dest))
                _verify(source, part, source.remedy or f"try again, or put the right file at {dest}")
                return part.replace(dest)
            finally:
                if part.is_file() and not part.stat().st_size:
                    part.unlink()


def require_checksum(path: Path, checksum: str) -> None:
    """Raise UserError for a file in the cache that has another checksum, such as one that a disk has damaged.

    Args:
        checksum: as that of a `Download`.
    """
    found, expected = _digest(path, checksum)
    if not found.startswith(expected):
        raise UserError(f"{path} has checksum {found}, not {expected}", "delete it, and run the command again")


@contextmanager
def _place_errors(source: Download, dest: Path, part: Path) -> Iterator[None]:
    """Say in a sentence that the disk is full, or that the folder may not be written."""
    elsewhere = f"set {source.folder_variable} to a folder"
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            part.unlink(missing_ok=True)
            raise UserError(f"the disk of {dest.parent} is full, and {dest.name} of {source.url} does not fit",
                            f"free some space, or {elsewhere} on a larger disk") from error
        if error.errno in _NO_PLACE:
            raise UserError(f"{source.url} cannot be kept in {dest.parent} ({str(error.strerror).lower()})",
                            f"make that folder writable, or {elsewhere} that is") from error
        raise


def _receive_all(
    source: Download, dest: Path, part: Path, on_progress: OnProgress | None, open_from: OpenFrom,
) -> None:
    """Receive until the file is complete, and resume after each interruption."""
    pace, failures, failing_since = Pace(source.stall_seconds), 0, 0.0
    while True:
        progress, problem, unavailable = pace.progress, "", None
        pace.connect()
        try:
            if _receive(source, part, on_progress, open_from, pace):
                return
        except TransferError as error:
            problem = str(error)
        except UnavailableError as error:
            unavailable = error
        failures = 1 if pace.progress > progress else failures + 1
        if failures == 1:  # counted from its end: a process that was suspended fails once, and late
            failing_since = time.monotonic()
        if failures >= ATTEMPTS or time.monotonic() - failing_since > source.stall_seconds:
            if unavailable:
                raise unavailable
            received = part.stat().st_size
            kept = f"; {received:,} bytes are kept" if received else ""
            if problem:
                raise UserError(f"cannot fetch {source.url} ({problem}){kept}",
                                source.remedy or f"try again with a network, or put the file at {dest}")
            raise UserError(f"{source.url} was cut off {failures} times{kept}",
                            source.remedy or f"try again, or put the file at {dest}")
        time.sleep(0.1 * 2**failures)


def _verify(source: Download, part: Path, remedy: str) -> None:
    """Write the file to the disk, and compare its checksum; delete it if that differs."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())  # or else a loss of power may leave an incomplete file under the final name
    if not source.checksum:
        return
    found, expected = _digest(part, source.checksum)
    if not found.startswith(expected):
        part.unlink()
        error = ChecksumError(
            f"the file that {source.url} sent has checksum {found}, not {expected}, and was deleted", remedy)
        error.found = found
        raise error


def _digest(path: Path, checksum: str) -> tuple[str, str]:
    """The checksum of a file, and what it should begin with."""
    kind, _, expected = checksum.partition(":")
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest(), expected


@contextmanager
def _open(source: Download, dest: Path, start: int) -> Iterator[Answer]:
    """Request a file from an offset on."""
    if is_object_url(source.url):
        chunks, total = read_object(source.url, start)
        yield Answer(chunks, start, total)
        return
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        response = open_url(source.url, headers, TIMEOUT_SECONDS, RedirectRules(same_host=source.same_host))
    except urllib.error.HTTPError as error:
        error.close()
        problem = f"{error.code} {error.reason}"
        if error.code in RETRY_STATUS:
            raise TransferError(problem) from error
        if error.code != 416:
            raise UserError(f"{source.url} answers {problem}",
                            source.remedy or f"fetch it another way and put it at {dest}") from error
        response = None
    if response is None:  # the partial file has all bytes or more; the checksum decides
        yield Answer(iter(()), start, is_past_end=True)
        return
    with response:
        resumes = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        start = start if resumes else 0  # without range support the server sends the whole file
        rest = getattr(response, "length", None)  # http.client's reading of Content-Length; None if it is no number
        # read1 returns what has arrived: read would wait for a full block, however slowly it comes.
        yield Answer(iter(lambda: response.read1(1 << 18), b""), start, None if rest is None else start + rest)


def _receive(
    source: Download, part: Path, on_progress: OnProgress | None, open_from: OpenFrom, pace: Pace,
) -> bool:
    """Append the missing bytes to `part`. Returns whether the file is complete."""
    with receiving(partial(open_from, part.stat().st_size), min(BLOCK_SECONDS, source.stall_seconds)) as answer:
        if answer.is_past_end:
            return True
        received, total = answer.start, (answer.total or 0) if source.size is None else source.size
        with part.open("r+b" if received else "wb") as file:
            file.seek(received)
            if max(total, answer.total or 0) > source.limit:
                file.truncate(0)
                raise _too_large(source)
            _require_room(source, part.parent, total - received)
            for block in answer.blocks:
                if received + len(block) > source.limit:
                    file.truncate(0)
                    raise _too_large(source)
                file.write(block)
                received += len(block)
                if on_progress:
                    on_progress(received, max(total, received))
                pace.count(len(block))
        return received >= total


def _too_large(source: Download) -> UserError:
    return UserError(f"{source.url} sends more than the {source.limit:,} bytes that this file may have",
                     "check the address")


def _require_room(source: Download, folder: Path, needed: int) -> None:
    """Raise UserError before a download that the disk has no room for."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"{source.url} needs {needed:,} more bytes, and the disk of {folder} has {free:,} free",
                        f"free some space, or set {source.folder_variable} to a folder on a larger disk")
