"""Numbers and arrays -> pictures: the paper's Figures 1, 3 and 4, curves, a confusion matrix, what a unit sees.

Each function draws plain data and reads nothing. What comes out is the same, byte for byte, whenever the same goes in.
Most are matplotlib figures, which `svg` and `png` turn into files; a sheet of kernels is pixels already.

Shapes: O kernels, I their channels, H rows, W columns, N images, M beside each, K classes.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure, FigureBase
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from PIL import Image

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.page_style import PALETTE, stylesheet

INK, QUIET, FAINT, PAPER, _, BLUE, RED = (light for light, _ in PALETTE.values())

STYLE: Any = {  # Any: matplotlib's newer type stubs list every key there is
    "font.size": 10, "font.family": "sans-serif", "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.titlepad": 8, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": QUIET, "axes.linewidth": 0.8, "axes.titlecolor": INK, "axes.labelcolor": QUIET,
    "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": FAINT, "grid.linewidth": 0.8,
    "xtick.color": QUIET, "ytick.color": QUIET, "xtick.major.size": 3, "ytick.major.size": 0,
    "text.color": INK, "legend.frameon": False, "legend.handlelength": 1.9, "lines.linewidth": 1.8,
    "figure.facecolor": "none", "axes.facecolor": "none", "figure.constrained_layout.w_pad": 0.06,
    "savefig.bbox": "tight", "savefig.pad_inches": 0.05,
    "svg.fonttype": "none",  # letters stay letters: small, searchable, in the page's own font
    "text.parse_math": False,  # a class may be called $10
}


# --- Learning curves --------------------------------------------------------------------------------------------------

#: Panel -> title, key in training, key in validation, and whether the values are fractions.
PANELS: dict[str, tuple[str, str, str | None, bool]] = {
    "loss": ("Loss (nats)", "train_loss", "val_loss", False),
    "error": ("Top-1 error", "train_error", "val_top1_error", True),
    "learning_rate": ("Learning rate", "learning_rate", None, False),
}


@matplotlib.rc_context(STYLE)
def learning_curves(epochs: Sequence[Mapping[str, float]], panels: Sequence[str] = tuple(PANELS)) -> Figure:
    """Loss, error and learning rate over epochs; training solid, validation dashed. A panel is 3.7 inches wide.

    epochs: the log's `epoch` events in order, each with `epoch` and the keys of PANELS. panels: which, in a row.
    """
    figure = Figure(figsize=(3.7 * len(panels), 2.5), layout="constrained")
    number = [event["epoch"] for event in epochs]
    dots = "." if len(epochs) < 16 else None  # a line through one point is no line
    for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        title, solid, dashed, is_fraction = PANELS[panel]
        both = dashed is not None
        axes.plot(number, [event[solid] for event in epochs], color=BLUE if both else QUIET, marker=dots,
                  label="training")
        if dashed is not None:
            axes.plot(number, [event[dashed] for event in epochs], color=RED, marker=dots, linestyle=(0, (3.2, 1.6)),
                      label="validation")
            axes.legend(loc="best", labelcolor=INK)
        _scale(axes, [event[key] for event in epochs for key in (solid, dashed) if key], steep=panel == "learning_rate")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        if is_fraction:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    return figure


@matplotlib.rc_context(STYLE)
def training_errors(curves: Mapping[str, Sequence[tuple[float, float]]], target: float = 0.25) -> Figure:
    """Figure 1: training error over epochs, the first curve solid, the next dashed, with a line at `target`.

    curves: name -> (epoch, error) in order. What stands at epoch 0 was not measured but is blind guessing's, and an
    open circle says so.
    """
    figure = Figure(figsize=(5.9, 3.4), layout="constrained")
    axes = figure.add_subplot()
    styles = ["-", (0, (3.2, 1.6)), (0, (1, 1.4)), (0, (5, 1.4, 1, 1.4))]
    axes.axhline(target, color=QUIET, linewidth=0.8)
    for number, (name, points) in enumerate(curves.items()):
        epochs, errors = zip(*points, strict=True)
        axes.plot(epochs, errors, label=name, color=(BLUE, RED, INK, QUIET)[number % 4], linestyle=styles[number % 4])
    if chance := sorted({error for points in curves.values() for epoch, error in points if epoch == 0}):
        axes.plot([0] * len(chance), chance, "o", markersize=5.5, markerfacecolor=PAPER, markeredgecolor=QUIET,
                  clip_on=False, zorder=3, label="blind guessing, before training")
    axes.text(1.015, target, f"{target:.0%}, where the\npaper compares", transform=axes.get_yaxis_transform(),
              va="center", color=QUIET, fontsize=8.5)  # outside, where no curve runs
    axes.set_title("Training error")
    axes.set_xlabel("epoch")
    axes.set_ylim(0, None)
    axes.set_xlim(0, None)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.legend(loc="best", labelcolor=INK)
    return figure


def _scale(axes: Axes, values: Sequence[float], *, steep: bool) -> None:
    """From zero up, so that heights compare; a rate that falls in steps of ten gets a logarithmic axis instead."""
    known = [value for value in values if math.isfinite(value)]
    if steep and len(set(known)) < 10 and 0 < 20 * min(known, default=0) < max(known, default=0):
        axes.set_yscale("log")
        # To whole powers of ten, so that there are two at least to read the others by.
        low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
        axes.set_ylim(0.8 * 10.0**low, 1.25 * 10.0**high)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    else:
        axes.set_ylim(0, 1.08 * max(known, default=1.0) or 1.0)


# --- Kernels ----------------------------------------------------------------------------------------------------------


def kernels(weight_OIHW: NDArray[np.floating[Any]], towers: int = 1, scale: int = 8) -> NDArray[np.uint8]:
    """The first layer's kernels as Figure 3 lays them out: 16 in a row, tower 1 above tower 2.

    weight_OIHW: float [O, 3, H, W], RGB, O a multiple of towers. Each kernel is stretched to the full range on its own,
    over its three colors together, so that gray stays gray. scale: pixels a side for each weight.
    Returns RGBA uint8, transparent between the kernels.
    """
    if weight_OIHW.shape[1] != 3:
        raise ValueError(f"kernels of {weight_OIHW.shape[1]} channels have no colors to show; give those of conv1")
    low = weight_OIHW.min(axis=(1, 2, 3), keepdims=True)
    span = weight_OIHW.max(axis=(1, 2, 3), keepdims=True) - low
    pixels_OHWI = ((weight_OIHW - low) / np.where(span > 0, span, 1) * 255).round().transpose(0, 2, 3, 1)

    count, high, wide, _ = pixels_OHWI.shape
    in_tower = count // towers
    columns = min(16, in_tower)
    rows = -(-in_tower // columns)
    tall = rows * (high + 1) - 1  # of one tower: kernels with one weight's width between them, three between towers
    sheet = np.zeros((towers * (tall + 3) - 3, columns * (wide + 1) - 1, 4), np.uint8)
    for number, kernel in enumerate(pixels_OHWI):
        tower, place = divmod(number, in_tower)
        top, left = tower * (tall + 3) + place // columns * (high + 1), place % columns * (wide + 1)
        sheet[top : top + high, left : left + wide, :3] = kernel
        sheet[top : top + high, left : left + wide, 3] = 255
    return sheet.repeat(scale, axis=0).repeat(scale, axis=1)


RANDOM_COLOR = 2 / 3
"""`colorfulness` of random numbers: of three numbers' squares, the square of their mean takes a third."""

RANDOM_LOOKS = 0.15
"""`smoothness` up to which kernels look like random numbers; those of 16 random kernels of 3x3 reach 0.13 by chance."""


def colorfulness(weight_OIHW: NDArray[np.floating[Any]], towers: int = 1) -> list[float]:
    """Of each tower, the share of its kernels' energy that is color: 0 where all are gray, and 2/3 for random numbers.

    A kernel's gray is the mean of its three colors at each place; what differs from it is color. The mean is over
    kernels, so that a strong one counts no more than a weak one. Figure 3's towers are called color-agnostic and
    color-specific by §6.1, which gives no number for it.
    """
    gray_OIHW = weight_OIHW.mean(axis=1, keepdims=True)
    color_O = ((weight_OIHW - gray_OIHW) ** 2).sum(axis=(1, 2, 3))
    share_O = color_O / np.maximum((weight_OIHW**2).sum(axis=(1, 2, 3)), np.finfo(np.float32).tiny)
    return [float(tower.mean()) for tower in np.split(share_O, towers)]


def smoothness(weight_OIHW: NDArray[np.floating[Any]]) -> float:
    """How far a kernel's weights agree with those beside and below them: 0 for random numbers, 1 where all are equal.

    The mean product of neighbors over the mean square; mean over kernels. An edge or a blob has neighbors alike.
    """
    square_O = np.maximum((weight_OIHW**2).mean(axis=(1, 2, 3)), np.finfo(np.float32).tiny)
    pairs = [(weight_OIHW[:, :, 1:], weight_OIHW[:, :, :-1]), (weight_OIHW[..., 1:], weight_OIHW[..., :-1])]
    agree = [(one * other).mean(axis=(1, 2, 3)) / square_O for one, other in pairs if one.size]
    return float(np.mean(agree)) if agree else 0.0


@matplotlib.rc_context(STYLE)
def kernel_plate(weight_OIHW: NDArray[np.floating[Any]], towers: int = 1) -> Figure:
    """Figure 3: conv1's kernels, tower 1 above tower 2, with each tower's colorfulness. As `kernels` takes them."""
    parts = np.split(weight_OIHW, towers)
    sheets = [kernels(part, scale=1) for part in parts]
    wide = 5.6
    heights = [wide * sheet.shape[0] / sheet.shape[1] for sheet in sheets]
    figure = Figure(figsize=(wide, sum(heights) + 0.32 * towers), layout="constrained")
    plates = np.atleast_1d(figure.subplots(towers, 1, gridspec_kw={"height_ratios": heights}))
    for number, (axes, sheet, share) in enumerate(zip(plates, sheets, colorfulness(weight_OIHW, towers), strict=True)):
        axes.imshow(sheet, interpolation="nearest")
        axes.set_axis_off()
        title = f"Tower {number + 1}" if towers > 1 else f"{len(weight_OIHW)} kernels"
        axes.set_title(f"{title}: {share:.0%} of a kernel is color; of random numbers, {RANDOM_COLOR:.0%}",
                       fontsize=9, fontweight="normal")
    return figure


# --- Guesses under images ----------------------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def prediction_grid(
    images_NHWC: NDArray[np.uint8], probabilities_NK: NDArray[np.floating[Any]], labels_N: Sequence[int],
    classes: Sequence[str],
) -> Figure:
    """Figure 4, left: images, the true class under each, and the five likeliest as bars, the true one's blue.

    images_NHWC: uint8 RGB; labels_N: each one's true class, a place in `classes`. Four images in a row.
    """
    figure = Figure(figsize=_prediction_grid_size(len(images_NHWC), len(classes)), layout="constrained")
    _draw_prediction_grid(figure, images_NHWC, probabilities_NK, labels_N, classes)
    return figure


def _prediction_grid_size(count: int, classes: int) -> tuple[float, float]:
    return 2.1 * min(count, 4), (2.4 + 0.25 * min(5, classes)) * -(-count // 4)


def _draw_prediction_grid(
    figure: FigureBase, images_NHWC: NDArray[np.uint8], probabilities_NK: NDArray[np.floating[Any]],
    labels_N: Sequence[int], classes: Sequence[str],
) -> None:
    count, guesses = len(images_NHWC), min(5, len(classes))
    rows, columns = -(-count // 4), min(count, 4)
    heights = [2.0, 0.25 * guesses] * rows
    grid = figure.subplots(2 * rows, columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes in grid.flat:
        axes.set_axis_off()
    for number in range(count):
        row, column = divmod(number, columns)
        picture, bars = grid[2 * row, column], grid[2 * row + 1, column]
        picture.imshow(images_NHWC[number], interpolation="lanczos")
        truth = int(labels_N[number])
        picture.set_title(_short(classes[truth], 24), loc="center", y=-0.04, va="top", pad=0, fontsize=10)
        likeliest = np.argsort(-probabilities_NK[number], kind="stable")[:guesses]
        for place, k in enumerate(likeliest):
            p, color = float(probabilities_NK[number, k]), BLUE if k == truth else QUIET
            bars.barh(-place, p, height=0.84, color=color, alpha=0.32, linewidth=0)
            bars.text(0.02, -place, _short(classes[k], 21), va="center", fontsize=8.5)
            bars.text(1.0, -place, f"{p:.0%}", va="center", ha="right", fontsize=8.5)
        bars.set(xlim=(0, 1), ylim=(0.5 - guesses, 0.5))


@dataclass(frozen=True)
class Shown:
    """An image, and what stands under it."""

    pixels_HWC: NDArray[np.uint8]
    name: str
    note: str = ""
    """A second line: how far it is, or which file it came from."""
    is_true: bool = False
    """Whether it is of the class that was asked about: its name is blue."""


Row = tuple[Shown, Sequence[Shown]]
"""What is asked about, and what was found."""


@matplotlib.rc_context(STYLE)
def beside(rows: Sequence[Row]) -> Figure:
    """Figure 4, right: in each row an image, and the images nearest to it."""
    figure = Figure(figsize=_beside_size(rows), layout="constrained")
    _draw_beside(figure, rows)
    return figure


def _beside_size(rows: Sequence[Row]) -> tuple[float, float]:
    return 1.25 * (1.12 + max(len(found) for _, found in rows)), 1.62 * len(rows)


def _draw_beside(figure: FigureBase, rows: Sequence[Row]) -> None:
    columns = max(len(found) for _, found in rows)
    # A narrow empty column sets what is asked apart from what is found.
    grid = figure.subplots(len(rows), columns + 2, squeeze=False,
                           gridspec_kw={"width_ratios": [1, 0.12, *[1] * columns]})
    for axes in grid.flat:
        axes.set_axis_off()
    for line, (asked, found) in zip(grid, rows, strict=True):
        for axes, one in [(line[0], asked), *zip(line[2:], found, strict=False)]:
            axes.imshow(one.pixels_HWC, interpolation="lanczos")
            axes.set_title(_short(one.name, 18), loc="center", y=-0.05, va="top", pad=0, fontsize=7.5,
                           fontweight="bold" if one is asked else "normal", color=BLUE if one.is_true else INK)
            axes.annotate(_ending(one.note, 18), (0.5, -0.05), (0, -11), xycoords="axes fraction",
                          textcoords="offset points", ha="center", va="top", fontsize=7, color=QUIET)


@matplotlib.rc_context(STYLE)
def figure4(
    guessed: tuple[NDArray[np.uint8], NDArray[np.floating[Any]], Sequence[int], Sequence[str]], near: Sequence[Row],
) -> Figure:
    """Figure 4 whole: `prediction_grid` of the first, `beside` of the second."""
    left, right = _prediction_grid_size(len(guessed[0]), len(guessed[3])), _beside_size(near)
    wide = right[0] * left[1] / right[1]  # both as high
    figure = Figure(figsize=(left[0] + 0.3 + wide, left[1]), layout="constrained")
    halves = np.asarray(figure.subfigures(1, 3, width_ratios=[left[0], 0.3, wide]))
    _draw_prediction_grid(halves[0], *guessed)
    _draw_beside(halves[2], near)
    return figure


# --- What a unit sees, what an answer rests on ------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def patches(rows: Mapping[str, Sequence[tuple[NDArray[np.uint8], str]]], columns: int) -> Figure:
    """A row of patches for each unit, under its name, with a few letters under each patch.

    All patches of a row are squares of one size; where there are fewer than `columns`, the rest stays empty.
    """
    side, gap, left, top, tall = 0.82, 0.07, 1.15, 0.26, 1.06  # inches; tall: from one row to the next
    figure = Figure(figsize=(left + columns * (side + gap), top + tall * len(rows)))
    wide, high = figure.get_size_inches()
    figure.text(0.0, 1.0, "under each patch the unit's output; pale is what the unit does not see", va="top",
                fontsize=8.5, color=QUIET)
    for row, (name, found) in enumerate(rows.items()):
        bottom = high - top - tall * row - side
        figure.text(0.0, (bottom + side / 2) / high, name, va="center", fontsize=9)
        for column, (patch, words) in enumerate(found):
            x = left + column * (side + gap)
            axes = figure.add_axes((x / wide, bottom / high, side / wide, side / high))
            axes.imshow(patch, interpolation="nearest" if len(patch) < 32 else "hermite")  # no rings
            axes.set_axis_off()
            figure.text((x + side / 2) / wide, (bottom - 0.03) / high, words, ha="center", va="top", fontsize=7.5,
                        color=QUIET)
        if not found:
            figure.text(left / wide, (bottom + side / 2) / high, "zero everywhere", va="center", color=QUIET,
                        fontsize=9)
    return figure


@matplotlib.rc_context(STYLE)
def attribution_figure(
    view_HWC: NDArray[np.uint8], heats: Mapping[str, NDArray[np.floating[Any]]],
    slopes: Mapping[str, NDArray[np.floating[Any]]], title: str,
) -> Figure:
    """An image; maps laid over it, red for and blue against; and gradients by its pixels, gray for none.

    heats: title -> [H, W]; slopes: title -> [H, W, 3]. Under each map a key of its colors.
    """
    side, gap, top, foot = 2.1, 0.12, 0.48, 0.34  # inches
    count = 1 + len(heats) + len(slopes)
    figure = Figure(figsize=(count * (side + gap) - gap, top + side + foot))
    wide, high = figure.get_size_inches()
    figure.text(0.0, 1.0, title, va="top", fontsize=10.5, fontweight="bold")

    def panel(place: int, name: str) -> Axes:
        axes = figure.add_axes((place * (side + gap) / wide, foot / high, side / wide, side / high))
        axes.set_axis_off()
        axes.set_title(name, fontsize=9, fontweight="normal", pad=5)
        return axes

    def say(place: int, along: float, words: str) -> None:
        """Under a panel; along: 0 at its left edge, 1 at its right."""
        figure.text((place * (side + gap) + along * side) / wide, (foot - 0.17) / high, words, va="top",
                    ha=("left", "center", "right")[round(2 * along)], fontsize=8, color=QUIET)

    panel(0, "the view").imshow(view_HWC, interpolation="lanczos")
    gray_HWC = (view_HWC.mean(axis=2, keepdims=True).repeat(3, 2) * 0.6 + 90).astype(np.uint8)
    for place, (name, heat_HW) in enumerate(heats.items(), 1):
        axes = panel(place, name)
        axes.imshow(gray_HWC, interpolation="lanczos")
        axes.imshow(_tint(heat_HW / (np.abs(heat_HW).max() or 1.0)), interpolation="bilinear")
        signed = bool(heat_HW.min() < 0)
        key = figure.add_axes((place * (side + gap) / wide, (foot - 0.13) / high, side / wide, 0.07 / high))
        key.imshow(np.full((1, 1, 3), 165, np.uint8), extent=(0, 1, 0, 1), aspect="auto")
        key.imshow(_tint(np.linspace(-1.0 if signed else 0.0, 1.0, 256)[None]), extent=(0, 1, 0, 1), aspect="auto")
        key.set_axis_off()
        say(place, 0.0, "speaks against it" if signed else "no effect")
        say(place, 1.0, "speaks for it")
    for place, (name, slope_HWC) in enumerate(slopes.items(), 1 + len(heats)):
        # The strongest thousandth would leave all else gray.
        top_slope = float(np.quantile(np.abs(slope_HWC), 0.999)) or 1.0
        panel(place, name).imshow(np.clip(0.5 + 0.5 * slope_HWC / top_slope, 0, 1), interpolation="lanczos")
        say(place, 0.0, "gray: no effect")
    return figure


def _tint(strength: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """-1..1 -> RGBA: blue below 0, red above, and the fainter the nearer to it."""
    color = np.where(strength[..., None] > 0, to_rgba(RED)[:3], to_rgba(BLUE)[:3])
    return np.dstack([color, 0.85 * np.abs(strength)])


# --- Errors of classes ------------------------------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def class_errors(names: Sequence[str], errors: Sequence[float], intervals: Sequence[tuple[float, float]]) -> Figure:
    """Each class's top-1 error as a dot and its interval as a line, in the order given."""
    figure = Figure(figsize=(4.6, 0.45 + 0.24 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(names))
    axes.hlines(places, [low for low, _ in intervals], [high for _, high in intervals], color=RED, linewidth=1.6,
                alpha=0.45)
    axes.plot(errors, places, "o", color=RED, markersize=4)
    axes.set_yticks(list(places), [_short(name, 22) for name in names])
    axes.tick_params(axis="y", labelcolor=INK, labelsize=9)
    axes.set(xlim=(0, None), ylim=(len(names) - 0.4, -0.6))
    axes.grid(axis="x", color=FAINT)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    return figure


# --- Confusion --------------------------------------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def confusion(confusion_KK: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """How often each class (row) was taken for each (column): what is right in blue, what is wrong in red.

    confusion_KK: counts of images. A square's strength is its share of the row; its number is the count.
    """
    count = len(classes)
    side = count * (0.31 if count <= 20 else 0.22)  # inches; of up to 20 classes a number finds room in each square
    names = [_short(name, 16) for name in classes]
    figure = Figure(figsize=(side, side))  # the file is cut out around what is drawn, letters included
    axes = figure.add_axes((0, 0, 1, 1))
    share_KK = confusion_KK / np.maximum(confusion_KK.sum(axis=1, keepdims=True), 1)
    filled = [(true, taken) for true, taken in np.ndindex(count, count) if confusion_KK[true, taken]]
    axes.add_collection(PatchCollection(
        [Rectangle((taken + 0.03, true + 0.03), 0.94, 0.94) for true, taken in filled], linewidths=0,
        facecolors=[to_rgba(BLUE if true == taken else RED, 0.1 + 0.45 * share_KK[true, taken])
                    for true, taken in filled]))
    if count <= 20:
        for true, taken in filled:
            axes.text(taken + 0.5, true + 0.52, str(confusion_KK[true, taken]), ha="center", va="center", fontsize=8)
    axes.set(xlim=(0, count), ylim=(count, 0), aspect="equal")
    axes.set_xticks(np.arange(count) + 0.5, names, rotation=90)
    axes.set_yticks(np.arange(count) + 0.5, names)
    axes.tick_params(length=0, labelsize=9, labelcolor=INK, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.grid(visible=False)
    axes.hlines(range(count + 1), 0, count, color=FAINT, linewidth=0.6, zorder=0)
    axes.vlines(range(count + 1), 0, count, color=FAINT, linewidth=0.6, zorder=0)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("true class", loc="top", labelpad=10)
    axes.set_xlabel("taken for", loc="left", labelpad=10)
    axes.xaxis.set_label_position("top")
    return figure


# --- Words ------------------------------------------------------------------------------------------------------------


def alike(values: Sequence[float]) -> list[str]:
    """Numbers as text, each with as many decimals, by which the largest has three digits or more."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    decimals = min(6, max(1, 2 - math.floor(math.log10(largest)))) if largest else 1
    return [f"{value:.{decimals}f}" for value in values]


def _short(name: str, letters: int) -> str:
    return name if len(name) <= letters else f"{name[:letters - 1]}…"


def _ending(name: str, letters: int) -> str:
    """Its last letters, by which files are told apart."""
    return name if len(name) <= letters else f"…{name[1 - letters:]}"


# --- Files ------------------------------------------------------------------------------------------------------------


def svg(figure: Figure, name: str, *, standalone: bool = False) -> str:
    """The figure as one <svg> element whose colors are the page's variables, `--ink` and so on.

    name: distinguishes the ids of one figure in a page from another's. standalone: as a file of its own, which brings
    the namespace and both palettes with it.
    """
    text = _render(FigureCanvasSVG(figure), "svg", {"svg.hashsalt": name}).decode()
    text = text[text.index("<svg"):]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[A-Za-z][A-Za-z0-9.]*_\d+"', "", text)  # the same in every figure, and never referred to
    text = re.sub(r' id="layer-([a-z0-9_]+)"', r' data-layer="\1"', text)  # several parts may belong to one layer
    text = re.sub(r" font-family: [^;\"]*;", "", text)  # the page's own
    for color, (light, _) in PALETTE.items():
        text = re.sub(rf"((?:fill|stroke): ){light}", rf"\1var(--{color})", text)
    if standalone:
        return text.replace(">", f">\n<style>{stylesheet('svg')} text {{ font-family: sans-serif }}</style>", 1)
    return re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)


def png(picture: Figure | NDArray[np.uint8], dpi: int = 160) -> bytes:
    """The figure on light paper, or pixels as they are, as a PNG file."""
    if isinstance(picture, Figure):
        return _render(FigureCanvasAgg(picture), "png", {"savefig.facecolor": PAPER}, dpi=dpi)
    return image_file(picture, "PNG")


def image_file(pixels: NDArray[np.uint8], kind: str) -> bytes:
    """Pixels HWC as a file; kind: PNG, or JPEG for images, at a tenth of the size."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **({"quality": 88} if kind == "JPEG" else {"optimize": True}))
    return file.getvalue()


def save(picture: Figure | NDArray[np.uint8], stem: Path, *, lines: bool = True) -> None:
    """Write STEM.png, and of a figure that is all lines and letters STEM.svg, which follows the reader's light or dark.

    Images (lines=False) gain nothing from an SVG, and are shown at 120 dots an inch, since more adds only bytes.
    """
    pixels = png(picture, dpi=160 if lines else 120)
    replace_file(stem.with_suffix(".png"), lambda path: path.write_bytes(pixels))
    if lines and isinstance(picture, Figure):
        text = svg(picture, stem.name, standalone=True)
        replace_file(stem.with_suffix(".svg"), lambda path: path.write_text(text, encoding="utf-8"))


def _render(canvas: FigureCanvasSVG | FigureCanvasAgg, kind: str, style: dict[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    undated = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context(STYLE | style), warnings.catch_warnings():
        # A class name in a script that the font lacks: the browser has it, and in a PNG a box is all we can do.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        canvas.figure.savefig(file, format=kind, metadata=undated, **options)
    return file.getvalue()
