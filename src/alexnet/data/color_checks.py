"""TIFF, PNG and BMP files that Pillow reads with wrong colors: corrected if the file is clear, else refused by name."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin, TiffTags

from alexnet.data.image_formats import SAVE_AS
from alexnet.data.remarks import Kind
from alexnet.errors import UserError, require

_NEARLY_BLACK, _DARK = 15, 63
"""16-bit colors, of which Pillow keeps the upper 8 bits, are at most this if they hold 12 bits, or 14."""


def correct_header(image: Image.Image, data: bytes | memoryview) -> None:
    """Correct or refuse what the header shows, before the pixels are loaded. Raises UserError."""
    if image.format == "TIFF":
        _check_tiff(image)
    elif image.format == "PNG" and (header := png_chunk(data, b"IHDR")):
        _correct_transparency(image, depth=header[8])


def correct_pixels(image: Image.Image, data: bytes | memoryview, remarks: set[Kind]) -> None:
    """Correct, refuse (UserError) or remark on what the pixels show."""
    if image.format == "TIFF" and image.mode in ("P", "PA"):
        _correct_palette(image)
    if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        image.putalpha(255)  # the writer has left its alpha channel empty; all other readers ignore it too
    if image.mode in ("RGB", "RGBA", "LA", "CMYK") and _has_16_bits(image, data):
        extremes = np.array(image.getextrema())
        high = int(extremes[: 1 if image.mode == "LA" else 3, 1].max())  # not of alpha
        require(not 0 < high <= _NEARLY_BLACK,
                f"it has 16 bits a color and no value above {high * 256 + 255:,}, so it may hold 12 bits",
                "scale it to 16 bits, or save it with 8 bits")
        if 0 < high <= _DARK and not (image.format == "PNG" and png_chunk(data, b"sBIT")):
            remarks.add("unused_bits")


def tiff_tag(image: Image.Image, name: str, default: Any = None) -> Any:
    """The value of a TIFF tag, the first if there is one for each sample."""
    value = image.tag_v2.get(_TAGS[name], default)  # type: ignore[attr-defined]  # a TiffImageFile
    return value[0] if isinstance(value, tuple) and value else value


_TAGS = {tag.name: number for number, tag in TiffTags.TAGS_V2.items()}


def png_chunk(data: bytes | memoryview, kind: bytes) -> bytes:
    """The content of a PNG's first chunk of this kind before the pixels; empty if there is none."""
    position = 8
    while (head := bytes(data[position : position + 8])) and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4])
        if head[4:] == kind:
            return bytes(data[position + 8 : position + 8 + length])
        position += 12 + length
    return b""


# --- TIFF -------------------------------------------------------------------------------------------------------------


def describe_tiff(data: bytes | memoryview) -> str:
    """What kind of TIFF this is, for one that Pillow does not read: its bits, samples and colors."""
    file = io.BytesIO(data)
    tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
    file.seek(tags.next)
    tags.load(file)
    names = ("BitsPerSample", "SampleFormat", "PhotometricInterpretation", "ExtraSamples", "Compression")
    values = {name: tags[_TAGS[name]] for name in names if _TAGS[name] in tags}
    said = ", ".join(f"{name} {value[0] if isinstance(value, tuple) and len(value) == 1 else value}"
                     for name, value in values.items())
    return f"its kind of TIFF is not supported ({said}{', big-endian' * (data[:2] == b'MM')})"


def _check_tiff(image: Image.Image) -> None:
    tags = image.tag_v2  # type: ignore[attr-defined]
    require(_DNG_VERSION not in tags, "it is a camera raw file (DNG), of which only the thumbnail could be decoded",
            SAVE_AS)
    require(not (tags.get(_TAGS["NewSubfileType"], 0) & 1), "its first page is a thumbnail of another page",
            "save the page that you mean as a file of its own")
    compression, bits = image.info.get("compression"), tiff_tag(image, "BitsPerSample", 1)
    if image.mode in ("1", "L", "I", "I;16", "I;16B", "F") and compression not in _FAX:
        require(_TAGS["PhotometricInterpretation"] in tags,
                "its tag PhotometricInterpretation is missing, so 0 may be black or white", "save it again")
    # Pillow takes the 16 bits of one color for two samples of 8.
    require(compression != "raw" or bits <= 8 or tiff_tag(image, "PlanarConfiguration", 1) == 1,
            f"it is an uncompressed TIFF with separate planes of {bits} bits, which is not supported", SAVE_AS)
    # Pillow swaps the bytes of each sample, although its library has swapped them.
    native = {"little": "II", "big": "MM"}[sys.byteorder].encode()
    require(compression == "raw" or image.mode not in ("I", "F") or tags.prefix[:2] == native,
            f"it is a compressed TIFF of {bits} bits in the other byte order, which is not supported", SAVE_AS)


_DNG_VERSION = 0xC612
_FAX = ("tiff_ccitt", "group3", "group4")


def _correct_palette(image: Image.Image) -> None:
    """A color map has 16 bits. Some writers fill only the lower 8, which Pillow drops: all colors become black."""
    colors = np.array(image.tag_v2[_TAGS["ColorMap"]])  # type: ignore[attr-defined]
    if 0 < colors.max() < 256:
        image.putpalette(colors.reshape(3, -1).T.astype(np.uint8).tobytes())


# --- PNG --------------------------------------------------------------------------------------------------------------


def _correct_transparency(image: Image.Image, depth: int) -> None:
    """Scale the transparent value as Pillow scales the pixels. Raises UserError if Pillow drops the lower bits.

    Pillow compares the value of the chunk tRNS, which has the file's depth, with pixels of 8 bits.
    """
    transparent = image.info.get("transparency")
    if image.mode == "L" and isinstance(transparent, int):
        image.info["transparency"] = (transparent & (2**depth - 1)) * 255 // (2**depth - 1)
    elif image.mode == "RGB" and isinstance(transparent, tuple):
        if depth == 16:
            raise UserError("it is a PNG of 16 bits a color with a transparent color (tRNS)",
                            "save it with an alpha channel, or with 8 bits")
        image.info["transparency"] = tuple(value & 255 for value in transparent)


def _has_16_bits(image: Image.Image, data: bytes | memoryview) -> bool:
    if image.format == "TIFF":
        return bool(tiff_tag(image, "BitsPerSample", 1) == 16)
    return image.format == "PNG" and png_chunk(data, b"IHDR")[8:9] == b"\x10"
