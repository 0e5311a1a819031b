"""Font of the figures: Inter in regular and semibold weight, its files in the package, and the width of a text.

The files in typeface/ are Inter 4.1 (SIL Open Font License, typeface/OFL.txt), cut down to Latin, Greek and Cyrillic
letters and mathematical signs, 40 kB each. A PNG is drawn with it. A text with other characters is drawn with a font of
the system that has them; without one it shows boxes. An SVG has the reader's sans-serif font, whose widths differ by
up to a tenth.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

CAP_HEIGHT = 0.727
"""Height of a capital letter and of a digit, as a part of the font size."""

LINE_HEIGHT = 1.2
"""Distance of two lines of text, as a part of the font size."""

SYSTEM_FONTS = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "msyh.ttc", "malgun.ttf", "arial.ttf")
"""Fonts for characters that Inter lacks, which Pillow finds where Linux, macOS and Windows keep fonts."""


def font(text: str, size: float, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font for a text, at a size in pixels."""
    found = _load(_file(text, bold=bold), size)
    assert found
    return found


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width of the longest line of a text, in the unit of `size`."""
    return max(font(line, 100.0, bold=bold).getlength(line) for line in text.split("\n")) * size / 100


@lru_cache(maxsize=4096)
def _file(text: str, *, bold: bool) -> str:
    """The first font that has all characters of a text; ours if none has."""
    own = str(Path(__file__).parent / "typeface" / f"Inter-{'SemiBold' if bold else 'Regular'}.ttf")
    candidates = () if text.isascii() else (own, *SYSTEM_FONTS)
    return next((file for file in candidates if (face := _load(file, 20.0)) and _has_all(face, text)), own)


def _has_all(face: ImageFont.FreeTypeFont, text: str) -> bool:
    missing = bytes(face.getmask("\uffff"))  # what a font shows for a character that it lacks
    return not any(bytes(face.getmask(character)) == missing for character in set(text) if not character.isspace())


@lru_cache(maxsize=64)
def _load(file: str, size: float) -> ImageFont.FreeTypeFont | None:
    """A font's file, or of a system's font its name; None if there is none."""
    try:
        # The basic layout engine is in every build of Pillow, so that a text has the same width everywhere.
        return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)
    except OSError:
        return None
