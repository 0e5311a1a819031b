"""An `Arch` -> Figure 2: every block of maps as a box, tower by tower, with its kernel and what each layer sees.

All numbers are `explain`'s, and one unit of the drawing is an inch. A box is as high and as deep as its maps are, and
as wide as there are maps, each by its square root, or 6 pixels would not be seen beside 224. The paper's own figure is
cut off at the top; this one is whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Polygon
from matplotlib.textpath import TextPath

from alexnet.architecture.arithmetic import Explanation, Layer, explain
from alexnet.architecture.spec import Arch
from alexnet.reproduce.plots import BLUE, INK, QUIET, RED, STYLE

PITCH = 1.42
"""From one layer to the next, where its words and its box leave room."""

SEEN = 0.18
"""A kernel's side at the least, or 11 pixels would not be seen on 100,000."""

TALL, WIDE, THIN = 2.0, 0.62, 0.16
"""The largest box's height, the widest one's width, and a fully connected layer's."""

SLANT = (0.30, 0.20)
"""Where the depth goes: right and up, for each inch."""

Point = tuple[float, float]


@dataclass(frozen=True)
class _Box:
    """One block of maps of one tower, or one row of units; x and y of its lower left front corner."""

    x: float
    y: float
    width: float
    height: float
    depth: float
    color: str

    @property
    def slant(self) -> Point:
        return self.depth * SLANT[0], self.depth * SLANT[1]

    @property
    def entrance(self) -> Point:
        """Where what it sees arrives: inside the front, a little above the middle."""
        return self.x + 0.35 * self.width, self.y + 0.55 * self.height

    def side(self, down: float, along: float) -> Point:
        """A place of the face of rows and columns on its right; 0..1 from the bottom and from the front."""
        right, up = self.slant
        return self.x + self.width + along * right, self.y + down * self.height + along * up

    @property
    def faces(self) -> list[tuple[list[Point], float]]:
        """Front, top and side, with how dark each is."""
        (right, up), (x, y, w, h) = self.slant, (self.x, self.y, self.width, self.height)
        front = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
        if not self.depth:
            return [(front, 0.30)]
        top = [(x, y + h), (x + w, y + h), (x + w + right, y + h + up), (x + right, y + h + up)]
        side = [(x + w, y), (x + w, y + h), (x + w + right, y + h + up), (x + w + right, y + up)]
        return [(front, 0.26), (top, 0.12), (side, 0.38)]


@dataclass(frozen=True)
class _Column:
    """A layer as it is drawn."""

    shape: tuple[int, ...]
    towers: int
    """Boxes, one above the other."""
    sees_all: bool
    """Whether each box sees all of the column before, or its own tower's alone."""
    kernel: int
    """That looks at this column from the next; 0 where the next sees all of it at once."""
    words: tuple[str, ...]


@matplotlib.rc_context(STYLE)
def network_diagram(arch: Arch, size: int | None = None) -> Figure:
    """The network at an input of `size` pixels, the preset's own unless said, as the paper's Figure 2 draws its own.

    Raises ValueError for an input that is too small.
    """
    columns = _columns(explain(arch, size))
    most = max(column.towers for column in columns)
    side = max(column.shape[-1] for column in columns if len(column.shape) == 3)
    maps = max(column.shape[0] / column.towers for column in columns if len(column.shape) == 3)
    units = max([column.shape[0] / column.towers for column in columns if len(column.shape) == 1])
    # Towers share the room of two; one alone takes the room of one and a half.
    tall = TALL * min(1.0, 2.2 / most) * (1.3 if most == 1 else 1.0)

    high = most * (tall + 0.2) if most > 1 else tall * (1 + SLANT[1]) + 0.2

    def box(column: _Column, x: float, tower: int) -> _Box:
        share = column.shape[0] / column.towers
        shared = column.towers == 1 and (most > 1 or x == 0)
        color = QUIET if shared else (BLUE, RED)[tower % 2]
        middle = high * (0.5 if column.towers == 1 else 1 - (tower + 0.5) / most)
        if len(column.shape) == 1:
            height = max(0.25, tall * math.sqrt(share / units)) * (0.9 if column.towers > 1 else 1.0)
            return _Box(x, middle - height / 2, THIN, height, 0.0, color)
        height = max(0.10, tall * math.sqrt(column.shape[1] / side))
        width = max(0.05, WIDE * math.sqrt(share / maps))
        return _Box(x, middle - height * (1 + SLANT[1]) / 2, width, height, height, color)

    boxes: list[list[_Box]] = []
    places: list[float] = []
    x = 0.0
    for column in columns:
        places.append(x)
        row = [box(column, x, tower) for tower in range(column.towers)]
        boxes.append(row)
        written = max(_inches(words, line) for line, words in enumerate(column.words))
        x += max(PITCH, row[0].width + row[0].slant[0] + 0.5, written + 0.28)
    text = 0.2 * max(len(column.words) for column in columns) + 0.15
    left, right = -0.25, places[-1] + max(1.0, written + 0.05)
    figure = Figure(figsize=(right - left, high + text))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, right), ylim=(-text, high))
    axes.set_axis_off()
    for number, (column, row) in enumerate(zip(columns, boxes, strict=True)):
        for one in row:
            _draw(axes, one, column.words[0])
        if number + 1 < len(columns):
            _connect(axes, column, row, columns[number + 1], boxes[number + 1])
        for line, words in enumerate(column.words):
            axes.text(places[number], -0.12 - 0.2 * line, words, va="top", color=INK if line < 2 else QUIET,
                      fontproperties=_font(line))
    return figure


def _font(line: int) -> FontProperties:
    """A layer's name is larger than what stands below it."""
    return FontProperties(size=9 if line == 0 else 8, weight="bold" if line == 0 else "normal")


def _inches(words: str, line: int) -> float:
    """How wide a line of text under a column is."""
    return float(TextPath((0, 0), words, prop=_font(line)).get_extents().width) / 72


def _draw(axes: Axes, box: _Box, name: str) -> None:
    for face, strength in box.faces:
        # The name lets a page tell which layer is pointed at: data-layer="conv1".
        axes.add_patch(Polygon(face, facecolor=to_rgba(box.color, strength), edgecolor=box.color, linewidth=0.8,
                               zorder=3, gid=f"layer-{name}"))


def _connect(axes: Axes, column: _Column, row: Sequence[_Box], following: _Column, targets: Sequence[_Box]) -> None:
    """The kernel on each box, and from it to each box that looks through it; or one line where all is seen at once."""
    for number, source in enumerate(row):
        seeing = [target for place, target in enumerate(targets)
                  if following.sees_all or len(row) == 1 or len(targets) == 1 or place == number]
        if not column.kernel:
            start = source.side(0.5, 0.5)
            for target in seeing:
                axes.plot(*zip(start, (target.x, target.y + target.height / 2), strict=True), color=QUIET,
                          linewidth=0.8, zorder=2)
            continue
        # By its square root, as its box is.
        share = min(1.0, max(math.sqrt(column.kernel / column.shape[-1]), SEEN / source.height))
        low, front = max(0.0, 0.85 - share), max(0.0, 0.8 - share)
        corners = [source.side(low, front), source.side(low, front + share), source.side(low + share, front + share),
                   source.side(low + share, front)]
        axes.add_patch(Polygon(corners, facecolor=to_rgba(source.color, 0.45), edgecolor=INK, linewidth=0.9, zorder=4))
        for target in seeing:
            for corner in corners:
                axes.plot(*zip(corner, target.entrance, strict=True), color=INK, linewidth=0.5,
                          linestyle=(0, (3, 1.5)), alpha=0.55, zorder=5)


def _columns(explanation: Explanation) -> list[_Column]:
    """The input, each convolution's output, each fully connected layer's."""
    arch, layers = explanation.arch, explanation.layers
    weighty = [(place, layer) for place, layer in enumerate(layers) if layer.kind in ("convolution", "fully connected")]
    kernels = [layer.kernel if layer.kind == "convolution" else 0 for _, layer in weighty]
    columns = [_Column((3, explanation.size, explanation.size), 1, True, kernels[0],
                       ("input", f"3×{explanation.size}×{explanation.size}"))]
    for number, (place, layer) in enumerate(weighty):
        end = weighty[number + 1][0] if number + 1 < len(weighty) else len(layers)
        last = number + 1 == len(weighty)
        towers = arch.towers if not last and layer.output_shape[0] % arch.towers == 0 else 1
        columns.append(_Column(layer.output_shape, towers, layer.groups == 1, 0 if last else kernels[number + 1],
                               _words(layer, layers[place + 1 : end], towers)))
    return columns


def _words(layer: Layer, after: Sequence[Layer], towers: int) -> tuple[str, ...]:
    """Under a column: name, shape, kernel, and what follows."""
    first, *rest = layer.output_shape
    shape = "×".join(map(str, (first // towers, *rest)))
    words = [layer.name, f"{towers} × {shape}" if towers > 1 else shape]
    if layer.kind == "convolution":
        stride = f", step {layer.stride}" if layer.stride > 1 else ""
        words.append(f"{layer.kernel}×{layer.kernel}×{layer.input_shape[0] // layer.groups}{stride}")
    else:
        words.append("sees all")
    words += [f"pool {each.kernel}/{each.stride} to {each.output_shape[1]}" for each in after
              if each.kind == "max pooling"]
    words += [f"average to {each.output_shape[1]}" for each in after if each.kind == "adaptive average pooling"]
    return tuple(words)
