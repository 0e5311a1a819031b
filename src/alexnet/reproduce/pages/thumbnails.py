"""Thumbnails of images as data URIs, for pages that show many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet._runtime.page_style import data_uri
from alexnet.reproduce.figures.style import image_file

THUMBNAIL_SIDE = 112
"""Pixels. A thumbnail takes about 5 kB."""


def thumbnail(pixels_HWC: NDArray[np.uint8], side: int = THUMBNAIL_SIDE) -> str:
    """An image, made smaller to `side` pixels, as a data URI."""
    image = Image.fromarray(pixels_HWC)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return data_uri(image_file(np.asarray(image), "JPEG"), "jpeg")
