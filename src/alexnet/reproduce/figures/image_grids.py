"""Image grids: predictions under images, nearest neighbors in rows, top patches of units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from numpy import uint8
from numpy.typing import NDArray
from PIL import Image

from alexnet.inference.classifier import probability_text
from alexnet.reproduce.figures.drawing import Drawing
from alexnet.reproduce.figures.style import truncate, truncate_start

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


CELL, IMAGE, BAR = 151.0, 141.0, 18.0
"""Points: from one image to the next, side of an image over its predictions, and height of the bar of a class."""

MARGIN = 3.0
"""Points: from the edges of a grid to its images and texts."""

COLUMNS = 4
"""Images in a row, at most."""


def prediction_grid(tiles: Sequence[PredictionTile]) -> Drawing:
    """Draw images, four in a row, with the true class and bars of the likeliest classes; the true class is blue."""
    drawing = Drawing(*prediction_grid_size(tiles), f"{len(tiles)} images with their likeliest classes")
    draw_prediction_grid(drawing, tiles)
    return drawing


def prediction_grid_size(tiles: Sequence[PredictionTile]) -> tuple[float, float]:
    """Width and height in points."""
    return CELL * min(len(tiles), COLUMNS), (IMAGE + 32 + BAR * len(tiles[0].ranked)) * -(-len(tiles) // COLUMNS)


def draw_prediction_grid(drawing: Drawing, tiles: Sequence[PredictionTile]) -> None:
    """`prediction_grid`, at the left edge of a drawing."""
    for number, tile in enumerate(tiles):
        row, column = divmod(number, COLUMNS)
        x, y = CELL * column + (CELL - IMAGE) / 2, MARGIN + (IMAGE + 32 + BAR * len(tile.ranked)) * row
        drawing.picture(tile.pixels_HWC, x, y, IMAGE)
        drawing.text(x + IMAGE / 2, y + IMAGE + 5, truncate(tile.truth, 24), anchor="middle", vertical="top", bold=True)
        for place, ranked in enumerate(tile.ranked):
            top = y + IMAGE + 19 + BAR * place
            drawing.rectangle(x, top, IMAGE * ranked.probability, 0.84 * BAR, "blue" if ranked.is_true else "quiet",
                              0.32)
            middle = top + 0.42 * BAR
            drawing.text(x + 3, middle, truncate(ranked.name, 21), 8.5, vertical="middle")
            drawing.text(x + IMAGE, middle, probability_text(ranked.probability), 8.5, anchor="end", vertical="middle")


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


STEP, ROW, SEPARATION = 90.0, 117.0, 11.0
"""Points: from one image of a row to the next, from row to row, and between the query and its neighbors."""


def neighbor_grid(rows: Sequence[NeighborRow]) -> Drawing:
    """Draw in each row a query image and the images nearest to it."""
    drawing = Drawing(*neighbor_grid_size(rows), "Images, each with the images nearest to it")
    draw_neighbor_grid(drawing, rows)
    return drawing


def neighbor_grid_size(rows: Sequence[NeighborRow]) -> tuple[float, float]:
    """Width and height in points."""
    return MARGIN + STEP * (1 + max(len(row.nearest) for row in rows)) + SEPARATION, ROW * len(rows)


def draw_neighbor_grid(drawing: Drawing, rows: Sequence[NeighborRow], left: float = 0.0, scale: float = 1.0) -> None:
    """`neighbor_grid`, into a drawing, `left` points from its left edge and `scale` times as large."""
    for number, row in enumerate(rows):
        for column, tile in enumerate([row.query, *row.nearest]):
            side, top = 0.95 * STEP * scale, MARGIN + scale * ROW * number
            x = left + MARGIN + scale * (STEP * column + SEPARATION * bool(column))
            drawing.picture(tile.pixels_HWC, x, top, side)
            drawing.text(x + side / 2, top + side + 5, truncate(tile.name, 18), 7.5, "blue" if tile.is_true else "ink",
                         anchor="middle", vertical="top", bold=tile is row.query)
            drawing.text(x + side / 2, top + side + 16, truncate_start(tile.note, 18), 7, "quiet", anchor="middle",
                         vertical="top")


# --- Top patches of units ---------------------------------------------------------------------------------------------


def patch_grid(rows: Mapping[str, Sequence[tuple[NDArray[uint8], str]]], columns: int) -> Drawing:
    """Draw a row of image patches for each unit, with a label under each patch.

    Args:
        rows: name of the unit -> its patches uint8 [h, w, 3], each with its label.
        columns: patches in a full row; a shorter row stays empty at its end.
    """
    side, step, left, top, row_height = 59.0, 64.0, 86.0, 21.0, 76.0  # points
    drawing = Drawing(left + columns * step, top + row_height * len(rows), "Image patches that activate units most")
    drawing.text(MARGIN, 5.0, "Label: output of the unit. Pale: outside the unit's receptive field.", 8.5, "quiet",
                 vertical="top")
    for number, (name, patches) in enumerate(rows.items()):
        y = top + row_height * number
        drawing.text(MARGIN, y + side / 2, name, 9, vertical="middle")
        for column, (patch_HWC, label) in enumerate(patches):
            x = left + column * step
            # Larger patches are drawn smaller than they are, and Lanczos would add rings at edges.
            drawing.picture(patch_HWC, x, y, side, resampling=Image.Resampling.NEAREST if len(patch_HWC) < 32
                            else Image.Resampling.HAMMING)
            drawing.text(x + side / 2, y + side + 4, label, 7.5, "quiet", anchor="middle", vertical="top")
        if not patches:
            drawing.text(left, y + side / 2, "zero everywhere", 9, "quiet", vertical="middle")
    return drawing
