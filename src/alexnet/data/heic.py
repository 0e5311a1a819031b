"""HEIC, the format of iPhone photos: decoded by pi-heif (the extra `heic`), with a limit of pixels by the header."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from alexnet.data.image_formats import HEIC, heic_is_supported, unsupported_format
from alexnet.data.remarks import Kind
from alexnet.errors import UserError, require

if TYPE_CHECKING:
    from pi_heif import HeifFile

PIXEL_LIMIT = 64_000_000
"""An image with more is refused by its header. Phones take 48 million."""


def is_heic(data: bytes | memoryview) -> bool:
    """Whether the file's header is that of HEIC."""
    return data[4:8] == b"ftyp" and unsupported_format(data) is HEIC


def pixels_in(data: bytes | memoryview) -> int:
    """The number of pixels that the header states."""
    width, height = _open(data).size
    return width * height


def load(data: bytes | memoryview, pixel_limit: int, remarks: set[Kind]) -> Image.Image:
    """Decode the primary image: upright, 8 bits. Raises UserError if it is too large, or pi-heif is not installed.

    `further_images` is added to `remarks` if there are others, such as those of a burst.
    """
    file, limit = _open(data), min(pixel_limit, PIXEL_LIMIT)
    width, height = file.size
    require(width * height <= limit, f"it has {width:,} x {height:,} pixels, more than {limit:,}")
    if len(file) > 1:
        remarks.add("further_images")
    with _readable_errors():
        image = file.to_pillow()
    if image.mode == "I;16":  # gray of 10 or 12 bits, which pi-heif shifts to the upper bits of 16
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image


@contextlib.contextmanager
def _readable_errors() -> Iterator[None]:
    """Raise UserError for what pi-heif raises for an invalid file, such as `Invalid input: Unspecified: ...`."""
    try:
        yield
    except (ValueError, EOFError):
        raise UserError("the HEIC file is truncated or damaged") from None


def _open(data: bytes | memoryview) -> HeifFile:
    if not heic_is_supported():
        raise UserError("it is HEIC, which is not supported without the extra heic", HEIC.remedy)
    from pi_heif import open_heif

    with _readable_errors():
        return open_heif(io.BytesIO(data))
