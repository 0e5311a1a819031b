"""torch.export programs (.pt2): a network that torch loads and runs, at any batch size, without this package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.parity import Runner, example_input, exporter_silenced


def write(network: nn.Module, saved: Checkpoint, path: Path, *, from_pixels: bool) -> None:
    """Write a program, with the class names as its extra file classes.json."""
    with exporter_silenced():
        # Two images, because the exporters make a constant of a batch of one.
        program = torch.export.export(
            network, (example_input(saved, 2, from_pixels),), dynamic_shapes=({0: torch.export.Dim("images")},))
        with path.open("wb") as file:
            torch.export.save(program, file, extra_files={"classes.json": json.dumps(saved.classes)})


def read(path: Path) -> Runner:
    """Load a program."""
    with exporter_silenced(), path.open("rb") as file:
        module = torch.export.load(file).module()

    def run(inputs: Tensor) -> NDArray[np.float32]:
        with torch.inference_mode():
            return module(inputs).numpy()

    return run
