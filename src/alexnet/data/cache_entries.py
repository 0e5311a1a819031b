"""What lies in the user's cache (`alexnet cache`): packed images, downloads and others; their size, age and source."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from alexnet._runtime.cache import cache_folder
from alexnet._runtime.locks import file_lock
from alexnet.data.dataset import Dataset
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

_TEMPORARY = (".new", ".part")
"""Suffixes of a file that is being written: by `replace_file`, by a download."""


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
        for path in inside:
            with suppress(FileNotFoundError):  # another process has removed or renamed it since it was listed
                found += [_entry(root, path)] if path.suffix != ".lock" else []
    return sorted(found, key=lambda entry: -entry.bytes)


def chosen_entries(entries: Sequence[CacheEntry], names: Sequence[str], older_than: float | None) -> list[CacheEntry]:
    """The entries that a user names.

    Args:
        entries: all of them.
        names: of entries, with or without the kind, or of kinds; "all" for everything.
        older_than: only those that were written more than so many days ago. Default: of any age.

    Raises:
        UserError: there is no entry or kind of a name, or a name is empty.
    """
    chosen: dict[str, CacheEntry] = {}
    for name in names:
        require(bool(name), "--clear has an empty name", "name an entry, a kind, or all")
        meant = [entry for entry in entries if name in ("all", entry.kind, entry.name) or (
            "/" in entry.name and name == entry.name.partition("/")[2])]
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
    if path.name.endswith(_SUFFIX):  # of an interrupted removal; nobody writes it
        _delete(path)
        return
    with ExitStack() as held:
        for lock in _locks(path):
            is_free = held.enter_context(file_lock(lock, wait=False))
            require(is_free, f"another process is writing {entry.name}", "wait until it has ended")
        if path.is_symlink() or (os.name == "nt" and path.is_dir()):
            held.close()  # Windows renames no folder with an open file, and the lock files are such files
        doomed = path.with_name(path.name + _SUFFIX)
        _delete(doomed)  # of an interrupted removal
        _delete(path.rename(doomed))


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _locks(path: Path) -> list[Path]:
    """The lock files of every process that may be writing an entry. Those beside it need not exist.

    A download to NAME locks NAME.lock, and writes NAME.part. A decompression or copy to STEM.tar, and the computation
    of features or a scan, lock STEM.lock, and write STEM.tar.new. A pack locks `LOCK` in its folder.
    """
    target = path.with_suffix("") if path.suffix in _TEMPORARY else path
    locks = {target.with_suffix(".lock"), target.with_name(f"{target.name}.lock")}
    if path.is_dir():
        locks |= {path / LOCK, *(file for file in _files(path) if file.suffix == ".lock")}
    return sorted(locks)


def _files(folder: Path) -> list[Path]:
    """All files below a folder. Unlike `Path.rglob`, os.walk skips a folder that is removed meanwhile."""
    return [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]


def _entry(root: Path, path: Path) -> CacheEntry:
    stats = []
    for file in _files(path) if path.is_dir() and not path.is_symlink() else [path]:
        with suppress(FileNotFoundError):  # a running pack renames and removes its temporary files
            stats.append(file.lstat())
    size = sum(stat.st_size for stat in stats)
    stats = stats or [path.lstat()]
    kind = path.parent.name if path.parent != root else OTHER
    source = _source(path) if kind == "packed" else ""
    return CacheEntry(
        path.relative_to(root).as_posix(), kind, str(path), size,
        max(0.0, time.time() - max(stat.st_mtime for stat in stats)) / 86400, source,
        Path(source).is_absolute() and not Path(source).exists(),
        (path / JOURNAL).is_file() and not (path / MANIFEST).is_file())


def other_pack_note(dataset: Dataset, dest: Path) -> str:
    """Why images are packed into `dest` although the cache has a pack of their source at this side; "" if it has none.

    Args:
        dataset: the images that are packed now.
        dest: its folder in the cache, `NAME-SIDE-FINGERPRINT-FORMAT`.
    """
    name, _, version = dest.name.rsplit("-", 2)
    others = [entry for entry in cache_entries()
              if entry.kind == "packed" and entry.source == dataset.source and not entry.is_unfinished
              and entry.path != str(dest) and entry.name.rpartition("/")[2].rsplit("-", 2)[::2] == [name, version]]
    if not others:
        return ""
    by = dataset.grouping.by if dataset.grouping else None
    of_group = {entry.path: _manifest_value(Path(entry.path), "grouped_by") for entry in others}
    same = [entry for entry in others if of_group[entry.path] == by]
    other = min(same or others, key=lambda entry: entry.age_days)
    why = "the images, their names, dates or labels are not the same as then"
    if not same:
        then, now = (f"with --group {group}" if group else "without --group" for group in (of_group[other.path], by))
        why = (f"that was {then} and this is {now}, so other images are held out, and a pack holds its training and "
               "validation images apart")
    return (f"the cache has a pack of {dataset.source} already ({other.bytes / 1e6:,.0f} MB), but {why}; if it is not "
            f"needed any more: alexnet cache --clear {shlex.quote(other.name)}")


def _source(packed: Path) -> str:
    """What a packed folder's manifest or journal names as its source; it is shown and not trusted."""
    return _manifest_value(packed, "source") or ""


def _manifest_value(packed: Path, key: str) -> str | None:
    """A text of a packed folder's manifest or journal, unverified; None if there is none."""
    for name in (MANIFEST, JOURNAL):
        try:
            value = json.loads((packed / name).read_text(encoding="utf-8"))[key]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        return None if value is None else str(value)
    return None
