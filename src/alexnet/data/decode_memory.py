"""How much memory the decoding of an image takes, from its header: `decode` of images.py and `square` of square.py.

Measured as the growth of the resident memory by images of 9 million pixels: JPEG 3.1 bytes a pixel, progressive JPEG
9.0, CMYK JPEG 11.4, WebP 16.4, AVIF 9.4, all others (PNG, GIF, BMP, TIFF, PPM) at most 8.0. An image that its EXIF
orientation turns takes 3 more.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from PIL import Image

from alexnet.data import heic, webp
from alexnet.data.image_formats import pillow_formats
from alexnet.data.images import ImageFile, TooManyReads, quiet_pillow

ORIENTED = 3
"""Bytes a pixel of an upright copy."""
JPEG, PROGRESSIVE_JPEG, CMYK_JPEG, OTHER = 4 + ORIENTED, 10 + ORIENTED, 12 + ORIENTED, 9 + ORIENTED
FIVE_COPIES = 20
"""WebP, AVIF, and HEIC, of which pillow-heif holds as many copies. While they are made, no other Python thread runs."""


HEADER_READS = 1000
"""Pieces in which a header is read: of a photo some dozens, read in a millisecond."""
UNKNOWN = 2**40
"""Memory of an image whose header has more."""


class DecodeCost(NamedTuple):
    """What decoding an image takes.

    Attributes:
        pixels: that the header states; 0 if `decode` would not accept the header, or it is too long to be read here.
        memory: bytes at most, with the file's own; UNKNOWN for a header that is too long.
        holds_lock: whether the decoder holds Python's lock (GIL) for a time that grows with the pixels: about 3 ns for
            each of them.
    """

    pixels: int
    memory: int
    holds_lock: bool


def decode_cost(data: bytes | memoryview) -> DecodeCost:
    """Estimate the cost of decoding an image from its header."""
    quiet_pillow()
    pixels, per_pixel = 0, 0
    with contextlib.suppress(Exception):
        if heic.is_heic(data):
            pixels, per_pixel = heic.pixels_in(data), FIVE_COPIES
        elif size := webp.size(data):
            pixels, per_pixel = size[0] * size[1], FIVE_COPIES
        else:
            try:
                with Image.open(ImageFile(data, HEADER_READS), formats=pillow_formats()) as image:
                    pixels, per_pixel = image.width * image.height, _bytes_per_pixel(image)
            except TooManyReads:
                return DecodeCost(0, UNKNOWN, True)
    return DecodeCost(pixels, pixels * per_pixel + len(data), per_pixel == FIVE_COPIES)


def _bytes_per_pixel(image: Image.Image) -> int:
    if image.format == "AVIF":
        return FIVE_COPIES
    if image.format not in ("JPEG", "MPO"):
        return OTHER
    if image.mode == "CMYK":
        return CMYK_JPEG
    return PROGRESSIVE_JPEG if image.info.get("progressive") else JPEG
