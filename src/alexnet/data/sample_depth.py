"""Gray images of 16 and 32 bits, signed, or of floats (TIFF, PNG, PNM) -> 8 bits, if it is known which value is white.

Pillow's own conversion clips them to white. What is white is stated by the format or a tag; where nothing states it and
the values allow two readings, the image is refused: a wrong guess would make it nearly black without a visible reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet.data.color_checks import png_chunk, tiff_tag
from alexnet.data.remarks import Kind
from alexnet.errors import UserError, require

Samples = NDArray[np.integer | np.floating]

_WHITE_8, _WHITE_16 = 255.0, 65535.0
_EXPANDED = 257
"""65535 / 255: an 8-bit image that was expanded to 16 bits holds multiples of this."""

_AMBIGUOUS_16 = 4095
"""A 16-bit image without higher values may hold 12 bits. As 16 bits it would be nearly black (at most 16 of 255)."""

UNUSED_BITS = 16383
"""A 16-bit image without higher values may hold 14 bits, which would be shown at a quarter of their brightness."""

_REMEDY = "save it with 8 bits, or with a tag that states the value of white (TIFF SMaxSampleValue)"


def is_deep(image: Image.Image) -> bool:
    """Whether this module must convert the image: gray with more than 8 bits, or signed."""
    return image.mode.startswith(("I", "F")) or (image.mode == "L" and _is_signed(image))


def eight_bits(image: Image.Image, strips: Callable[[], Iterable[tuple[slice, Image.Image]]],
               data: bytes | memoryview, remarks: set[Kind]) -> NDArray[np.uint8]:
    """Scale the samples of a gray image so that black becomes 0 and white 255.

    Args:
        image: of one of Pillow's modes I;16, I, F, or L with signed samples.
        strips: the image in strips of rows, so that copies stay small.
        data: the bytes of the file.
        remarks: `unused_bits` is added if nothing states the depth, and the upper two of 16 bits are not used.

    Returns:
        uint8 [height, width].

    Raises:
        UserError: if values are not finite, or it is unknown which value is white.
    """
    extremes = np.array([(values.min(), values.max())
                         for _, strip in strips() for values in [_samples(strip, image)]], float)
    low, high = float(extremes[:, 0].min()), float(extremes[:, 1].max())  # NaN if any value is NaN
    require(bool(np.isfinite((low, high)).all()), "it has pixels that are not numbers")
    stated = _stated_range(image, data, low, high)
    black, white = stated or _usual_range(image, strips, low, high)
    if not stated and white == _WHITE_16 and _AMBIGUOUS_16 < high <= UNUSED_BITS and not _is_expanded(strips):
        remarks.add("unused_bits")
    if image.format == "TIFF" and tiff_tag(image, "PhotometricInterpretation") == 0:  # WhiteIsZero
        black, white = white, black
    transparent = png_chunk(data, b"tRNS") if image.format == "PNG" else b""
    gray_HW = np.empty((image.height, image.width), np.uint8)
    for rows, strip in strips():
        samples_HW = _samples(strip, image)
        values_HW = samples_HW.astype(np.float32)
        values_HW -= np.float32(black)
        values_HW *= np.float32(255 / (white - black))
        gray_HW[rows] = np.rint(values_HW, out=values_HW)
        if transparent:
            gray_HW[rows][samples_HW == int.from_bytes(transparent[:2])] = 255  # composited over white
    return gray_HW


def _samples(strip: Image.Image, image: Image.Image) -> Samples:
    """The values as the file means them: Pillow reads unsigned 32 bits as signed, and signed 8 bits as unsigned."""
    samples_HW = np.asarray(strip)
    if image.format == "TIFF" and image.mode == "L":
        return samples_HW.view(np.int8)
    if image.format == "TIFF" and image.mode == "I" and not _is_signed(image):
        return samples_HW.view(np.uint32)
    return samples_HW


def _is_signed(image: Image.Image) -> bool:
    return image.format == "TIFF" and tiff_tag(image, "SampleFormat", 1) == 2


def _stated_range(image: Image.Image, data: bytes | memoryview, low: float, high: float) -> tuple[float, float] | None:
    """The values of black and white that the file states, or None."""
    if image.format == "PPM" and image.mode == "I":
        return 0.0, _WHITE_16  # Pillow has scaled by the maxval of the header
    if image.format == "PNG" and (bits := png_chunk(data, b"sBIT")):
        # PNG's samples fill 16 bits, whatever their depth. A writer that left the upper bits empty has ignored that.
        unscaled = 2.0 ** bits[0] - 1
        return 0.0, unscaled if 8 <= bits[0] < 16 and 0 < high <= unscaled and high % _EXPANDED else _WHITE_16
    if image.format != "TIFF":
        return None
    bits_per_sample = tiff_tag(image, "BitsPerSample", 1)
    if image.mode == "I;16" and bits_per_sample < 16:  # 12-bit samples
        return 0.0, 2.0**bits_per_sample - 1
    black, white = tiff_tag(image, "SMinSampleValue"), tiff_tag(image, "SMaxSampleValue")
    if white is not None and (black is not None or not _is_signed(image)):
        black = black or 0.0
        require(black < white and black <= low and high <= white,
                f"it has values from {low:g} to {high:g}, outside its SMinSampleValue {black:g} to SMaxSampleValue "
                f"{white:g}", _REMEDY)
        return float(black), float(white)
    white = tiff_tag(image, "MaxSampleValue")
    # TIFF 6.0 means statistics by this tag, but writers state the depth with it: 4095 for 12 bits.
    if image.mode == "I;16" and white in {2**bits - 1 for bits in range(8, 17)} and high <= white:
        return 0.0, float(white)
    return None


def _usual_range(image: Image.Image, strips: Callable[[], Iterable[tuple[slice, Image.Image]]], low: float,
                 high: float) -> tuple[float, float]:
    """Black and white of samples about which the file states nothing. Raises UserError if they are ambiguous."""
    wide = [_WHITE_8] * (high <= _WHITE_8) + [_WHITE_16] * (_AMBIGUOUS_16 < high <= _WHITE_16)
    if image.mode == "F":
        kind, whites = "floats", [1.0] * (high <= 1) + wide
    elif image.mode == "I" and tiff_tag(image, "BitsPerSample", 32) == 32:
        kind, whites = "integers of 32 bits", wide
    elif _is_signed(image):
        kind, whites = "signed integers", []
    else:
        kind, whites = "integers of 16 bits", [_WHITE_16]
        if 0 < high <= _AMBIGUOUS_16 and not _is_expanded(strips):
            whites = []
    if low < 0 or not whites:
        raise UserError(f"its pixels are {kind} from {low:g} to {high:g}, and it does not state which value is white",
                        _REMEDY)
    return 0.0, whites[0]


def _is_expanded(strips: Callable[[], Iterable[tuple[slice, Image.Image]]]) -> bool:
    """Whether all samples are those of an 8-bit image that was expanded to 16 bits."""
    return not any((np.asarray(strip) % _EXPANDED).any() for _, strip in strips())
