"""Open what DATA names, before packing: class folders, ImageNet's or CIFAR-10's archives, or the name of a data set."""

from __future__ import annotations

from pathlib import Path

from alexnet._runtime.cache import cache_folder
from alexnet.data.dataset import Dataset
from alexnet.data.image_formats import supported_extensions
from alexnet.data.sources.cifar10 import fetch_cifar10, open_cifar10
from alexnet.data.sources.embedded import open_embedded
from alexnet.data.sources.folders import open_folders
from alexnet.data.sources.ilsvrc import is_ilsvrc, open_ilsvrc
from alexnet.data.tree import FolderTree
from alexnet.errors import UserError, closest_match

NAMES = ("cifar10", "embedded")
"""Data sets that are opened by their names."""

_DATA = f"a folder with a folder of images for each class, a packed folder, or the name {' or '.join(NAMES)}"


def open_dataset(source: str | Path, *, held_out: float = 0.1, seed: int = 0) -> Dataset:
    """Open the data set that `source` names.

    Args:
        source: the path of a folder of class folders, of a folder with ILSVRC-2012's archives, or of CIFAR-10's binary
            archive; or a name: `cifar10`, downloaded once into the cache, or `embedded`, the images of scikit-image.
        held_out, seed: as for `layout.read_layout`; for class folders only.

    Raises:
        UserError: the source does not exist, or has no images to learn from.
    """
    path = Path(source)
    if (path / "checkpoint.json").is_file() or (path / "log.jsonl").is_file():
        raise UserError(f"{source} is a run or a checkpoint, not images", f"name the data, {_DATA}")
    if path.is_dir():
        return open_ilsvrc(path) if is_ilsvrc(path) else open_folders(FolderTree(path), held_out, seed)
    if path.suffix.lower() in supported_extensions() and path.is_file():
        raise UserError(f"{source} is one image", f"name the data, {_DATA}")
    if path.is_file():
        return open_cifar10(path)
    if str(source) == "cifar10":
        return open_cifar10(fetch_cifar10(cache_folder()))
    if str(source) == "embedded":
        return open_embedded()
    siblings = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    close = closest_match(path.name, [*NAMES, *sorted(siblings)])
    remedy = f"did you mean {close if close in NAMES else path.with_name(close)}?" if close else f"name {_DATA}"
    raise UserError(f"there is no {source}", remedy)
