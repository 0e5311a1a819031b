"""Opens whatever a user names as weights: a checkpoint, a run, a hub folder, a torchvision file or its name."""

from __future__ import annotations

from pathlib import Path

from alexnet.errors import require
from alexnet.models import checkpoint
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.huggingface import MEAN, WEIGHTS, read_hub
from alexnet.models.formats.state_dict import TORCH_SUFFIXES
from alexnet.models.formats.torchvision import fetch_torchvision, official_name, read_torchvision


def open_weights(path_or_name: str | Path) -> Checkpoint:
    """The checkpoint meant: a checkpoint or run, a folder in the hub's layout, torchvision's file, or its name.

    A name is `torchvision` or one of `OFFICIAL`; it is fetched once from its official address into the cache.
    Raises ValueError, in one sentence with the remedy, for what is none of these, or damaged.
    """
    path = Path(path_or_name)
    for whole in (MEAN, checkpoint.HEAD):  # one file of a folder leaves out what the others say
        if path.suffix in (".safetensors", ".json") and path.is_file() and (path.parent / whole).is_file():
            path = path.parent
    if (path / WEIGHTS).is_file() or (path / MEAN).is_file():
        return read_hub(path)
    if path.is_file() and path.suffix in (*TORCH_SUFFIXES, ".safetensors"):
        return read_torchvision(path)
    require(not (path.is_file() and path.suffix == ".caffemodel"),
          f"{path} wants its mean image too; make a checkpoint of them with alexnet import {path} OUT --mean FILE")
    if not path.exists():
        official = official_name(str(path_or_name))
        require(bool(official), f"{path} does not exist; give a run's folder, a checkpoint, a file or folder of weights, "
              "or the name torchvision")
        return read_torchvision(fetch_torchvision(str(official)))
    return checkpoint.load(path)
