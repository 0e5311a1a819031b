"""torchvision's AlexNet weights: download them by name, read and write its state dict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.cache import cache_folder
from alexnet._runtime.download import fetch
from alexnet._runtime.progress import Bar
from alexnet.architecture.presets import TORCHVISION
from alexnet.errors import UserError, require
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.state_dict import check_state_dict, name_outputs, read_state_dict, structure
from alexnet.models.provenance import file_provenance

ADDRESS = "https://download.pytorch.org/models/"
OFFICIAL = ("alexnet-owt-7be5be79.pth", "alexnet-owt-4df8aa71.pth")
"""torchvision's two files. Each name ends in the first eight digits of the file's SHA-256."""


def official_name(name: str) -> str | None:
    """The file that a name means: `torchvision`, or one of `OFFICIAL` with or without its ending; else None."""
    if name == "torchvision":
        return OFFICIAL[0]
    return next((file for file in OFFICIAL if name in (file, file.removesuffix(".pth"))), None)


def fetch_torchvision(name: str) -> Path:
    """Download one of the `OFFICIAL` files (244 MB) into the cache, unless it is there, and verify its checksum."""
    digest = name.removesuffix(".pth").rsplit("-", 1)[1]
    with Bar(f"fetching {ADDRESS}{name}", "bytes") as bar:
        return fetch(f"{ADDRESS}{name}", cache_folder() / "weights" / name, f"sha256:{digest}", bar)


def read_torchvision(path: Path, classes: Sequence[str] | None = None) -> Checkpoint:
    """Read a state dict of torchvision's alexnet, from torch.save (old pickle or zip) or safetensors.

    Args:
        path: the file.
        classes: names of the outputs; default: ImageNet's for 1,000 outputs, else unknown.

    Raises:
        UserError: the file is truncated, is no state dict, would run code, or has other layers.
    """
    state = read_state_dict(path)
    last = state.get("classifier.6.weight")
    if last is None or last.ndim == 0:
        begins = f", but begins with {next(iter(state))}" if state else ""
        raise UserError(f"{path} has no matrix classifier.6.weight",
                        f"it is not a state dict of torchvision's alexnet{begins}")
    arch = replace(TORCHVISION, classes=max(2, len(last)))
    assert isinstance(arch.input.mean, tuple)
    return Checkpoint(
        arch=arch, weights=check_state_dict(state, arch, path), **name_outputs(arch.classes, classes),
        mean_HWC=torch.tensor(arch.input.mean).reshape(1, 1, 3), provenance=file_provenance("torchvision", path))


def write_torchvision(saved: Checkpoint, path: Path) -> None:
    """Write a state dict that torchvision's alexnet, with as many classes, loads with `strict=True`.

    Raises:
        UserError: the network is not torchvision's.
    """
    arch = replace(TORCHVISION, classes=saved.arch.classes)
    require(structure(saved.arch) == structure(arch),
            f"{saved.arch.name} is not torchvision's network, whose state dict has no place for it",
            "export it to safetensors, onnx or torch-export")
    with torch.device("meta"):
        saved_keys, torchvision_keys = list(AlexNet(saved.arch).state_dict()), list(AlexNet(arch).state_dict())
    state = {key: saved.weights[saved_key] for key, saved_key in zip(torchvision_keys, saved_keys, strict=True)}
    replace_file(path, partial(torch.save, state))
