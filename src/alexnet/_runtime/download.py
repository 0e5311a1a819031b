"""Fetches a file that a user asked for by name: resumed where it was cut, checked before it counts."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

OnProgress = Callable[[int, int], object]
"""Called with bytes there and bytes in all."""

ATTEMPTS = 5
"""In a row, none of which brought anything new."""
TIMEOUT_SECONDS = 15.0
BUSY = {408, 425, 429, 500, 502, 503, 504}
"""What a server answers that may answer otherwise in a moment."""


class Damaged(ValueError):
    """What was sent is not what was promised. It is thrown away."""


def fetch(
    url: str, dest: Path, checksum: str, on_progress: OnProgress | None = None, *, size: int = 0,
    same_host: bool = False, remedy: str = "",
) -> Path:
    """The file at `url`, as `dest`; at once where it is there already. What arrived of it stays in `dest`.part.

    checksum: the publisher's, with its kind, whole or the beginning that the publisher gives: md5:..., sha256:7be5be79;
    or nothing, for a file that tells by itself whether it is whole.
    on_progress: what it raises ends the fetch. size: in bytes, where known; it tells a cut that the server hides.
    same_host: refuse to be sent elsewhere. Of several processes that ask for the same file, one fetches it.
    Raises ValueError, in one sentence with the remedy, without a network, and Damaged where the checksum differs.
    """
    if dest.is_file():
        return dest
    dest.parent.mkdir(parents=True, exist_ok=True)
    with _alone(dest.with_name(f"{dest.name}.part")) as partial:
        if dest.is_file():  # it was fetched by whom we waited for
            return dest
        failures = furthest = 0
        while True:
            try:
                if _receive(url, partial, on_progress, size, same_host):
                    break
                problem = ""
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 416:  # we have all of it, or more; the checksum tells which
                    break
                problem = f"{error.code} {error.reason}"
                if error.code not in BUSY:
                    raise ValueError(f"{url} answers {problem}; "
                                     f"{remedy or f'fetch it another way and put it at {dest}'}") from error
            except (OSError, http.client.HTTPException) as error:
                problem = str(error)
            there = partial.stat().st_size
            failures, furthest = (1, there) if there > furthest else (failures + 1, furthest)
            if failures == ATTEMPTS:
                raise ValueError(
                    f"cannot fetch {url} ({problem}); {there:,} bytes are kept: "
                    f"{remedy or f'try again with a network, or put the file at {dest}'}" if problem else
                    f"{url} was cut off {ATTEMPTS} times; what arrived is kept: "
                    f"{remedy or f'try again, or put the file at {dest}'}")
            time.sleep(0.1 * 2**failures)
        if checksum:
            _check(url, partial, checksum, remedy or f"try again, or put the right file at {dest}")
        return partial.replace(dest)


def _check(url: str, partial: Path, checksum: str, remedy: str) -> None:
    kind, _, wanted = checksum.partition(":")
    with partial.open("rb") as file:
        digest = hashlib.file_digest(file, kind).hexdigest()
    if not digest.startswith(wanted):
        partial.unlink()
        raise Damaged(f"what {url} sent has checksum {digest}, not {wanted}; it is thrown away: {remedy}")


@contextlib.contextmanager
def _alone(partial: Path) -> Iterator[Path]:
    """The file, made if need be, for one process or thread at a time; an empty one does not stay."""
    while True:
        with partial.open("ab") as file:
            with contextlib.suppress(OSError):  # some network file systems have no locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_open(partial, file.fileno()):  # the one before us was done with it
                continue
            try:
                yield partial
            finally:
                if _is_open(partial, file.fileno()) and not partial.stat().st_size:
                    partial.unlink()
            return


def _is_open(path: Path, handle: int) -> bool:
    """Whether the open file still goes by that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


class _SameHost(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request: Any, answer: Any, code: int, text: str, headers: Any, url: str) -> Any:
        if (there := urlsplit(url).hostname) != (asked := urlsplit(request.full_url).hostname):
            raise ValueError(f"{asked} sends on to {there}, and no host but the one you named is asked; "
                             "if you trust it, give its address")
        return super().redirect_request(request, answer, code, text, headers, url)


def _receive(url: str, partial: Path, on_progress: OnProgress | None, size: int, same_host: bool) -> bool:
    """Append what is missing; True if that is all there is."""
    there = partial.stat().st_size
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})
    opener = urllib.request.build_opener(*([_SameHost] if same_host else []))
    with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
        ranged = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {there}-")
        there = there if ranged else 0  # a server without ranges begins anew
        total = size or there + int(answer.headers.get("Content-Length", 0))
        with partial.open("r+b" if there else "wb") as file:
            file.seek(there)
            while block := answer.read(1 << 18):
                file.write(block)
                there += len(block)
                if on_progress:
                    on_progress(there, max(total, there))
    return there >= total
