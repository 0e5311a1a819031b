"""The tiles or strips of a TIFF's first page, from its bytes: a decoder allocates a whole one, and the file states it.

A file of 400 kB and 64 x 64 pixels may state a tile of 16,384 x 12,288, for which libtiff takes 600 MB. Pillow does not
compare the tile with the image, and makes an object for each strip of an uncompressed file. So both are limited here,
before Pillow opens the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from alexnet.data.image_formats import SAVE_AS
from alexnet.errors import UserError, require

TILE_PIXELS = 4096 * 4096
"""Pixels that a tile may have in any image. Writers make tiles of 128 to 1,024 a side, some of 4,096, also for smaller
images; a larger tile has at most a quarter more pixels than the image: a single tile, rounded up to multiples of 16."""

PIECES = 100_000
"""Tiles or strips of an image. Pillow takes 10 microseconds for each of an uncompressed file. One of 80 million pixels
has 20,000 tiles of 64 x 64."""

_WIDTH, _HEIGHT, _BITS, _SAMPLES, _ROWS, _PLANES, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 258, 277, 278, 284, 322, 323
_STRIP_OFFSETS, _TILE_OFFSETS = 273, 324
_LAYOUT = {_WIDTH: "ImageWidth", _HEIGHT: "ImageLength", _BITS: "BitsPerSample", _SAMPLES: "SamplesPerPixel",
           _ROWS: "RowsPerStrip", _PLANES: "PlanarConfiguration", _TILE_WIDTH: "TileWidth", _TILE_HEIGHT: "TileLength",
           _STRIP_OFFSETS: "StripOffsets", _TILE_OFFSETS: "TileOffsets"}

_MOST_TAGS = 65_535
"""A classic TIFF cannot have more."""

_BEGINNINGS = (b"II*\0", b"MM\0*", b"MM*\0", b"II\0*", b"II+\0", b"MM\0+")
"""Those that Pillow takes for a TIFF."""

_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""Field types of whole numbers: BYTE, SHORT, LONG, LONG8. The format allows SHORT, LONG and, in a BigTIFF, LONG8 for
these tags; Pillow refuses BYTE for most of them itself. Signed types are not allowed."""


@dataclass(frozen=True)
class TiffLayout:
    """How the first page of a TIFF is divided.

    Attributes:
        width, height: of the image, in pixels.
        piece_width, piece_height: of a tile or strip, in pixels; a strip is cut at the image's last row.
        piece_bytes: of a decoded tile or strip, which a decoder allocates.
        pieces: tiles or strips that the image needs, or that the file lists, if these are more.
    """

    width: int
    height: int
    piece_width: int
    piece_height: int
    piece_bytes: int
    pieces: int

    @property
    def pixels(self) -> int:
        """Pixels that take the decoder's time: of the image, or of a tile that is larger than it."""
        return max(self.width * self.height, min(self.piece_width * self.piece_height, TILE_PIXELS))

    def check(self) -> None:
        """Raise UserError for tiles that are too large for the image, or too many tiles or strips."""
        pixels = max(TILE_PIXELS, self.width * self.height * 5 // 4)
        require(self.piece_width * self.piece_height <= pixels,
                f"it has {self.width:,} x {self.height:,} pixels in tiles of {self.piece_width:,} x "
                f"{self.piece_height:,}, more than {pixels:,} pixels", SAVE_AS)
        require(self.pieces <= PIECES, f"it consists of {self.pieces:,} tiles or strips, more than {PIECES:,}", SAVE_AS)


def tiff_layout(data: bytes | memoryview) -> TiffLayout | None:
    """The layout that a TIFF states; None for other formats.

    Raises:
        UserError: its tags are incomplete, or may be read in two ways: Pillow and libtiff might take another layout.
    """
    if bytes(data[:4]) not in _BEGINNINGS:
        return None
    try:
        entries = _entries(data)
    except struct.error:
        raise UserError("its TIFF tags are incomplete", SAVE_AS) from None
    width, height = entries.get(_WIDTH, (0, 0)), entries.get(_HEIGHT, (0, 0))
    require(bool(width[1] and height[1]), "its TIFF tags state no size", SAVE_AS)

    def first(tag: int, default: int) -> int:
        return entries.get(tag, (1, default))[1] or default

    columns, rows = width[1], height[1]
    planes, samples = first(_PLANES, 1), first(_SAMPLES, 1)
    is_tiled = _TILE_WIDTH in entries or _TILE_HEIGHT in entries
    piece_width = first(_TILE_WIDTH, columns) if is_tiled else columns
    piece_height = first(_TILE_HEIGHT, rows) if is_tiled else min(first(_ROWS, rows), rows)
    row_bytes = -(-piece_width * (samples if planes == 1 else 1) * first(_BITS, 1) // 8)
    needed = -(-columns // piece_width) * -(-rows // piece_height) * (samples if planes == 2 else 1)
    listed = max(entries.get(tag, (0, 0))[0] for tag in (_STRIP_OFFSETS, _TILE_OFFSETS))
    return TiffLayout(columns, rows, piece_width, piece_height, row_bytes * piece_height, max(needed, listed))


def _entries(data: bytes | memoryview) -> dict[int, tuple[int, int]]:
    """Tag of the layout -> how many values it has, and the first of them; 0 without one.

    Raises struct.error at the end of the data.
    """
    order, is_big = "<" if data[:1] == b"I" else ">", 43 in data[2:4]
    require(not is_big or order == "<", "it is a big-endian BigTIFF, of which Pillow and libtiff read different tags",
            SAVE_AS)
    count_form, form, size = ("Q", "HHQ8s", 20) if is_big else ("H", "HHI4s", 12)
    [start] = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)
    [count] = struct.unpack_from(order + count_form, data, _index(start))
    start += struct.calcsize(count_form)
    found: dict[int, tuple[int, int]] = {}
    require(count <= _MOST_TAGS, f"it has {count:,} tags, more than {_MOST_TAGS:,}", SAVE_AS)
    for number in range(count):
        tag, kind, values, content = struct.unpack_from(order + form, data, _index(start + size * number))
        if tag in _LAYOUT:
            require(tag not in found, f"its tag {_LAYOUT[tag]} is there twice", SAVE_AS)
            require(kind in _NUMBERS, f"its tag {_LAYOUT[tag]} has the type {kind}, which is not a whole number",
                SAVE_AS)
            found[tag] = values, _first_value(data, order, kind, values, content)
    return found


def _first_value(data: bytes | memoryview, order: str, kind: int, values: int, content: bytes) -> int:
    """The first value of an entry: in its content, or where the content says."""
    if not values:
        return 0
    form = order + _NUMBERS[kind]
    if values * struct.calcsize(form) <= len(content):
        return int(struct.unpack_from(form, content)[0])
    [offset] = struct.unpack(order + ("Q" if len(content) == 8 else "I"), content)
    return int(struct.unpack_from(form, data, _index(offset))[0])


def _index(offset: int) -> int:
    """An offset that struct takes, and that is beyond the end of the data if it was."""
    return min(offset, 2**62)
