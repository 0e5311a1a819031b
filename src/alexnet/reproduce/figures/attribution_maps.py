"""Attribution maps: heat maps and gradients of one image, side by side with it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from alexnet.interpret.heat_map import Floats, heat_colors, heat_layer
from alexnet.reproduce.figures.axes import SMALL
from alexnet.reproduce.figures.drawing import Drawing

LAYER_SIDE = 448
"""Pixels of a heat map, of which a panel shows about 340."""

SIDE, GAP, TOP, FOOT, MARGIN = 151.0, 9.0, 38.0, 27.0, 4.0
"""Points: side of a panel, gap between panels, room above them for the title and below them for the color key, margin
on the left and right."""


def attribution_figure(
    view_HWC: NDArray[np.uint8], heat_maps: Mapping[str, Floats], gradients: Mapping[str, Floats], title: str,
) -> Drawing:
    """Draw an image, heat maps laid over it (in the colors of `interpret.heat_map`), and gradients (gray: zero).

    Args:
        view_HWC: the network's input as an image, uint8 [H, W, 3].
        heat_maps: title -> [h, w]; each is drawn with a color key below it.
        gradients: title -> [H, W, 3], with respect to the pixels.
        title: stands above the figure.
    """
    panels = 1 + len(heat_maps) + len(gradients)
    drawing = Drawing(_left(panels) - GAP + MARGIN, TOP + SIDE + FOOT, f"What the answer rests on: {title}")
    drawing.text(MARGIN, 4.0, title, 10.5, vertical="top", bold=True)
    _panel(drawing, 0, "network input", view_HWC)
    for number, (name, heat_HW) in enumerate(heat_maps.items(), 1):
        _panel(drawing, number, name, _gray(view_HWC))
        drawing.picture(heat_layer(heat_HW, LAYER_SIDE), _left(number), TOP, SIDE)
        _color_key(drawing, number, signed=bool(heat_HW.min() < 0))
    for number, (name, gradient_HWC) in enumerate(gradients.items(), 1 + len(heat_maps)):
        # Clip at the 99.9% quantile; scaled to its maximum, nearly every pixel would be gray.
        largest = float(np.quantile(np.abs(gradient_HWC), 0.999)) or 1.0
        pixels_HWC = 255 * np.clip(0.5 + 0.5 * gradient_HWC / largest, 0, 1)
        _panel(drawing, number, name, pixels_HWC.round().astype(np.uint8))
        _caption(drawing, number, 0.0, "gray: no effect")
    return drawing


def _gray(view_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image without color and of less contrast, over which the colors of a heat map are easy to see."""
    return (view_HWC.mean(axis=2, keepdims=True).repeat(3, 2) * 0.6 + 90).astype(np.uint8)


def _left(number: int) -> float:
    return MARGIN + number * (SIDE + GAP)


def _panel(drawing: Drawing, number: int, title: str, pixels_HWC: NDArray[np.uint8]) -> None:
    drawing.text(_left(number), TOP - 6, title, SMALL)
    drawing.picture(pixels_HWC, _left(number), TOP, SIDE)


def _caption(drawing: Drawing, number: int, position: float, text: str) -> None:
    """Write under a panel; position: 0 at its left edge, 1 at its right edge."""
    drawing.text(_left(number) + position * SIDE, TOP + SIDE + 13, text, 8, "quiet",
                 anchor="end" if position else "start", vertical="top")


def _color_key(drawing: Drawing, number: int, *, signed: bool) -> None:
    place = (_left(number), TOP + SIDE + 4.5, SIDE, 5.0)
    drawing.picture(np.full((1, 1, 3), 165, np.uint8), *place)
    drawing.picture(heat_colors(np.linspace(-1.0 if signed else 0.0, 1.0, 256)[None]), *place)
    _caption(drawing, number, 0.0, "against the class" if signed else "no effect")
    _caption(drawing, number, 1.0, "for the class")
