"""Font of the figures: Inter in regular and semibold weight, its files in the package, and the width of a text.

The files in typeface/ are Inter 4.1 (SIL Open Font License, typeface/OFL.txt), cut down to Latin, Greek and Cyrillic
letters and mathematical signs, 40 kB each. A PNG is drawn with it, and shows a box for a character that it lacks. An
SVG has the reader's sans-serif font, whose widths differ by up to a tenth.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

CAP_HEIGHT = 0.727
"""Height of a capital letter and of a digit, as a part of the font size."""

LINE_HEIGHT = 1.2
"""Distance of two lines of text, as a part of the font size."""


@lru_cache(maxsize=64)
def font(size: float, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font at a size in pixels."""
    file = Path(__file__).parent / "typeface" / f"Inter-{'SemiBold' if bold else 'Regular'}.ttf"
    # The basic layout engine is in every build of Pillow, so that a text has the same width everywhere.
    return ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.BASIC)


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width of the longest line of a text, in the unit of `size`."""
    return max(font(100.0, bold=bold).getlength(line) for line in text.split("\n")) * size / 100
