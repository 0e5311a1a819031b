"""Fetch shards from a URL into a cache on disk of bounded size; evict the least recently used ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from alexnet._runtime.download import ChecksumError, Download, fetch
from alexnet.data.manifest import FileRecord

TRIES = 3
"""Downloads of a file whose checksum does not match, before that is an error."""

STALL_SECONDS = 60.0
"""How long a run that lasts for days waits for a network that has failed."""


def url_of(folder_url: str, name: str) -> str:
    """The URL of a file in the folder at a URL, which may end in a query, as signed URLs do."""
    parts = urlsplit(folder_url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


class ShardCache:
    """The files of a packed folder at a URL, in a local folder. Without a URL they are in that folder already.

    All files count, and only tars are evicted: the others are small, or downloads that another process may resume. What
    they take is missing for shards. Any number of threads and processes may use the same folder. A process that reads a
    shard keeps it in its memory map even if another one removes the file.
    """

    def __init__(
        self, folder: Path, files: Mapping[str, FileRecord], url: str = "", capacity_bytes: int = 0,
    ) -> None:
        """capacity_bytes: of all files in the folders beside `folder` together."""
        self.folder, self.files, self.url, self.capacity_bytes = folder, files, url, capacity_bytes
        self._arriving: dict[str, int] = {}
        self._lock = threading.Lock()

    def fetch(self, name: str, on_progress: Callable[[int, int], object] | None = None) -> Path:
        """Fetch a file if it is not in the cache, and verify its checksum.

        Args:
            on_progress: an exception that it raises ends the download.
        """
        path, record = self.folder / name, self.files[name]
        if not self.url or path.is_file():
            return path
        source = Download(
            url_of(self.url, name), f"sha256:{record.sha256}", record.bytes, size=record.bytes, same_host=True,
            remedy="try again; a run resumes with --resume", stall_seconds=STALL_SECONDS)
        download = partial(fetch, source, path, on_progress)
        with self._space_for(name):
            for _ in range(TRIES - 1):
                with suppress(ChecksumError):
                    return download()
            return download()

    def touch(self, name: str) -> None:
        """Mark a shard as used now."""
        if self.url:
            with suppress(FileNotFoundError):
                os.utime(self.folder / name)

    @contextmanager
    def _space_for(self, name: str) -> Iterator[None]:
        """Evict shards until the cache has space for this file, and reserve the space for the `with` block."""
        with self._lock:
            self._arriving[name] = self.files[name].bytes
            cached = self._least_recently_used_first()
            excess = sum(size for size, _ in cached) + sum(self._arriving.values()) - self.capacity_bytes
            for size, file in cached:
                if excess > 0 and file.suffix == ".tar":
                    file.unlink(missing_ok=True)
                    excess -= size
        try:
            yield
        finally:
            with self._lock:
                del self._arriving[name]

    def _least_recently_used_first(self) -> list[tuple[int, Path]]:
        """Bytes and path of each file in the cache, of this and other data sets, except those that arrive here."""
        arriving = {self.folder / f"{name}.part" for name in self._arriving}
        found = []
        for file in {*self.folder.parent.glob("*/*")} - arriving:
            with suppress(FileNotFoundError):  # another process may evict it at this moment
                status = file.stat()
                found.append((status.st_mtime_ns, status.st_size, file))
        return [(size, file) for _, size, file in sorted(found)]
