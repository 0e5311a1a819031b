"""Axes of a figure: a rectangle of a drawing in which data are drawn to scale, with ticks, grid, labels and legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from alexnet.reproduce.figures.drawing import Canvas, Circle, Color, Drawing, Path, Point
from alexnet.reproduce.figures.fonts import text_width

SMALL = 9.0
"""Points: font size of tick labels and legends."""

LINE = 1.8
"""Points: width of a curve."""

HAIRLINE = 0.8
"""Points: width of grid lines and axes."""

Marker = Literal["circle", "square", "diamond", "up", "down", "plus", "right", "left", "cross"]

OUTLINES: dict[Marker, Sequence[Point]] = {
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "diamond": ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    "up": ((0, -1.1), (1.1, 0.9), (-1.1, 0.9)), "down": ((0, 1.1), (1.1, -0.9), (-1.1, -0.9)),
    "right": ((1.1, 0), (-0.9, 1.1), (-0.9, -1.1)), "left": ((-1.1, 0), (0.9, 1.1), (0.9, -1.1)),
    "plus": ((-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4), (0.4, 1.1), (-0.4, 1.1),
             (-0.4, 0.4), (-1.1, 0.4), (-1.1, -0.4), (-0.4, -0.4)),
}
"""Corners of the markers that are polygons, for a radius of 1."""


@dataclass(frozen=True)
class Scale:
    """The values at the left and right, or at the lower and upper, edge of axes. `low` may be the larger one."""

    low: float
    high: float
    logarithmic: bool = False

    def fraction(self, value: float) -> float:
        """Where a value is: 0 at `low`, 1 at `high`."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Key:
    """An entry of a legend: its text, and the line, marker or area that it explains."""

    label: str
    color: Color
    width: float = LINE
    """Of the line in points; 0: no line."""
    dashes: tuple[float, ...] = ()
    marker: Marker | None = None
    radius: float = 2.5
    filled: bool = True
    area: float = 0.0
    """Opacity of an area; 0: no area."""


class Axes(Canvas):
    """Part of a drawing with a horizontal and a vertical scale. Positions and sizes are in points."""

    def __init__(
        self, drawing: Drawing, left: float, top: float, width: float, height: float, x: Scale, y: Scale,
    ) -> None:
        super().__init__()
        self.left, self.top, self.right, self.bottom = left, top, left + width, top + height
        self.x, self.y = x, y
        drawing.axes.append(self)

    def place(self, x: float, y: float) -> Point:
        """Where a pair of values is on the drawing."""
        return (self.left + self.x.fraction(x) * (self.right - self.left),
                self.bottom - self.y.fraction(y) * (self.bottom - self.top))

    def title(self, text: str) -> None:
        """Write a title above the axes, its last line next to them."""
        lines = text.count("\n")
        self.text(self.left, self.top - 9 - 12 * lines, text, bold=True)

    def x_axis(
        self, ticks: Sequence[float], labels: Sequence[str], label: str = "", *, grid: bool = False,
    ) -> None:
        """Draw the horizontal axis, with a mark and a label at each tick, and the name of the values below."""
        for tick, text in zip(ticks, labels, strict=True):
            x, _ = self.place(tick, self.y.low)
            if grid:
                self.line([(x, self.top), (x, self.bottom)], "faint", HAIRLINE)
            self.line([(x, self.bottom), (x, self.bottom + 3)], "quiet", HAIRLINE)
            self.text(x, self.bottom + 7, text, SMALL, "quiet", anchor="middle", vertical="top")
        self.line([(self.left, self.bottom), (self.right, self.bottom)], "quiet", HAIRLINE)
        self.text((self.left + self.right) / 2, self.bottom + 22, label, SMALL, "quiet", anchor="middle",
                  vertical="top")

    def y_axis(
        self, ticks: Sequence[float], labels: Sequence[str], *, color: Color = "quiet", grid: bool = True,
        line: bool = True,
    ) -> None:
        """Draw the vertical axis, with a label and a grid line at each tick."""
        for tick, text in zip(ticks, labels, strict=True):
            _, y = self.place(self.x.low, tick)
            if grid:
                self.line([(self.left, y), (self.right, y)], "faint", HAIRLINE)
            self.text(self.left - 6, y, text, SMALL, color, anchor="end", vertical="middle")
        if line:
            self.line([(self.left, self.top), (self.left, self.bottom)], "quiet", HAIRLINE)

    def plot(
        self, xs: Sequence[float], ys: Sequence[float], color: Color, width: float = LINE, *,
        dashes: tuple[float, ...] = (),
    ) -> None:
        """Draw a curve. It has a gap where a value is not finite, and ends at the lower and the upper edge."""
        for piece in self._pieces(xs, ys):
            self.line(piece, color, width, dashes=dashes)

    def marks(
        self, xs: Sequence[float], ys: Sequence[float], color: Color, radius: float, marker: Marker = "circle", *,
        fill: Color | None = None, width: float = 1.0,
    ) -> None:
        """Draw a marker at each finite point: filled with `fill`, or without one, an outline."""
        for x, y in zip(xs, ys, strict=True):
            if math.isfinite(x) and math.isfinite(y):
                draw_marker(self, self.place(x, y), color, radius, marker, fill=fill, width=width)

    def legend(self, keys: Sequence[Key]) -> None:
        """Draw a legend in the corner of the axes in which it covers least of the curves."""
        width, height = legend_size(keys)
        left, right = self.left + 8, self.right - width - 4
        top, bottom = self.top + 2, self.bottom - height - 5
        curves = [point for shape in self.shapes for point in _points(shape)]

        def covered(corner: Point) -> int:
            x, y = corner
            return sum(x - 6 <= px <= x + width + 6 and y - 4 <= py <= y + height + 4 for px, py in curves)

        draw_legend(self, keys, *min([(right, top), (right, bottom), (left, top), (left, bottom)], key=covered))

    def _pieces(self, xs: Sequence[float], ys: Sequence[float]) -> list[list[Point]]:
        """Parts of a polyline that are finite and between the lower and the upper edge."""
        pieces: list[list[Point]] = []
        before: Point | None = None
        for x, y in zip(xs, ys, strict=True):
            point = self.place(x, y) if math.isfinite(x) and math.isfinite(y) else None
            if point and before and (segment := _clipped(before, point, self.top, self.bottom)):
                start, end = segment
                if pieces and pieces[-1][-1] == start:
                    pieces[-1].append(end)
                else:
                    pieces.append([start, end])
            before = point
        return pieces


def draw_marker(
    canvas: Canvas, center: Point, color: Color, radius: float, marker: Marker = "circle", *, fill: Color | None = None,
    width: float = 1.0,
) -> None:
    """Draw one marker: filled with `fill`, or without one, an outline."""
    x, y = center
    if marker == "circle":
        canvas.circle(center, radius, stroke=color, width=width, fill=fill)
    elif marker == "cross":
        for slope in (1, -1):
            canvas.line([(x - radius, y - slope * radius), (x + radius, y + slope * radius)], color, width)
    else:
        corners = [(x + radius * right, y + radius * down) for right, down in OUTLINES[marker]]
        canvas.area(corners, fill, stroke=color, width=width)


def legend_size(keys: Sequence[Key]) -> Point:
    """Width and height of a legend with one entry in a line."""
    return 25 + 1.1 * max(text_width(key.label, SMALL) for key in keys), 14.0 * len(keys)


def draw_legend(canvas: Canvas, keys: Sequence[Key], x: float, y: float, columns: int = 1) -> None:
    """Draw a legend with its top left corner at (x, y), in rows of `columns` entries."""
    for column in range(columns):
        shown = keys[column::columns]
        for row, key in enumerate(shown):
            middle = y + 14.0 * row + 7
            if key.area:
                canvas.rectangle(x, middle - 4, 19, 8, key.color, key.area)
            if key.width:
                canvas.line([(x, middle), (x + 19, middle)], key.color, key.width, dashes=key.dashes)
            if key.marker:
                draw_marker(canvas, (x + 9.5, middle), key.color, key.radius, key.marker,
                            fill=key.color if key.filled else None)
            canvas.text(x + 25, middle, key.label, SMALL, vertical="middle")
        x += legend_size(shown)[0] + 10 if shown else 0.0


def label_room(labels: Sequence[str], size: float = SMALL) -> float:
    """How far left of the axes the labels of a vertical axis reach. A reader's font may be a tenth wider than ours."""
    return 6 + 1.1 * max((text_width(label, size) for label in labels), default=0.0)


def _points(shape: object) -> list[Point]:
    """Points of a curve or marker, close enough to each other to tell what a legend would cover."""
    if isinstance(shape, Circle):
        return [shape.center]
    if not isinstance(shape, Path) or (shape.stroke in ("faint", "quiet") and len(shape.points) == 2):  # grid and axes
        return []
    found = list(shape.points[-1:])
    for (x0, y0), (x1, y1) in zip(shape.points, shape.points[1:], strict=False):
        steps = 1 + int(math.hypot(x1 - x0, y1 - y0) / 3)
        found += [(x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps) for step in range(steps)]
    return found


def _clipped(start: Point, end: Point, top: float, bottom: float) -> tuple[Point, Point] | None:
    """The part of a line segment between two heights; None if there is none."""
    (x0, y0), (x1, y1) = start, end
    if y0 == y1:
        return (start, end) if top <= y0 <= bottom else None
    first, last = sorted(((top - y0) / (y1 - y0), (bottom - y0) / (y1 - y0)))
    first, last = max(first, 0.0), min(last, 1.0)
    if first >= last:
        return None

    def at(part: float) -> Point:
        return (start, end)[round(part)] if part in (0, 1) else (x0 + part * (x1 - x0), y0 + part * (y1 - y0))

    return at(first), at(last)
