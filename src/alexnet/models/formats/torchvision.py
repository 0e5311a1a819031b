"""Weights of others, in and out: torchvision's state dicts, and the layout of the Hugging Face hub.

What comes in becomes a `Checkpoint`: the network that the weights are for, the preprocessing that they want, and the
names of their classes. Files are read with `weights_only=True` or as safetensors: nothing in them is executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.download import fetch
from alexnet._runtime.progress import Bar
from alexnet.architecture.presets import TORCHVISION
from alexnet.data.sources.detect import cache_folder
from alexnet.errors import require
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.state_dict import fit, name_classes, provenance, read_state_dict, structure

#: torchvision's two files and where it keeps them; each name ends in the first eight digits of the file's SHA-256.
ADDRESS = "https://download.pytorch.org/models/"
OFFICIAL = ("alexnet-owt-7be5be79.pth", "alexnet-owt-4df8aa71.pth")


# --- torchvision, in --------------------------------------------------------------------------------------------------


def official_name(name: str) -> str | None:
    """The file of torchvision's that a name means; None for any other name."""
    if name == "torchvision":
        return OFFICIAL[0]
    return next((file for file in OFFICIAL if name in (file, file.removesuffix(".pth"))), None)


def fetch_torchvision(name: str) -> Path:
    """One of the `OFFICIAL` files (244 MB), from the cache, or from its official address, checked against its name."""
    digest = name.removesuffix(".pth").rsplit("-", 1)[1]
    with Bar(f"fetching {ADDRESS}{name}", "bytes") as bar:
        return fetch(f"{ADDRESS}{name}", cache_folder() / "weights" / name, f"sha256:{digest}", bar)


def read_torchvision(path: Path, classes: Sequence[str] | None = None) -> Checkpoint:
    """A state dict of torchvision's alexnet, as torch saved it (old pickle or zip) or as safetensors.

    Training scripts wrap it (`state_dict`, `model`) and DataParallel writes `module.` into its keys; both come off.
    classes: names for its outputs; ImageNet's where there are 1,000 and none are given, else numbers.
    Raises ValueError for a file that is cut off, is no state dict, would run code, or has other layers.
    """
    state = read_state_dict(path)
    last = state.get("classifier.6.weight")
    require(last is not None and last.ndim > 0, f"{path} has no matrix classifier.6.weight; it is not a state dict of "
          "torchvision's alexnet" + (f", but begins with {next(iter(state))}" if state else ""))
    assert last is not None
    arch = replace(TORCHVISION, classes=max(2, len(last)))
    assert isinstance(arch.input.mean, tuple)
    return Checkpoint(
        arch=arch, classes=name_classes(arch.classes, classes), weights=fit(state, arch, path),
        mean_HWC=torch.tensor(arch.input.mean).reshape(1, 1, 3), provenance=provenance("torchvision", path))


# --- torchvision, out -------------------------------------------------------------------------------------------------


def write_torchvision(saved: Checkpoint, path: Path) -> None:
    """The weights as a state dict that torchvision's alexnet loads with `strict=True` (num_classes = ours).

    Raises ValueError for a network that is not torchvision's.
    """
    arch = replace(TORCHVISION, classes=saved.arch.classes)
    require(structure(saved.arch) == structure(arch),
          f"{saved.arch.name} is not torchvision's network, whose state dict has no place for it; export it to "
          "safetensors, onnx or torch-export")
    with torch.device("meta"):
        ours, theirs = AlexNet(saved.arch).state_dict(), AlexNet(arch).state_dict()
    state = {their: saved.weights[our] for our, their in zip(ours, theirs, strict=True)}
    replace_file(path, partial(torch.save, state))
