"""The stored square of an image (§2): rescale the shorter side to 256 pixels, and crop the central square."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet._runtime import native
from alexnet.errors import require


def square(pixels_HWC: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Rescale the shorter side to `side`, and crop the central square (§2): uint8 [side, side, 3].

    Bilinear and antialiased, bit-identical to Pillow. The longer side is rounded down and the square's corner to the
    nearest pixel, as in torchvision. Raises UserError for an image without pixels.
    """
    height, width, _ = pixels_HWC.shape
    shorter = min(height, width)
    require(shorter > 0, f"an image of {width} x {height} pixels is empty", "give an image with at least one pixel")
    rows, columns = side * height // shorter, side * width // shorter
    top, left = round((rows - side) / 2), round((columns - side) / 2)
    if (rows, columns) != (height, width) and height <= 2 * width <= 8 * height:
        # The kernel rescales the rows before the columns. Pillow does the same, except with tall images.
        rescaled = native.resize_and_crop(pixels_HWC, rows, columns, top, left, side)
        if rescaled is not None:
            return rescaled
    image = Image.fromarray(np.ascontiguousarray(pixels_HWC))
    if max(height, width) > 4 * shorter:
        # Only the square is rescaled: a strip of 1 x 5,000 would otherwise become one of 256 x 1,280,000.
        per_column, per_row = width / columns, height / rows
        right, bottom = min((left + side) * per_column, width), min((top + side) * per_row, height)
        return np.array(image.resize(
            (side, side), Image.Resampling.BILINEAR, (left * per_column, top * per_row, right, bottom)))
    if (rows, columns) != (height, width):
        image = image.resize((columns, rows), Image.Resampling.BILINEAR)
    # A copy: Pillow's own pixels are read-only, and torch warns of such arrays.
    return np.asarray(image)[top:top + side, left:left + side].copy()
