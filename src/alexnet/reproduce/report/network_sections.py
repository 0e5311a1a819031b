"""Report sections on the network: kernels of conv1, architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from alexnet._runtime.image_encoding import image_file
from alexnet._runtime.page_style import data_uri
from alexnet.architecture.arithmetic import Layer, explain
from alexnet.models import checkpoint as ckpt
from alexnet.reproduce.figures.figure2 import network_diagram
from alexnet.reproduce.figures.figure3 import (
    RANDOM_COLOR,
    RANDOM_SMOOTHNESS,
    colorfulness,
    conv1_in_rgb,
    conv1_towers,
    kernel_sheet,
    smoothness,
)
from alexnet.reproduce.figures.svg import svg
from alexnet.reproduce.report.run_data import RunData


@dataclass(frozen=True)
class Kernels:
    """conv1's kernels as an image, and how far they are from random weights."""

    image: str
    """A data: URI."""
    count: int
    side: int
    towers: int
    part: str
    """What each of them is called: "tower" or "group"."""
    color: Sequence[float]
    """Share of color in each tower's kernels."""
    random_color: float
    """The same for random weights."""
    smoothness: float
    look_random: bool


def kernels(run: RunData) -> Kernels:
    """conv1's kernels, tower by tower (Figure 3)."""
    arch = run.checkpoint.arch
    towers, weight_OIHW = conv1_towers(arch), conv1_in_rgb(run.checkpoint)
    smooth = smoothness(weight_OIHW)
    sheet = data_uri(image_file(conv1_sheet(run.checkpoint), "PNG"), "png")
    return Kernels(sheet, arch.conv[0].width, arch.conv[0].kernel, towers, arch.part_name,
                   colorfulness(weight_OIHW, towers), RANDOM_COLOR, smooth, smooth < RANDOM_SMOOTHNESS)


def conv1_sheet(checkpoint: ckpt.Checkpoint) -> NDArray[np.uint8]:
    """conv1's kernels as one RGBA image, about 1000 pixels wide."""
    arch = checkpoint.arch
    return kernel_sheet(conv1_in_rgb(checkpoint), conv1_towers(arch),
                        scale=max(1, round(1000 / (16 * arch.conv[0].kernel))))


@dataclass(frozen=True)
class Architecture:
    """Every layer with the arithmetic of its output size and its parameters."""

    layers: Sequence[Layer]
    diagram: Markup
    drawn: Sequence[Layer]
    """The layers that the diagram shows."""
    parameters: int
    size: int
    """Side of the input in pixels."""
    multiply_adds: int


def architecture(run: RunData) -> Architecture:
    """The network's diagram and its table of layers."""
    explanation = explain(run.checkpoint.arch)
    diagram = svg(network_diagram(run.checkpoint.arch))
    drawn = [layer for layer in explanation.layers if f'data-layer="{layer.name}"' in diagram]
    # Make the first part of each layer reachable by keyboard, with a text for screen readers.
    for layer in drawn:
        text = escape(f"{layer.name}: {'×'.join(map(str, layer.output_shape))}. {typeset(layer.worked)}")
        part = f' data-layer="{layer.name}"'
        diagram = diagram.replace(part, f' tabindex="0" role="img" aria-label="{text}"{part}', 1)
    return Architecture(explanation.layers, Markup(diagram), drawn, explanation.parameters, explanation.size,
                        explanation.multiply_adds)


def typeset(arithmetic: str) -> str:
    """Worked arithmetic with mathematical signs: "3 x 11" -> "3×11"."""
    return arithmetic.replace(" x ", "×").replace("*", "·").replace(" - ", " − ")
