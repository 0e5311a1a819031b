"""Downloads a file: resumes a partial download and verifies the checksum before the file gets its name."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit
from urllib.request import Request

from alexnet._runtime.locks import file_lock
from alexnet._runtime.object_store import is_object_url, read_object
from alexnet.errors import UserError

OnProgress = Callable[[int, int], object]
"""Called with the bytes received so far and the bytes of the whole file."""

ATTEMPTS = 5
"""Consecutive attempts without a new byte before the download fails."""
TIMEOUT_SECONDS = 15.0
RETRY_STATUS = {408, 425, 429, 500, 502, 503, 504}
"""HTTP status codes after which the same request may succeed."""


class ChecksumError(UserError):
    """The downloaded bytes have another checksum than the publisher's. They have been deleted."""


def fetch(
    url: str, dest: Path, checksum: str, on_progress: OnProgress | None = None, *, size: int = 0,
    limit: int = 0, same_host: bool = False, remedy: str = "",
) -> Path:
    """Download `url` to `dest`, unless `dest` exists. If several processes ask for the same file, one downloads it.

    Args:
        checksum: kind and hexadecimal digest, or the digest's beginning as far as the publisher gives it:
            "md5:...", "sha256:7be5be79". Empty: the file is not verified.
        on_progress: an exception that it raises ends the download.
        size: bytes of the whole file, if known. It detects a truncated response that gives no length.
        limit: bytes that the file may have at most; default: `size`.
        same_host: refuse redirects to another host. Redirects from https to another scheme are always refused.
        remedy: what the user can do after a failure; default: put the file at `dest`.

    Returns:
        `dest`. After a failure the bytes received so far remain in `dest`.part, and the next call resumes there.

    Raises:
        UserError: the server refuses, the file is too large, or the network fails `ATTEMPTS` times.
        ChecksumError: the checksum differs.
    """
    if dest.is_file():
        return dest
    dest.parent.mkdir(parents=True, exist_ok=True)
    partial = dest.with_name(f"{dest.name}.part")
    with file_lock(dest.with_name(f"{dest.name}.lock")):
        if dest.is_file():  # another process has downloaded it meanwhile
            return dest
        partial.touch()
        try:
            _receive_all(Source(url, size, limit or size, same_host), dest, partial, on_progress, remedy)
            if checksum:
                _verify(url, partial, checksum, remedy or f"try again, or put the right file at {dest}")
            return partial.replace(dest)
        finally:
            if partial.is_file() and not partial.stat().st_size:
                partial.unlink()


@dataclass(frozen=True)
class Source:
    """What is downloaded: `url`, with the bytes that it has (0: unknown) and may have (0: any number)."""

    url: str
    size: int
    limit: int
    same_host: bool


def _receive_all(source: Source, dest: Path, partial: Path, on_progress: OnProgress | None, remedy: str) -> None:
    """Receive until the file is complete, and resume after each interruption."""
    failures, furthest, url = 0, 0, source.url
    while True:
        try:
            if _receive(source, partial, on_progress):
                return
            problem = ""
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # the partial file has all bytes or more; the checksum decides
                return
            problem = f"{error.code} {error.reason}"
            if error.code not in RETRY_STATUS:
                raise UserError(f"{url} answers {problem}",
                                remedy or f"fetch it another way and put it at {dest}") from error
        except (OSError, http.client.HTTPException) as error:
            problem = str(error)
        received = partial.stat().st_size
        failures, furthest = (1, received) if received > furthest else (failures + 1, furthest)
        if failures == ATTEMPTS:
            if problem:
                raise UserError(f"cannot fetch {url} ({problem}); {received:,} bytes are kept",
                                remedy or f"try again with a network, or put the file at {dest}")
            raise UserError(f"{url} was cut off {ATTEMPTS} times; what arrived is kept",
                            remedy or f"try again, or put the file at {dest}")
        time.sleep(0.1 * 2**failures)


def _verify(url: str, partial: Path, checksum: str, remedy: str) -> None:
    """Compare the checksum; delete the file if it differs."""
    kind, _, expected = checksum.partition(":")
    with partial.open("rb") as file:
        digest = hashlib.file_digest(file, kind).hexdigest()
    if not digest.startswith(expected):
        partial.unlink()
        raise ChecksumError(f"the file that {url} sent has checksum {digest}, not {expected}, and was deleted", remedy)


@dataclass
class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    """Refuse a redirect from https to another scheme and, with `same_host`, to another host."""

    same_host: bool

    def redirect_request(
        self, request: Request, answer: IO[bytes], code: int, text: str, headers: HTTPMessage, url: str,
    ) -> Request | None:
        target, requested = urlsplit(url).hostname, urlsplit(request.full_url).hostname
        if urlsplit(request.full_url).scheme == "https" != urlsplit(url).scheme:
            raise UserError(f"{requested} redirects from https to {url[:100]}, where a file is not authenticated",
                            "download the file another way")
        if self.same_host and target != requested:
            raise UserError(f"{requested} redirects to {target}, and only the host that you named is asked",
                            "if you trust that host, give its address")
        return super().redirect_request(request, answer, code, text, headers, url)


def _receive(source: Source, partial: Path, on_progress: OnProgress | None) -> bool:
    """Append the missing bytes to `partial`. Returns whether the file is complete."""
    received, size = partial.stat().st_size, source.size
    if is_object_url(source.url):
        chunks, total = read_object(source.url, received)
        return _append(source, partial, received, chunks, size or total, on_progress)
    request = urllib.request.Request(source.url, headers={"Range": f"bytes={received}-"} if received else {})
    opener = urllib.request.build_opener(_RedirectHandler(source.same_host))
    with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
        resumes = (response.status == 206
                   and response.headers.get("Content-Range", "").startswith(f"bytes {received}-"))
        received = received if resumes else 0  # without range support the server sends the whole file
        total = size or received + int(response.headers.get("Content-Length", 0))
        blocks = iter(lambda: response.read(1 << 18), b"")
        return _append(source, partial, received, blocks, total, on_progress)


def _append(
    source: Source, partial: Path, received: int, blocks: Iterable[bytes], total: int, on_progress: OnProgress | None,
) -> bool:
    """Write blocks behind the first `received` bytes of the file. Returns whether it has all `total` bytes then."""
    with partial.open("r+b" if received else "wb") as file:
        file.seek(received)
        for block in blocks:
            if source.limit and received + len(block) > source.limit:
                file.truncate(0)
                raise UserError(f"{source.url} sends more than the {source.limit:,} bytes that this file may have",
                                "check the address")
            file.write(block)
            received += len(block)
            if on_progress:
                on_progress(received, max(total, received))
    return received >= total
