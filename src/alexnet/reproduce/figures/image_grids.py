"""Image grids: predictions under images, nearest neighbors in rows, top patches of units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure
from numpy import uint8
from numpy.typing import NDArray
from PIL import Image

from alexnet.inference.classifier import probability_text
from alexnet.reproduce.figures.sheet import Sheet
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


IMAGE, BAR = 1.96, 0.25
"""Inches: side of an image over its predictions, and height of the bar of a class."""

COLUMNS = 4
"""Images in a row, at most."""


@matplotlib.rc_context(STYLE)
def prediction_grid(tiles: Sequence[PredictionTile]) -> Figure:
    """Draw images, four in a row, with the true class and bars of the likeliest classes; the true class is blue."""
    sheet = Sheet(*prediction_grid_size(tiles))
    draw_prediction_grid(sheet, tiles)
    return sheet.figure()


def prediction_grid_size(tiles: Sequence[PredictionTile]) -> tuple[float, float]:
    """Width and height in inches."""
    return 2.1 * min(len(tiles), COLUMNS), (2.4 + BAR * len(tiles[0].ranked)) * -(-len(tiles) // COLUMNS)


def draw_prediction_grid(sheet: Sheet, tiles: Sequence[PredictionTile]) -> None:
    """`prediction_grid`, at the left edge of a sheet."""
    for number, tile in enumerate(tiles):
        row, column = divmod(number, COLUMNS)
        x, y = 2.1 * column + (2.1 - IMAGE) / 2, (2.4 + BAR * len(tile.ranked)) * row
        sheet.image(tile.pixels_HWC, x, y, IMAGE)
        sheet.text(x + IMAGE / 2, y + IMAGE + 0.05, truncate(tile.truth, 24), ha="center", fontsize=10,
                   fontweight="bold")
        for place, ranked in enumerate(tile.ranked):
            top = y + IMAGE + 0.27 + BAR * place
            sheet.bar(x, top, IMAGE * ranked.probability, 0.84 * BAR, alpha=0.32,
                      facecolor=BLUE if ranked.is_true else QUIET)
            middle = top + 0.42 * BAR
            sheet.text(x + 0.04, middle, truncate(ranked.name, 21), va="center", fontsize=8.5)
            sheet.text(x + IMAGE, middle, probability_text(ranked.probability), va="center", ha="right", fontsize=8.5)


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


CELL, ROW, SEPARATION = 1.25, 1.62, 0.15
"""Inches: from one image of a row to the next, from row to row, and between the query and its neighbors."""


@matplotlib.rc_context(STYLE)
def neighbor_grid(rows: Sequence[NeighborRow]) -> Figure:
    """Draw in each row a query image and the images nearest to it."""
    sheet = Sheet(*neighbor_grid_size(rows))
    draw_neighbor_grid(sheet, rows)
    return sheet.figure()


def neighbor_grid_size(rows: Sequence[NeighborRow]) -> tuple[float, float]:
    """Width and height in inches."""
    return CELL * (1 + max(len(row.nearest) for row in rows)) + SEPARATION, ROW * len(rows)


def draw_neighbor_grid(sheet: Sheet, rows: Sequence[NeighborRow], left: float = 0.0, scale: float = 1.0) -> None:
    """`neighbor_grid`, into a sheet, `left` inches from its left edge and `scale` times as large."""
    for number, row in enumerate(rows):
        for column, tile in enumerate([row.query, *row.nearest]):
            side, top = 0.95 * CELL * scale, scale * ROW * number
            x = left + scale * (CELL * column + SEPARATION * bool(column))
            sheet.image(tile.pixels_HWC, x, top, side)
            sheet.text(x + side / 2, top + side + 0.05, truncate(tile.name, 18), ha="center", fontsize=7.5,
                       fontweight="bold" if tile is row.query else "normal", color=BLUE if tile.is_true else INK)
            sheet.text(x + side / 2, top + side + 0.2, truncate_start(tile.note, 18), ha="center", fontsize=7,
                       color=QUIET)


# --- Top patches of units ---------------------------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def patch_grid(rows: Mapping[str, Sequence[tuple[NDArray[uint8], str]]], columns: int) -> Figure:
    """Draw a row of image patches for each unit, with a label under each patch.

    Args:
        rows: name of the unit -> its patches uint8 [h, w, 3], each with its label.
        columns: patches in a full row; a shorter row stays empty at its end.
    """
    side, gap, left, top, row_height = 0.82, 0.07, 1.15, 0.26, 1.06  # inches
    sheet = Sheet(left + columns * (side + gap), top + row_height * len(rows))
    sheet.text(0.0, 0.0, "Label: output of the unit. Pale: outside the unit's receptive field.", fontsize=8.5,
               color=QUIET)
    for number, (name, patches) in enumerate(rows.items()):
        y = top + row_height * number
        sheet.text(0.0, y + side / 2, name, va="center", fontsize=9)
        for column, (patch_HWC, label) in enumerate(patches):
            x = left + column * (side + gap)
            # Larger patches are drawn smaller than they are, and Lanczos would add rings at edges.
            sheet.image(patch_HWC, x, y, side,
                        Image.Resampling.NEAREST if len(patch_HWC) < 32 else Image.Resampling.HAMMING)
            sheet.text(x + side / 2, y + side + 0.03, label, ha="center", fontsize=7.5, color=QUIET)
        if not patches:
            sheet.text(left, y + side / 2, "zero everywhere", va="center", color=QUIET, fontsize=9)
    return sheet.figure()
