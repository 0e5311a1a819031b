"""Image grids: predictions under images, nearest neighbors in rows, top patches of units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from numpy import uint8
from numpy.typing import NDArray

from alexnet.inference.predictor import probability_text
from alexnet.reproduce.figures.style import BLUE, INK, QUIET, STYLE, truncate, truncate_start

# --- Predictions under images (Figure 4, left) ------------------------------------------------------------------------


@dataclass(frozen=True)
class RankedClass:
    """One of the likeliest classes of an image."""

    name: str
    probability: float
    is_true: bool


@dataclass(frozen=True)
class PredictionTile:
    """An image with its true class and its likeliest classes."""

    pixels_HWC: NDArray[uint8]
    truth: str
    ranked: Sequence[RankedClass]


@matplotlib.rc_context(STYLE)
def prediction_grid(tiles: Sequence[PredictionTile]) -> Figure:
    """Draw images, four in a row, with the true class and bars of the likeliest classes; the true class is blue."""
    figure = Figure(figsize=prediction_grid_size(tiles), layout="constrained")
    draw_prediction_grid(figure, tiles)
    return figure


def prediction_grid_size(tiles: Sequence[PredictionTile]) -> tuple[float, float]:
    """Width and height in inches."""
    return 2.1 * min(len(tiles), 4), (2.4 + 0.25 * len(tiles[0].ranked)) * -(-len(tiles) // 4)


def draw_prediction_grid(figure: FigureBase, tiles: Sequence[PredictionTile]) -> None:
    """`prediction_grid`, into a part of another figure."""
    bar_count = len(tiles[0].ranked)
    rows, columns = -(-len(tiles) // 4), min(len(tiles), 4)
    grid = figure.subplots(2 * rows, columns, squeeze=False,
                           gridspec_kw={"height_ratios": [2.0, 0.25 * bar_count] * rows})
    for axes in grid.flat:
        _show_nothing_but_data(axes)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        image, bars = grid[2 * row, column], grid[2 * row + 1, column]
        image.imshow(tile.pixels_HWC, interpolation="lanczos")
        image.set_title(truncate(tile.truth, 24), loc="center", y=-0.04, va="top", pad=0, fontsize=10)
        for place, ranked in enumerate(tile.ranked):
            bars.barh(-place, ranked.probability, height=0.84, color=BLUE if ranked.is_true else QUIET, alpha=0.32,
                      linewidth=0)
            bars.text(0.02, -place, truncate(ranked.name, 21), va="center", fontsize=8.5)
            bars.text(1.0, -place, probability_text(ranked.probability), va="center", ha="right", fontsize=8.5)
        bars.set(xlim=(0, 1), ylim=(0.5 - bar_count, 0.5))


def _show_nothing_but_data(axes: Axes) -> None:
    """Switch off the axis, and its invisible ticks too, which would take half of the time to save the figure."""
    axes.set_axis_off()
    axes.set(xticks=[], yticks=[])


# --- Nearest neighbors in rows (Figure 4, right) ----------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    """An image and the two lines under it."""

    pixels_HWC: NDArray[uint8]
    name: str
    note: str = ""
    """Second line: the distance to the query, or the file name."""
    is_true: bool = False
    """Whether it is of the query's class; then its name is blue."""


@dataclass(frozen=True)
class NeighborRow:
    """A query image and its nearest images."""

    query: Tile
    nearest: Sequence[Tile]


@matplotlib.rc_context(STYLE)
def neighbor_grid(rows: Sequence[NeighborRow]) -> Figure:
    """Draw in each row a query image and the images nearest to it."""
    figure = Figure(figsize=neighbor_grid_size(rows), layout="constrained")
    draw_neighbor_grid(figure, rows)
    return figure


def neighbor_grid_size(rows: Sequence[NeighborRow]) -> tuple[float, float]:
    """Width and height in inches."""
    return 1.25 * (1.12 + max(len(row.nearest) for row in rows)), 1.62 * len(rows)


def draw_neighbor_grid(figure: FigureBase, rows: Sequence[NeighborRow]) -> None:
    """`neighbor_grid`, into a part of another figure."""
    columns = max(len(row.nearest) for row in rows)
    # A narrow empty column separates the query from its neighbors.
    grid = figure.subplots(len(rows), columns + 2, squeeze=False,
                           gridspec_kw={"width_ratios": [1, 0.12, *[1] * columns]})
    for axes in grid.flat:
        _show_nothing_but_data(axes)
    for line, row in zip(grid, rows, strict=True):
        for axes, tile in [(line[0], row.query), *zip(line[2:], row.nearest, strict=False)]:
            axes.imshow(tile.pixels_HWC, interpolation="lanczos")
            axes.set_title(truncate(tile.name, 18), loc="center", y=-0.05, va="top", pad=0, fontsize=7.5,
                           fontweight="bold" if tile is row.query else "normal", color=BLUE if tile.is_true else INK)
            axes.annotate(truncate_start(tile.note, 18), (0.5, -0.05), (0, -11), xycoords="axes fraction",
                          textcoords="offset points", ha="center", va="top", fontsize=7, color=QUIET)


# --- Top patches of units ---------------------------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def patch_grid(rows: Mapping[str, Sequence[tuple[NDArray[uint8], str]]], columns: int) -> Figure:
    """Draw a row of image patches for each unit, with a label under each patch.

    Args:
        rows: name of the unit -> its patches uint8 [h, w, 3], each with its label.
        columns: patches in a full row; a shorter row stays empty at its end.
    """
    side, gap, left, top, row_height = 0.82, 0.07, 1.15, 0.26, 1.06  # inches
    figure = Figure(figsize=(left + columns * (side + gap), top + row_height * len(rows)))
    width, height = figure.get_size_inches()
    figure.text(0.0, 1.0, "Label: output of the unit. Pale: outside the unit's receptive field.", va="top",
                fontsize=8.5, color=QUIET)
    for number, (name, patches) in enumerate(rows.items()):
        bottom = height - top - row_height * number - side
        figure.text(0.0, (bottom + side / 2) / height, name, va="center", fontsize=9)
        for column, (patch_HWC, label) in enumerate(patches):
            x = left + column * (side + gap)
            axes = figure.add_axes((x / width, bottom / height, side / width, side / height))
            # hermite: larger patches are drawn smaller than they are, and lanczos would add rings at edges
            axes.imshow(patch_HWC, interpolation="nearest" if len(patch_HWC) < 32 else "hermite")
            axes.set_axis_off()
            figure.text((x + side / 2) / width, (bottom - 0.03) / height, label, ha="center", va="top", fontsize=7.5,
                        color=QUIET)
        if not patches:
            figure.text(left / width, (bottom + side / 2) / height, "zero everywhere", va="center", color=QUIET,
                        fontsize=9)
    return figure
