"""Attribution maps: heat maps and gradients of one image, side by side with it."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from alexnet.interpret.heat_map import Floats, heat_colors, heat_layer
from alexnet.reproduce.figures.style import QUIET, STYLE

LAYER_SIDE = 448
"""Pixels of a heat map, of which a panel shows about 340."""

SIDE, GAP, TOP, FOOT = 2.1, 0.12, 0.48, 0.34
"""Inches: side of a panel, gap between panels, room above them for the title and below them for the color key."""


@matplotlib.rc_context(STYLE)
def attribution_figure(
    view_HWC: NDArray[np.uint8], heat_maps: Mapping[str, Floats], gradients: Mapping[str, Floats], title: str,
) -> Figure:
    """Draw an image, heat maps laid over it (in the colors of `interpret.heat_map`), and gradients (gray: zero).

    Args:
        view_HWC: the network's input as an image, uint8 [H, W, 3].
        heat_maps: title -> [h, w]; each is drawn with a color key below it.
        gradients: title -> [H, W, 3], with respect to the pixels.
        title: stands above the figure.
    """
    panels = 1 + len(heat_maps) + len(gradients)
    figure = Figure(figsize=(panels * (SIDE + GAP) - GAP, TOP + SIDE + FOOT))
    figure.text(0.0, 1.0, title, va="top", fontsize=10.5, fontweight="bold")
    _panel(figure, 0, "network input").imshow(view_HWC, interpolation="lanczos")
    gray_HWC = _gray(view_HWC)
    for number, (name, heat_HW) in enumerate(heat_maps.items(), 1):
        axes = _panel(figure, number, name)
        axes.imshow(gray_HWC, interpolation="lanczos")
        layer_HWC = heat_layer(heat_HW, LAYER_SIDE)
        axes.imshow(layer_HWC, extent=(-0.5, gray_HWC.shape[1] - 0.5, gray_HWC.shape[0] - 0.5, -0.5))
        _color_key(figure, number, signed=bool(heat_HW.min() < 0))
    for number, (name, gradient_HWC) in enumerate(gradients.items(), 1 + len(heat_maps)):
        # Clip at the 99.9% quantile; scaled to its maximum, nearly every pixel would be gray.
        largest = float(np.quantile(np.abs(gradient_HWC), 0.999)) or 1.0
        _panel(figure, number, name).imshow(np.clip(0.5 + 0.5 * gradient_HWC / largest, 0, 1), interpolation="lanczos")
        _caption(figure, number, 0.0, "gray: no effect")
    return figure


def _gray(view_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image without color and of less contrast, over which the colors of a heat map are easy to see."""
    return (view_HWC.mean(axis=2, keepdims=True).repeat(3, 2) * 0.6 + 90).astype(np.uint8)


def _panel(figure: Figure, number: int, title: str) -> Axes:
    width, height = figure.get_size_inches()
    axes = figure.add_axes((number * (SIDE + GAP) / width, FOOT / height, SIDE / width, SIDE / height))
    axes.set_axis_off()
    axes.set_title(title, fontsize=9, fontweight="normal", pad=5)
    return axes


def _caption(figure: Figure, number: int, position: float, text: str) -> None:
    """Write under a panel; position: 0 at its left edge, 1 at its right edge."""
    width, height = figure.get_size_inches()
    figure.text((number * (SIDE + GAP) + position * SIDE) / width, (FOOT - 0.17) / height, text, va="top",
                ha=("left", "center", "right")[round(2 * position)], fontsize=8, color=QUIET)


def _color_key(figure: Figure, number: int, *, signed: bool) -> None:
    width, height = figure.get_size_inches()
    key = figure.add_axes((number * (SIDE + GAP) / width, (FOOT - 0.13) / height, SIDE / width, 0.07 / height))
    key.imshow(np.full((1, 1, 3), 165, np.uint8), extent=(0, 1, 0, 1), aspect="auto")
    key.imshow(heat_colors(np.linspace(-1.0 if signed else 0.0, 1.0, 256)[None]), extent=(0, 1, 0, 1), aspect="auto")
    key.set_axis_off()
    _caption(figure, number, 0.0, "against the class" if signed else "no effect")
    _caption(figure, number, 1.0, "for the class")

