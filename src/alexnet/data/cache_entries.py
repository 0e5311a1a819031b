"""What lies in the user's cache (`alexnet cache`): packed images, downloads and others; their size, age and source."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alexnet._runtime.cache import cache_folder
from alexnet._runtime.locks import file_lock
from alexnet.data.manifest import JOURNAL, MANIFEST
from alexnet.data.packing import LOCK
from alexnet.errors import UserError, did_you_mean, require

OTHER = "downloads"
"""The kind of what is in no folder of a kind."""

KINDS = {
    "packed": "images resized for training; packed again from their source",
    "decompressed": "archives and Parquet files as plain tars; made again from them",
    "features": "outputs of a network for a whole split; computed again",
    "scans": "results of `alexnet check`; every image is decoded again",
    "streamed": "shards of streamed data; downloaded again",
    "weights": "pretrained weights; downloaded again",
    OTHER: "archives of CIFAR and other downloads; downloaded again",
}
"""Folder in the cache -> what is in it, and what its loss costs."""

_SUFFIX = ".removed"


@dataclass(frozen=True)
class CacheEntry:
    """A file or folder that is removed as a whole."""

    name: str
    """Its path below the cache folder: "packed/photos-64-0123456789ab-5"."""
    kind: str
    """One of `KINDS`."""
    path: str
    bytes: int
    age_days: float
    """Since it was last written."""
    source: str
    """What it was made from; "" if it does not say."""
    source_is_gone: bool
    """Whether the source was a file or folder that is no longer there, so that it cannot be made again."""
    is_unfinished: bool
    """Whether it was left by a packing that was stopped, and would be resumed."""


def cache_entries() -> list[CacheEntry]:
    """Everything in the cache, the largest first."""
    root, found = cache_folder(), []
    for child in sorted(root.iterdir()) if root.is_dir() else ():
        inside = sorted(child.iterdir()) if child.name in KINDS and child.is_dir() else [child]
        found += [_entry(root, path) for path in inside if path.suffix != ".lock"]
    return sorted(found, key=lambda entry: -entry.bytes)


def chosen_entries(entries: Sequence[CacheEntry], names: Sequence[str], older_than: float | None) -> list[CacheEntry]:
    """The entries that a user names.

    Args:
        entries: all of them.
        names: of entries, with or without the kind, or of kinds; "all" for everything.
        older_than: only those that were written more than so many days ago. Default: of any age.

    Raises:
        UserError: there is no entry or kind of a name.
    """
    chosen: dict[str, CacheEntry] = {}
    for name in names:
        meant = [entry for entry in entries if name in ("all", entry.kind, entry.name, entry.name.partition("/")[2])]
        if not meant and name not in ("all", *KINDS):
            raise UserError(f"the cache has no {name}", did_you_mean(name, [
                "all", *dict.fromkeys(entry.kind for entry in entries), *(entry.name for entry in entries)]))
        chosen |= {entry.name: entry for entry in meant}
    return [entry for entry in chosen.values() if older_than is None or entry.age_days > older_than]


def remove_entry(entry: CacheEntry) -> None:
    """Remove an entry. It is renamed first, so that an interrupted removal leaves nothing that looks complete.

    Raises:
        UserError: another process is writing it.
        OSError: it cannot be removed.
    """
    path = Path(entry.path)
    for lock in (path / LOCK, path.with_suffix(".lock"), path.with_name(f"{path.name}.lock")):
        if lock.is_file():
            with file_lock(lock, wait=False) as is_free:
                require(is_free, f"another process is writing {entry.name}", "wait until it has ended")
    doomed = path if path.name.endswith(_SUFFIX) else path.rename(path.with_name(path.name + _SUFFIX))
    if doomed.is_dir() and not doomed.is_symlink():
        shutil.rmtree(doomed)
    else:
        doomed.unlink()


def _entry(root: Path, path: Path) -> CacheEntry:
    files = [path] if not path.is_dir() or path.is_symlink() else [file for file in path.rglob("*") if file.is_file()]
    stats = [file.lstat() for file in files] or [path.lstat()]
    kind = path.parent.name if path.parent != root else OTHER
    source = _source(path) if kind == "packed" else ""
    return CacheEntry(
        path.relative_to(root).as_posix(), kind, str(path), sum(stat.st_size for stat in stats) if files else 0,
        max(0.0, time.time() - max(stat.st_mtime for stat in stats)) / 86400, source,
        Path(source).is_absolute() and not Path(source).exists(),
        (path / JOURNAL).is_file() and not (path / MANIFEST).is_file())


def _source(packed: Path) -> str:
    """What a packed folder's manifest or journal names as its source; it is shown and not trusted."""
    for name in (MANIFEST, JOURNAL):
        try:
            return str(json.loads((packed / name).read_text(encoding="utf-8"))["source"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return ""
