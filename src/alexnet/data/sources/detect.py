"""What a user calls DATA -> a data set: a folder of classes, ImageNet's or CIFAR-10's archives, or a name."""

from __future__ import annotations

import os
from pathlib import Path

from alexnet.data.dataset import Dataset, SourceImage
from alexnet.data.sources.cifar10 import fetch_cifar10, open_cifar10
from alexnet.data.sources.embedded import open_embedded
from alexnet.data.sources.folders import EXTENSIONS, open_folders
from alexnet.data.sources.ilsvrc import is_ilsvrc, open_ilsvrc
from alexnet.errors import closest_match

__all__ = ["NAMES", "Dataset", "SourceImage", "cache_folder", "open_dataset"]

NAMES = ("cifar10", "embedded")

_DATA = f"a folder with a folder of images for each class, a packed folder, or the name {' or '.join(NAMES)}"


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/alexnet, or ~/.cache/alexnet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alexnet"


def open_dataset(source: str | Path, *, held_out: float = 0.1, seed: int = 0) -> Dataset:
    """The data set that `source` names.

    A path: class folders (`folders.open_folders`), a folder with ILSVRC-2012's archives, or CIFAR-10's binary archive.
    A name: `cifar10`, fetched once from its official address into the cache; `embedded`, scikit-image's images.
    Raises ValueError, in one sentence with the remedy, where there is nothing that can be learnt from.
    """
    path = Path(source)
    if (path / "checkpoint.json").is_file() or (path / "log.jsonl").is_file():
        raise ValueError(f"{source} is a run or a checkpoint and no images; name the data, {_DATA}")
    if path.is_dir():
        return open_ilsvrc(path) if is_ilsvrc(path) else open_folders(path, held_out, seed)
    if path.suffix.lower() in EXTENSIONS and path.is_file():
        raise ValueError(f"{source} is one image; name the data, {_DATA}")
    if path.is_file():
        return open_cifar10(path)
    if str(source) == "cifar10":
        return open_cifar10(fetch_cifar10(cache_folder()))
    if str(source) == "embedded":
        return open_embedded()
    beside = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    close = closest_match(path.name, [*NAMES, *sorted(beside)])
    meant = f"did you mean {close if close in NAMES else path.with_name(close)}?" if close else f"name {_DATA}"
    raise ValueError(f"there is no {source}; {meant}")
