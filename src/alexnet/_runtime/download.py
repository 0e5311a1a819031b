"""Downloads a file: resumes a partial download and verifies the checksum before the file gets its name."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
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
    same_host: bool = False, remedy: str = "",
) -> Path:
    """Download `url` to `dest`, unless `dest` exists. If several processes ask for the same file, one downloads it.

    Args:
        checksum: kind and hexadecimal digest, or the digest's beginning as far as the publisher gives it:
            "md5:...", "sha256:7be5be79". Empty: the file is not verified.
        on_progress: an exception that it raises ends the download.
        size: bytes of the whole file, if known. It detects a truncated response that gives no length.
        same_host: refuse redirects to another host.
        remedy: what the user can do after a failure; default: put the file at `dest`.

    Returns:
        `dest`. After a failure the bytes received so far remain in `dest`.part, and the next call resumes there.

    Raises:
        UserError: the server refuses, or the network fails `ATTEMPTS` times.
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
            _receive_all(url, dest, partial, on_progress, size, same_host, remedy)
            if checksum:
                _verify(url, partial, checksum, remedy or f"try again, or put the right file at {dest}")
            return partial.replace(dest)
        finally:
            if partial.is_file() and not partial.stat().st_size:
                partial.unlink()


def _receive_all(
    url: str, dest: Path, partial: Path, on_progress: OnProgress | None, size: int, same_host: bool, remedy: str,
) -> None:
    """Receive until the file is complete, and resume after each interruption."""
    failures = furthest = 0
    while True:
        try:
            if _receive(url, partial, on_progress, size, same_host):
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


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Refuse a redirect to another host."""

    def redirect_request(
        self, request: Request, answer: IO[bytes], code: int, text: str, headers: HTTPMessage, url: str,
    ) -> Request | None:
        target, requested = urlsplit(url).hostname, urlsplit(request.full_url).hostname
        if target != requested:
            raise UserError(f"{requested} redirects to {target}, and only the host that you named is asked",
                            "if you trust that host, give its address")
        return super().redirect_request(request, answer, code, text, headers, url)


def _receive(url: str, partial: Path, on_progress: OnProgress | None, size: int, same_host: bool) -> bool:
    """Append the missing bytes to `partial`. Returns whether the file is complete."""
    received = partial.stat().st_size
    if is_object_url(url):
        chunks, total = read_object(url, received)
        return _append(partial, received, chunks, size or total, on_progress)
    request = urllib.request.Request(url, headers={"Range": f"bytes={received}-"} if received else {})
    opener = urllib.request.build_opener(*([_SameHost] if same_host else []))
    with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
        resumes = (response.status == 206
                   and response.headers.get("Content-Range", "").startswith(f"bytes {received}-"))
        received = received if resumes else 0  # without range support the server sends the whole file
        total = size or received + int(response.headers.get("Content-Length", 0))
        return _append(partial, received, iter(lambda: response.read(1 << 18), b""), total, on_progress)


def _append(
    partial: Path, received: int, blocks: Iterable[bytes], total: int, on_progress: OnProgress | None,
) -> bool:
    """Write blocks behind the first `received` bytes of the file. Returns whether it has all `total` bytes then."""
    with partial.open("r+b" if received else "wb") as file:
        file.seek(received)
        for block in blocks:
            file.write(block)
            received += len(block)
            if on_progress:
                on_progress(received, max(total, received))
    return received >= total
