"""Whether a path or a name means weights, or the folder of several runs: by the names of files. No torch.

`open_weights` reads what is recognized here.
"""

from __future__ import annotations

import re
from pathlib import Path

from alexnet._runtime.hub_address import is_hub_address
from alexnet.models.checkpoint_files import JSON_FILE
from alexnet.models.known_weights import official_name
from alexnet.models.packaged import is_packaged_json, packaged_path

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".tar", ".ckpt")
"""Endings of files that torch.save writes."""

EXPORT_SUFFIXES = (".onnx", ".pt2")
"""Endings of files that `alexnet export` writes and that have all of their checkpoint."""

CONFIG, WEIGHTS, MEAN = "config.json", "model.safetensors", "preprocess.safetensors"
"""The files of a folder in the Hugging Face layout."""


def runs_of_series(folder: Path) -> list[Path]:
    """The runs seed-0, seed-1, ... or fold-1, fold-2, ... of a folder that `train --seeds` or `--folds` wrote.

    Runs without a checkpoint are left out. Empty for anything else.
    """
    children = folder.iterdir() if folder.is_dir() and not is_weights(str(folder)) else ()
    runs = [child for child in children if re.fullmatch(r"(seed|fold)-\d+", child.name) and is_weights(str(child))]
    return sorted(runs, key=lambda run: int(run.name[5:]))


def is_weights(path_or_name: str) -> bool:
    """Whether a path or name means weights that `open_weights` reads, and not images. Nothing is read."""
    path = Path(path_or_name)
    if is_hub_address(path_or_name):
        return True
    if path.is_file():  # .tar is more often an archive of images
        return path.suffix in {*TORCH_SUFFIXES, ".safetensors", ".npy", *EXPORT_SUFFIXES} - {".tar"} or (
            path.name in (JSON_FILE, "config.json") or path.name.endswith(".pth.tar") or is_packaged_json(path))
    if path.is_dir():
        files = (WEIGHTS, MEAN, JSON_FILE, f"best/{JSON_FILE}", f"last/{JSON_FILE}")
        return any((path / file).is_file() for file in files)
    return (packaged_path(path_or_name) or official_name(path_or_name)) is not None
