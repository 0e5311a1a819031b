"""Open weights in any format: checkpoint, run, Hugging Face folder, torchvision file, or the name `torchvision`."""

from __future__ import annotations

from pathlib import Path

from alexnet.errors import require
from alexnet.models import checkpoint
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.huggingface import MEAN, WEIGHTS, read_huggingface
from alexnet.models.formats.state_dict import TORCH_SUFFIXES
from alexnet.models.formats.torchvision import fetch_torchvision, official_name, read_torchvision


def open_weights(path_or_name: str | Path) -> Checkpoint:
    """Load the checkpoint that a path or name means.

    Args:
        path_or_name: a checkpoint, a run's folder, a folder in the Hugging Face layout, a file of torchvision's
        weights,
            or `torchvision` or one of `torchvision.OFFICIAL`, which is downloaded once into the cache.

    Raises:
        UserError: it is none of these, or is damaged.
    """
    path = Path(path_or_name)
    for required in (MEAN, checkpoint.HEAD):  # one file of a folder stands for the folder, which holds the rest
        if path.suffix in (".safetensors", ".json") and path.is_file() and (path.parent / required).is_file():
            path = path.parent
    if (path / WEIGHTS).is_file() or (path / MEAN).is_file():
        return read_huggingface(path)
    if path.is_file() and path.suffix in (*TORCH_SUFFIXES, ".safetensors"):
        return read_torchvision(path)
    require(not (path.is_file() and path.suffix == ".caffemodel"), f"{path} needs its mean image too",
            f"make a checkpoint of them with alexnet import {path} OUT --mean FILE")
    if not path.exists():
        official = official_name(str(path_or_name))
        require(official is not None, f"{path} does not exist",
                "give a run's folder, a checkpoint, a file or folder of weights, or the name torchvision")
        return read_torchvision(fetch_torchvision(str(official)))
    return checkpoint.load(path)
