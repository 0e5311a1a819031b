"""Figure 2 of the paper: a diagram of the network, with a box for each tower of each layer, and its kernels.

All numbers come from `explain`. Sizes are in inches, and y is the height above the lowest box. The height, depth and
width of a box follow the square root of its rows, columns and number of maps: in proportion, 6 pixels would be
invisible beside 224. The paper's figure is cut off at the top; this one is whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from alexnet.architecture.arithmetic import POOLINGS, Explanation, Layer, explain
from alexnet.architecture.spec import Arch
from alexnet.reproduce.figures.drawing import Color, Drawing, Point
from alexnet.reproduce.figures.fonts import text_width

COLUMN_PITCH = 1.42
"""Smallest distance between two layers."""

SMALLEST_KERNEL = 0.18
"""Smallest side of a drawn kernel, or 11 pixels of an input of 100,000 would be invisible."""

LARGEST_HEIGHT, LARGEST_WIDTH, DENSE_WIDTH = 2.0, 0.62, 0.16
"""Height and width of the largest boxes, and width of a fully connected layer."""

DEPTH_DIRECTION = (0.30, 0.20)
"""How far right and up one inch of depth is drawn."""

@dataclass(frozen=True)
class _Box:
    """The maps of one tower of a layer, or its units; x and y of the lower left front corner."""

    x: float
    y: float
    width: float
    height: float
    depth: float
    color: Color

    @property
    def slant(self) -> Point:
        return self.depth * DEPTH_DIRECTION[0], self.depth * DEPTH_DIRECTION[1]

    @property
    def line_end(self) -> Point:
        """Where lines from the layer before end: inside the front, a little above the middle."""
        return self.x + 0.35 * self.width, self.y + 0.55 * self.height

    def on_right_face(self, up: float, back: float) -> Point:
        """A point of the right face, which shows rows and columns; both coordinates are in 0..1."""
        slant_right, slant_up = self.slant
        return self.x + self.width + back * slant_right, self.y + up * self.height + back * slant_up

    @property
    def faces(self) -> list[tuple[list[Point], float]]:
        """Front, top and right face, each with the opacity of its color."""
        (right, up), (x, y, w, h) = self.slant, (self.x, self.y, self.width, self.height)
        front = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
        if not self.depth:
            return [(front, 0.30)]
        top = [(x, y + h), (x + w, y + h), (x + w + right, y + h + up), (x + right, y + h + up)]
        side = [(x + w, y), (x + w, y + h), (x + w + right, y + h + up), (x + w + right, y + up)]
        return [(front, 0.26), (top, 0.12), (side, 0.38)]


@dataclass(frozen=True)
class _Column:
    """A layer as it is drawn: one box for each tower, one above the other."""

    shape: tuple[int, ...]
    towers: int
    connects_towers: bool
    """Whether each box takes its input from all boxes of the column before, or from its own tower only."""
    kernel: int
    """Side of the next layer's kernel, drawn on this column; 0 if the next layer is fully connected."""
    lines: tuple[str, ...]
    """The text under the column."""


def network_diagram(arch: Arch, size: int | None = None) -> Drawing:
    """Draw the network as the paper's Figure 2 draws its own.

    Args:
        arch: the network.
        size: side of the input in pixels; default: the architecture's crop.

    Raises:
        UserError: the input is too small for the network.
    """
    columns = _columns(explain(arch, size))
    layout = _Layout(columns)
    text_height = 0.2 * max(len(column.lines) for column in columns) + 0.15
    left, right = -0.25, layout.xs[-1] + max(1.0, _text_width(columns[-1]) + 0.05)
    diagram = _Diagram(left, right, layout.height, text_height, arch.name)
    pairs = [*zip(columns, layout.boxes, strict=True)]
    for (column, boxes), (following, targets) in pairwise(pairs):
        if not column.kernel:  # behind the boxes
            _connect_units(diagram, column, boxes, following, targets)
    for column, boxes in pairs:
        for box in boxes:
            for face, opacity in box.faces:
                diagram.area(face, box.color, opacity, box.color, 0.8, column.lines[0])
    for (column, boxes), (following, targets) in pairwise(pairs):
        if column.kernel:
            _draw_kernels(diagram, column, boxes, following, targets)
    for number, column in enumerate(columns):
        for line, text in enumerate(column.lines):
            x, y = diagram.place((layout.xs[number], -0.12 - 0.2 * line))
            diagram.drawing.text(x, y, text, _font_size(line), "ink" if line < 2 else "quiet", vertical="top",
                                 bold=line == 0)
    return diagram.drawing


class _Diagram:
    """The drawing, and where a point in inches is on it."""

    def __init__(self, left: float, right: float, height: float, text_height: float, name: str) -> None:
        self.drawing = Drawing(72 * (right - left), 72 * (height + text_height), f"The layers of the network {name}")
        self._left, self._height = left, height

    def place(self, point: Point) -> Point:
        """Position on the drawing, in points from its top left corner."""
        x, y = point
        return 72 * (x - self._left), 72 * (self._height - y)

    def area(self, corners: Sequence[Point], fill: Color, opacity: float, stroke: Color, width: float,
             layer: str = "") -> None:
        self.drawing.area([*map(self.place, corners)], fill, opacity, stroke=stroke, width=width, layer=layer)

    def line(self, start: Point, end: Point, color: Color, width: float, *, dashes: tuple[float, ...] = (),
             opacity: float = 1.0) -> None:
        self.drawing.line([self.place(start), self.place(end)], color, width, dashes=dashes, opacity=opacity)


class _Layout:
    """Position and size of every box.

    Attributes:
        height: of all boxes together, in inches.
        xs: left edge of each column.
        boxes: the boxes of each column, tower 1 first.
    """

    def __init__(self, columns: Sequence[_Column]) -> None:
        maps = [column for column in columns if len(column.shape) == 3]
        self.towers = max(column.towers for column in columns)
        self.largest_side = max(column.shape[-1] for column in maps)
        self.most_maps = max(column.shape[0] / column.towers for column in maps)
        self.most_units = max(column.shape[0] / column.towers for column in columns if len(column.shape) == 1)
        # Two towers share the height; a single one gets more than one of two would.
        self.box_height = LARGEST_HEIGHT * min(1.0, 2.2 / self.towers) * (1.3 if self.towers == 1 else 1.0)
        self.height = (self.towers * (self.box_height + 0.2) if self.towers > 1
                       else self.box_height * (1 + DEPTH_DIRECTION[1]) + 0.2)
        self.xs: list[float] = []
        self.boxes: list[list[_Box]] = []
        x = 0.0
        for column in columns:
            self.xs.append(x)
            self.boxes.append([self._box(column, x, tower) for tower in range(column.towers)])
            first = self.boxes[-1][0]
            x += max(COLUMN_PITCH, first.width + first.slant[0] + 0.5, _text_width(column) + 0.28)

    def _box(self, column: _Column, x: float, tower: int) -> _Box:
        count = column.shape[0] / column.towers
        belongs_to_all = column.towers == 1 and (self.towers > 1 or x == 0)
        color: Color = "quiet" if belongs_to_all else "blue" if tower % 2 == 0 else "red"
        middle = self.height * (0.5 if column.towers == 1 else 1 - (tower + 0.5) / self.towers)
        if len(column.shape) == 1:
            height = max(0.25, self.box_height * math.sqrt(count / self.most_units))
            height *= 0.9 if column.towers > 1 else 1.0
            return _Box(x, middle - height / 2, DENSE_WIDTH, height, 0.0, color)
        height = max(0.10, self.box_height * math.sqrt(column.shape[1] / self.largest_side))
        width = max(0.05, LARGEST_WIDTH * math.sqrt(count / self.most_maps))
        return _Box(x, middle - height * (1 + DEPTH_DIRECTION[1]) / 2, width, height, height, color)


def _font_size(line: int) -> float:
    """Of a line of text, in points: the first line, the layer's name, is larger, and bold."""
    return 9.0 if line == 0 else 8.0


def _text_width(column: _Column) -> float:
    """Width in inches of the text under a column. A reader's font may be a tenth wider than ours."""
    return 1.1 / 72 * max(text_width(text, _font_size(line), bold=line == 0) for line, text in enumerate(column.lines))


def _fed(
    column: _Column, tower: int, following: _Column, targets: Sequence[_Box],
) -> list[_Box]:
    """The boxes of the next column that a tower of this column feeds."""
    return [target for number, target in enumerate(targets)
            if following.connects_towers or column.towers == 1 or len(targets) == 1 or number == tower]


def _connect_units(
    diagram: _Diagram, column: _Column, sources: Sequence[_Box], following: _Column, targets: Sequence[_Box],
) -> None:
    """Draw a line from each box to each that it feeds: a fully connected layer has no kernel."""
    for tower, source in enumerate(sources):
        for target in _fed(column, tower, following, targets):
            diagram.line(source.on_right_face(0.5, 0.5), (target.x, target.y + target.height / 2), "quiet", 0.8)


def _draw_kernels(
    diagram: _Diagram, column: _Column, sources: Sequence[_Box], following: _Column, targets: Sequence[_Box],
) -> None:
    """Draw a kernel on each box, with lines from its corners to the boxes that it feeds."""
    for tower, source in enumerate(sources):
        # The square root, as for the boxes.
        share = min(1.0, max(math.sqrt(column.kernel / column.shape[-1]), SMALLEST_KERNEL / source.height))
        low, front = max(0.0, 0.85 - share), max(0.0, 0.8 - share)
        corners = [source.on_right_face(up, back) for up, back in (
            (low, front), (low, front + share), (low + share, front + share), (low + share, front))]
        diagram.area(corners, source.color, 0.45, "ink", 0.9)
        for target in _fed(column, tower, following, targets):
            for corner in corners:
                diagram.line(corner, target.line_end, "ink", 0.5, dashes=(3, 1.5), opacity=0.55)


def _columns(explanation: Explanation) -> list[_Column]:
    """The input, and the output of each convolution and of each fully connected layer."""
    arch, layers = explanation.arch, explanation.layers
    weighted = [(place, layer) for place, layer in enumerate(layers)
                if layer.kind in ("convolution", "fully connected")]
    kernels = [layer.kernel if layer.kind == "convolution" else 0 for _, layer in weighted]
    columns = [_Column((3, explanation.size, explanation.size), 1, True, kernels[0],
                       ("input", f"3×{explanation.size}×{explanation.size}"))]
    for number, (place, layer) in enumerate(weighted):
        end = weighted[number + 1][0] if number + 1 < len(weighted) else len(layers)
        is_last = number + 1 == len(weighted)
        towers = arch.towers if not is_last and layer.output_shape[0] % arch.towers == 0 else 1
        columns.append(_Column(layer.output_shape, towers, layer.groups == 1, 0 if is_last else kernels[number + 1],
                               _text_lines(layer, layers[place + 1 : end], towers)))
    return columns


def _text_lines(layer: Layer, following: Sequence[Layer], towers: int) -> tuple[str, ...]:
    """The text under a column: name, shape of the output, kernel, and pooling after it."""
    first, *rest = layer.output_shape
    shape = "×".join(map(str, (first // towers, *rest)))
    lines = [layer.name, f"{towers} × {shape}" if towers > 1 else shape]
    if layer.kind == "convolution":
        stride = f", stride {layer.stride}" if layer.stride > 1 else ""
        lines.append(f"{layer.kernel}×{layer.kernel}×{layer.input_shape[0] // layer.groups}{stride}")
    else:
        lines.append("fully connected")
    lines += [f"pool {each.kernel}/{each.stride} to {each.output_shape[1]}" for each in following
              if each.kind in POOLINGS.values()]
    lines += [f"average to {each.output_shape[1]}" for each in following if each.kind == "adaptive average pooling"]
    return tuple(lines)
