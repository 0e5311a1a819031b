"""A sheet of images and text: all images are pasted into one picture, which is much faster than an axes for each."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from alexnet.reproduce.figures.style import WholeFigure

DPI = 160
"""Dots per inch of the images, as `save_figure` writes PNG files."""


class Sheet:
    """Images, text and bars at positions in inches, from the top left corner.

    matplotlib takes about 15 ms to set up, lay out and draw an axes, and a sheet may have 200 images.
    """

    def __init__(self, width: float, height: float) -> None:
        self._size = width, height
        self._figure = WholeFigure(figsize=(width, height))
        # White and transparent, so that resampling gives the images no dark edges.
        self._pixels_HWC = np.full((round(height * DPI), round(width * DPI), 4), (255, 255, 255, 0), np.uint8)

    def image(
        self, pixels_HWC: NDArray[np.uint8], x: float, y: float, side: float,
        resampling: Image.Resampling = Image.Resampling.LANCZOS,
    ) -> None:
        """Paste an image, uint8 [H, W, 3], that is as wide as high."""
        left, top, pixels = round(x * DPI), round(y * DPI), round(side * DPI)
        scaled_HWC = np.asarray(Image.fromarray(pixels_HWC).resize((pixels, pixels), resampling))
        place_HWC = self._pixels_HWC[top : top + pixels, left : left + pixels]
        place_HWC[..., :3], place_HWC[..., 3] = scaled_HWC[: len(place_HWC), : place_HWC.shape[1]], 255

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write a line of text whose top is at `y`; `style` as for `matplotlib.text.Text`."""
        width, height = self._size
        self._figure.text(x / width, 1 - y / height, text, **({"va": "top"} | style))

    def bar(self, x: float, y: float, width: float, height: float, **style: Any) -> None:
        """Fill a rectangle; `style` as for `matplotlib.patches.Rectangle`."""
        whole_width, whole_height = self._size
        self._figure.add_artist(Rectangle(
            (x / whole_width, 1 - (y + height) / whole_height), width / whole_width, height / whole_height,
            transform=self._figure.transFigure, linewidth=0, **style))

    def figure(self) -> Figure:
        """The figure with everything on it."""
        axes = self._figure.add_axes((0, 0, 1, 1), zorder=-1)
        axes.set_axis_off()
        axes.imshow(self._pixels_HWC, aspect="auto")
        return self._figure
