"""Encode pixels as PNG or JPEG files, and as data URIs, so that a page needs no request for its images."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet._runtime.page_style import data_uri

THUMBNAIL_SIDE = 112
"""Pixels. A thumbnail takes about 5 kB."""


def image_file(pixels: NDArray[np.uint8], kind: Literal["PNG", "JPEG"]) -> bytes:
    """Encode pixels [H, W, 3 or 4] as a file: "PNG", or "JPEG" at a tenth of the size."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **({"quality": 88} if kind == "JPEG" else {"compress_level": 6}))
    return file.getvalue()


def jpeg_uri(pixels_HWC: NDArray[np.uint8]) -> str:
    """The image as a data URI."""
    return data_uri(image_file(pixels_HWC, "JPEG"), "jpeg")


def smaller(pixels_HWC: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """An image of which no side has more than `side` pixels."""
    image = Image.fromarray(pixels_HWC)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def thumbnail(pixels_HWC: NDArray[np.uint8], side: int = THUMBNAIL_SIDE) -> str:
    """An image, made smaller to `side` pixels, as a data URI."""
    return jpeg_uri(smaller(pixels_HWC, side))
