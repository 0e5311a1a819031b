"""Fetches a file that a user asked for by name: resumed where it was cut, checked before it counts."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

ATTEMPTS = 5
TIMEOUT_SECONDS = 30.0


def fetch(url: str, dest: Path, checksum: str, on_progress: Callable[[int, int], object] | None = None) -> Path:
    """The file at `url`, as `dest`; at once where it is there already. What arrived of it stays in `dest`.part.

    checksum: the publisher's, with its kind, whole or the beginning that the publisher gives: md5:..., sha256:7be5be79.
    on_progress: called with bytes there and bytes in all.
    Raises ValueError, in one sentence with the remedy, without a network or where the checksum differs.
    """
    if dest.is_file():
        return dest
    dest.parent.mkdir(parents=True, exist_ok=True)
    partial = dest.with_name(f"{dest.name}.part")
    kind, _, wanted = checksum.partition(":")
    for attempt in range(ATTEMPTS):
        try:
            if _receive(url, partial, on_progress):
                break
        except urllib.error.HTTPError as error:
            if error.code != 416:  # 416: we have all of it, or more; the checksum tells which
                raise ValueError(f"{url} answers {error.code} {error.reason}; fetch it another way and put it at "
                                 f"{dest}") from error
            break
        except (OSError, http.client.HTTPException) as error:
            if attempt == ATTEMPTS - 1:
                there = partial.stat().st_size if partial.exists() else 0
                raise ValueError(f"cannot fetch {url} ({error}); {there:,} bytes are kept: try again with a network, "
                                 f"or put the file at {dest}") from error
            time.sleep(0.2 * 2**attempt)
    else:
        raise ValueError(f"{url} was cut off {ATTEMPTS} times; what arrived is kept: try again, or put the file at "
                         f"{dest}")
    with partial.open("rb") as file:
        digest = hashlib.file_digest(file, kind).hexdigest()
    if not digest.startswith(wanted):
        partial.unlink()
        raise ValueError(f"what {url} sent has checksum {digest}, not {wanted}; it is thrown away: try again, or put "
                         f"the right file at {dest}")
    return partial.replace(dest)


def _receive(url: str, partial: Path, on_progress: Callable[[int, int], object] | None) -> bool:
    """Append what is missing; True if that is all there is."""
    there = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        ranged = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {there}-")
        there = there if ranged else 0  # a server without ranges begins anew
        total = there + int(answer.headers.get("Content-Length", 0))
        with partial.open("r+b" if there else "wb") as file:
            file.seek(there)
            while block := answer.read(1 << 20):
                file.write(block)
                there += len(block)
                if on_progress:
                    on_progress(there, max(total, there))
    return there >= total
