"""Confusion matrix, and the error of each class with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from alexnet.reproduce.figures.style import BLUE, FAINT, INK, RED, STYLE, truncate


@matplotlib.rc_context(STYLE)
def confusion(confusion_KK: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix: true classes in rows, predicted classes in columns; right is blue, wrong is red.

    Args:
        confusion_KK: counts of images. The strength of a cell is its share of the row; its number is the count.
        classes: names of the K classes.
    """
    count = len(classes)
    side = count * (0.31 if count <= 20 else 0.22)  # inches; with up to 20 classes a number fits in each cell
    names = [truncate(name, 16) for name in classes]
    figure = Figure(figsize=(side, side))  # saving crops to what is drawn, labels included
    axes = figure.add_axes((0, 0, 1, 1))
    share_KK = confusion_KK / np.maximum(confusion_KK.sum(axis=1, keepdims=True), 1)
    filled = [(true, predicted) for true, predicted in np.ndindex(count, count) if confusion_KK[true, predicted]]
    axes.add_collection(PatchCollection(
        [Rectangle((predicted + 0.03, true + 0.03), 0.94, 0.94) for true, predicted in filled], linewidths=0,
        facecolors=[to_rgba(BLUE if true == predicted else RED, 0.1 + 0.45 * share_KK[true, predicted])
                    for true, predicted in filled]))
    if count <= 20:
        for true, predicted in filled:
            axes.text(predicted + 0.5, true + 0.52, str(confusion_KK[true, predicted]), ha="center", va="center",
                      fontsize=8)
    axes.set(xlim=(0, count), ylim=(count, 0), aspect="equal")
    axes.set_xticks(np.arange(count) + 0.5, names, rotation=90)
    axes.set_yticks(np.arange(count) + 0.5, names)
    axes.tick_params(length=0, labelsize=9, labelcolor=INK, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.grid(visible=False)
    axes.hlines(range(count + 1), 0, count, color=FAINT, linewidth=0.6, zorder=0)
    axes.vlines(range(count + 1), 0, count, color=FAINT, linewidth=0.6, zorder=0)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("true class", loc="top", labelpad=10)
    axes.set_xlabel("predicted class", loc="left", labelpad=10)
    axes.xaxis.set_label_position("top")
    return figure


@matplotlib.rc_context(STYLE)
def class_errors(names: Sequence[str], errors: Sequence[float], intervals: Sequence[tuple[float, float]]) -> Figure:
    """Draw the top-1 error of each class as a dot and its interval as a line, in the order given."""
    figure = Figure(figsize=(4.6, 0.45 + 0.24 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    rows = range(len(names))
    axes.hlines(rows, [low for low, _ in intervals], [high for _, high in intervals], color=RED, linewidth=1.6,
                alpha=0.45)
    axes.plot(errors, rows, "o", color=RED, markersize=4)
    axes.set_yticks(list(rows), [truncate(name, 22) for name in names])
    axes.tick_params(axis="y", labelcolor=INK, labelsize=9)
    axes.set(xlim=(0, None), ylim=(len(names) - 0.4, -0.6))
    axes.grid(axis="x", color=FAINT)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    return figure
