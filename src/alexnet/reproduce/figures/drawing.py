"""Drawing of a figure: lines, areas, text and images at positions in points (1/72 inch) from the top left corner.

`svg.py` and `png.py` write it as a file. Colors are names of the page's palette, so that an SVG follows the reader's
light or dark theme.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet.reproduce.figures.fonts import CAP_HEIGHT, LINE_HEIGHT

Point: TypeAlias = tuple[float, float]
Color = Literal["ink", "quiet", "faint", "paper", "blue", "red"]
Anchor = Literal["start", "middle", "end"]

NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""Characters that an SVG file cannot hold. A file name that is not UTF-8 has some (surrogates)."""


def xml_text(text: str) -> str:
    """Text with a replacement character for each one that an SVG file cannot hold."""
    return NOT_IN_XML.sub("\ufffd", text)


@dataclass(frozen=True)
class Path:
    """A line through points, or an area if it is filled."""

    points: Sequence[Point]
    stroke: Color | None = None
    width: float = 1.0
    """Of the line, in points."""
    dashes: tuple[float, ...] = ()
    """Lengths of dash, gap, dash, ... in line widths; () is solid."""
    stroke_opacity: float = 1.0
    fill: Color | None = None
    fill_opacity: float = 1.0
    closed: bool = False
    layer: str = ""
    """The network's layer that this is a part of: `data-layer` in the SVG, by which a page finds it."""


@dataclass(frozen=True)
class Circle:
    """A circle, filled or as an outline."""

    center: Point
    radius: float
    stroke: Color | None = None
    width: float = 1.0
    fill: Color | None = None


@dataclass(frozen=True)
class Text:
    """One line of text; `y` is its baseline."""

    x: float
    y: float
    text: str
    size: float = 10.0
    color: Color = "ink"
    anchor: Anchor = "start"
    bold: bool = False
    rotated: bool = False
    """Written upward: turned counterclockwise by 90 degrees."""


@dataclass(frozen=True)
class Picture:
    """Pixels uint8 [H, W, 3 or 4] that fill a rectangle."""

    x: float
    y: float
    width: float
    height: float
    pixels: NDArray[np.uint8]
    resampling: Image.Resampling = Image.Resampling.LANCZOS


Shape: TypeAlias = Path | Circle | Text | Picture


@dataclass
class Canvas:
    """Shapes; a later one covers an earlier one."""

    shapes: list[Shape] = field(default_factory=list, init=False)

    def line(
        self, points: Sequence[Point], color: Color, width: float = 1.0, *, dashes: tuple[float, ...] = (),
        opacity: float = 1.0,
    ) -> None:
        """Draw a line through points."""
        self.shapes.append(Path(points, color, width, dashes, opacity))

    def area(
        self, points: Sequence[Point], fill: Color | None, opacity: float = 1.0, *, stroke: Color | None = None,
        width: float = 1.0, layer: str = "",
    ) -> None:
        """Fill a polygon; `opacity` is that of the fill."""
        self.shapes.append(Path(points, stroke, width, fill=fill, fill_opacity=opacity, closed=True, layer=layer))

    def rectangle(
        self, x: float, y: float, width: float, height: float, fill: Color | None, opacity: float = 1.0, *,
        stroke: Color | None = None, line_width: float = 1.0,
    ) -> None:
        """Fill a rectangle whose top left corner is at (x, y)."""
        corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
        self.area(corners, fill, opacity, stroke=stroke, width=line_width)

    def circle(
        self, center: Point, radius: float, *, stroke: Color | None = None, width: float = 1.0,
        fill: Color | None = None,
    ) -> None:
        """Draw a circle."""
        self.shapes.append(Circle(center, radius, stroke, width, fill))

    def text(
        self, x: float, y: float, text: str, size: float = 10.0, color: Color = "ink", *, anchor: Anchor = "start",
        vertical: Literal["baseline", "top", "middle"] = "baseline", bold: bool = False, rotated: bool = False,
    ) -> None:
        """Write text, whose lines end in a line feed.

        Args:
            x, y: the position.
            text: the text.
            size: of the font, in points.
            color: of the text.
            anchor: which part of each line is at x.
            vertical: which part of the text is at y: the baseline of its first line, the top of its capital letters,
                or the middle of all lines.
            bold: semibold instead of regular.
            rotated: written upward. Then `anchor` is about y, and `vertical` about x.
        """
        lines = xml_text(text).split("\n")
        first = {"baseline": 0.0, "top": CAP_HEIGHT * size,
                 "middle": (CAP_HEIGHT - LINE_HEIGHT * (len(lines) - 1)) * size / 2}[vertical]
        for number, line in enumerate(lines):
            down = first + LINE_HEIGHT * size * number
            where = (x + down, y) if rotated else (x, y + down)
            if line:
                self.shapes.append(Text(*where, line, size, color, anchor, bold, rotated))

    def picture(
        self, pixels: NDArray[np.uint8], x: float, y: float, width: float, height: float | None = None,
        resampling: Image.Resampling = Image.Resampling.LANCZOS,
    ) -> None:
        """Draw pixels uint8 [H, W, 3 or 4] with the top left corner at (x, y); by default as high as wide."""
        self.shapes.append(Picture(x, y, width, width if height is None else height, pixels, resampling))


@dataclass
class Drawing(Canvas):
    """A figure."""

    width: float
    height: float
    title: str
    """What the figure shows, for readers who cannot see it."""
    axes: list[Canvas] = field(default_factory=list, init=False)
    """Canvases in their own right, such as `axes.Axes`, above the shapes of the drawing itself."""

    def all_shapes(self) -> Iterator[Shape]:
        """Every shape, from the lowest to the highest."""
        yield from self.shapes
        for each in self.axes:
            yield from each.shapes
