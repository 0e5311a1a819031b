"""How much memory the decoding of an image takes, from its header: `decode` of images.py and `square` of square.py.

Measured as the growth of the resident memory by images of 9 million pixels: JPEG 3.1 bytes a pixel, 7.4 with bytes
after its last block, which Pillow decodes; progressive JPEG 9.0; CMYK JPEG 7.4, progressive 12.0; WebP 16.4; AVIF 9.4;
all others (PNG, GIF, BMP, TIFF, PPM) at most 8.0. To be turned upright, a JPEG takes 6.0, no more than to be decoded by
Pillow. A TIFF takes one tile or strip besides, a PNG its decompressed text.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from PIL import Image

from alexnet.data import heic, webp
from alexnet.data.images import TooManyReads, open_checked
from alexnet.data.png_text import compressed_text
from alexnet.data.tiff_layout import tiff_layout

JPEG, PROGRESSIVE_JPEG, OTHER = 8, 13, 12
"""Bytes a pixel. JPEG also in CMYK, and PROGRESSIVE_JPEG, whose coefficients take 6 or 8 until it is decoded."""
FIVE_COPIES = 20
"""WebP, AVIF, and HEIC, of which pillow-heif holds as many copies. While they are made, no other Python thread runs."""


HEADER_READS = 1000
"""Pieces in which a header is read: of a photo some dozens, read in a millisecond."""
UNKNOWN = 2**40
"""Memory of an image whose header has more."""


class DecodeCost(NamedTuple):
    """What decoding an image takes.

    Attributes:
        pixels: that the header states, of a TIFF's tile if it has more; 0 if `decode` would not accept the header, or
            it is too long to be read here.
        memory: bytes at most, with the file's own, a TIFF's tile and a PNG's text; UNKNOWN for a header that is too
            long.
        holds_lock: whether the decoder holds Python's lock (GIL) for a time that grows with the pixels: about 3 ns for
            each of them.
        is_exact: whether the decoder takes no more than the header states. The frame in an AVIF or HEIC file may be
            larger than the file says, and its size is known only to the decoder.
    """

    pixels: int
    memory: int
    holds_lock: bool
    is_exact: bool = True


def decode_cost(data: bytes | memoryview) -> DecodeCost:
    """Estimate the cost of decoding an image from its header."""
    pixels, per_pixel, text_bytes, is_exact = 0, 0, 0, True
    with contextlib.suppress(Exception):
        if heic.is_heic(data):
            pixels, per_pixel, is_exact = heic.pixels_in(data), FIVE_COPIES, False
        elif size := webp.size(data):
            pixels, per_pixel = size[0] * size[1], FIVE_COPIES
        elif layout := tiff_layout(data):  # Pillow would take a tenth of a second for the strips of some files
            layout.check()
            memory = layout.width * layout.height * OTHER + layout.piece_bytes + len(data)
            return DecodeCost(layout.pixels, memory, False)
        else:
            text_bytes = compressed_text(data, HEADER_READS)
            try:
                with open_checked(data, HEADER_READS) as image:
                    pixels, per_pixel = image.width * image.height, _bytes_per_pixel(image)
                    is_exact = image.format != "AVIF"
            except TooManyReads:
                return DecodeCost(0, UNKNOWN, True)
    return DecodeCost(pixels, pixels * per_pixel + text_bytes + len(data), per_pixel == FIVE_COPIES, is_exact)


def _bytes_per_pixel(image: Image.Image) -> int:
    if image.format == "AVIF":
        return FIVE_COPIES
    if image.format not in ("JPEG", "MPO"):
        return OTHER
    return PROGRESSIVE_JPEG if image.info.get("progressive") else JPEG
