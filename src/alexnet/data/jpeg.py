"""JPEG: strict decoding, which refuses missing pixels but not a missing end-of-image marker; limit of scans."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from alexnet.data.remarks import Kind
from alexnet.errors import require

SCAN_LIMIT = 32
"""Scans of a JPEG; progressive ones have a dozen. Every scan passes over all pixels, even one of thirty bytes: a file
of 100 kB could take minutes."""

SEGMENT_LIMIT = 4096
"""Segments of a JPEG: tables, scans, and pieces of at most 64 kB of a color profile or a thumbnail. A file of 20 MB
could state five million empty ones, which take seconds to count."""

_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA

#: Start-of-frame markers, which list the components: C0 to CF but for three that mean something else.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

#: All markers except restarts and the escape of a byte 255, which may occur anywhere in the coded pixels.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")

#: libjpeg's warnings of absent or damaged pixels, whose place it would fill with gray. Its other warnings, such as of a
#: stray byte between two blocks, concern no pixel.
_MISSING_PIXELS = re.compile("premature end|bad huffman code|instead of rst", re.IGNORECASE)

#: libjpeg's warning of bytes after the last block. Of 80 copies of ImageNet's images with one flipped bit, 15 had 10 to
#: 60 such bytes, and up to 60% of their pixels were wrong. But a program may also have added bytes to a whole image.
#: Damage that changes the pixels and not the number of blocks causes no warning and cannot be detected.
_LEFTOVER_BYTES = re.compile("extraneous bytes before marker", re.IGNORECASE)


def decode_strictly(
    data: bytes | memoryview, width: int, height: int, colors: str, remarks: set[Kind],
) -> NDArray[np.uint8] | None:
    """Decode a JPEG of this size, unless something is wrong with it.

    A file that lacks only its end-of-image marker is decoded too: all its pixels are there.

    Args:
        colors: "RGB" (also for gray images), or "CMYK", whose values are as in the file.
        remarks: `leftover_bytes` is added if the file may be damaged.

    Returns:
        uint8 [height, width, 3 or 4]; None if what is wrong may concern no pixel, so that Pillow should try.

    Raises:
        UserError: if pixels are missing or damaged.
    """
    try:
        return _decode(data, width, height, colors)
    except Exception as error:
        fault = str(error)
    if "premature end of jpeg file" in fault.lower() and _is_complete(bytes(data)):
        with contextlib.suppress(Exception):
            return _decode(bytes(data) + bytes([0xFF, _END_OF_IMAGE]), width, height, colors)
    require(not _MISSING_PIXELS.search(fault), f"it is truncated or damaged ({fault})")
    if _LEFTOVER_BYTES.search(fault):
        remarks.add("leftover_bytes")
    return None


def _decode(data: bytes | memoryview, width: int, height: int, colors: str) -> NDArray[np.uint8]:
    """Decode into an array of this size, so that nothing larger is allocated. A failure frees the array."""
    pixels_HWC = np.empty((height, width, len(colors)), np.uint8)
    return simplejpeg.decode_jpeg(data, colors, buffer=pixels_HWC, strict=True)


def inverted_cmyk(pixels_HWC: NDArray[np.uint8]) -> Image.Image:
    """A CMYK image of a JPEG's values: 255 is no ink in a JPEG, as Adobe writes it, and 0 is no ink in Pillow.

    Pillow assumes the same of every CMYK JPEG. The array is inverted in place and shared, since it may be large.
    """
    np.invert(pixels_HWC, out=pixels_HWC)
    height, width, _ = pixels_HWC.shape
    return Image.frombuffer("CMYK", (width, height), pixels_HWC, "raw", "CMYK", 0, 1)


def refuse_many_scans(data: bytes) -> None:
    """Raise UserError if the JPEG has more scans than SCAN_LIMIT, or more segments than SEGMENT_LIMIT."""
    scans = 0
    for number, (marker, _) in enumerate(_segments(data), 1):
        scans += marker == _START_OF_SCAN
        require(scans <= SCAN_LIMIT, f"it has more than {SCAN_LIMIT} scans")
        require(number <= SEGMENT_LIMIT, f"it has more than {SEGMENT_LIMIT:,} segments")


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and position of each segment of the first image.

    Not those within a segment (a thumbnail) or after the image's end (a video).
    """
    position = 2
    while (found := _MARKER.search(data, position)) and (marker := found[0][1]) != _END_OF_IMAGE:
        yield marker, found.end() + 2
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2])


def _is_complete(data: bytes) -> bool:
    """Whether the scans that begin in the file code every bit of every coefficient.

    A progressive JPEG that is cut between two scans decodes without a warning, but not to all its detail.
    """
    absent: dict[int, set[int]] = {}  # for each component, the coefficients (0 to 63) whose last bit no scan has coded
    try:
        for marker, start in _segments(data):
            if marker in _START_OF_FRAME:
                absent = {data[start + 6 + 3 * number]: set(range(64)) for number in range(data[start + 5])}
            elif marker == _START_OF_SCAN:
                count = data[start]
                first, last, bits = data[start + 1 + 2 * count : start + 4 + 2 * count]
                for number in range(count):
                    if bits & 15 == 0:
                        absent[data[start + 1 + 2 * number]] -= set(range(first, last + 1))
    except (IndexError, KeyError, ValueError):
        return False
    return bool(absent) and not any(absent.values())
