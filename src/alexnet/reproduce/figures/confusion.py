"""Confusion matrix, and the error of each class with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alexnet.reproduce.figures.axes import HAIRLINE, SMALL, Axes, Scale, label_room
from alexnet.reproduce.figures.drawing import Drawing
from alexnet.reproduce.figures.fonts import text_width
from alexnet.reproduce.figures.style import truncate
from alexnet.reproduce.figures.ticks import linear_ticks, percent_labels


def confusion(confusion_KK: NDArray[np.int64], classes: Sequence[str]) -> Drawing:
    """Draw a confusion matrix: true classes in rows, predicted classes in columns; right is blue, wrong is red.

    Args:
        confusion_KK: counts of images. The strength of a cell is its share of the row; its number is the count.
        classes: names of the K classes.
    """
    count = len(classes)
    cell = 22.3 if count <= 20 else 15.8  # points; with up to 20 classes a number fits in each cell
    names = [truncate(name, 16) for name in classes]
    start = 18 + label_room(names)  # of the matrix, from the left and from the top: names and axis labels are there
    end = start + cell * count
    width, height = (max(end, start + 1.1 * text_width(label, SMALL)) + 2
                     for label in ("predicted class", "true class"))
    drawing = Drawing(width, height, f"Confusion matrix of {count} classes")
    for number in range(count + 1):
        place = start + cell * number
        drawing.line([(start, place), (end, place)], "faint", 0.6)
        drawing.line([(place, start), (place, end)], "faint", 0.6)
    share_KK = confusion_KK / np.maximum(confusion_KK.sum(axis=1, keepdims=True), 1)
    for true, predicted in np.argwhere(confusion_KK).tolist():
        x, y = start + cell * predicted, start + cell * true
        drawing.rectangle(x + 0.03 * cell, y + 0.03 * cell, 0.94 * cell, 0.94 * cell,
                          "blue" if true == predicted else "red", 0.1 + 0.45 * float(share_KK[true, predicted]))
        if count <= 20:
            images = str(confusion_KK[true, predicted])
            drawing.text(x + cell / 2, y + cell / 2, images, 8 if len(images) < 4 else 6.5, anchor="middle",
                         vertical="middle")
    for number, name in enumerate(names):
        place = start + cell * (number + 0.5)
        drawing.text(start - 6, place, name, SMALL, anchor="end", vertical="middle")
        drawing.text(place, start - 6, name, SMALL, vertical="middle", rotated=True)
    drawing.text(2, start, "true class", SMALL, "quiet", anchor="end", vertical="top", rotated=True)
    drawing.text(start, 2, "predicted class", SMALL, "quiet", vertical="top")
    return drawing


def class_errors(names: Sequence[str], errors: Sequence[float], intervals: Sequence[tuple[float, float]]) -> Drawing:
    """Draw the top-1 error of each class as a dot and its interval as a line, in the order given."""
    width, row, foot = 331.0, 17.3, 24.0  # points
    labels = [truncate(name, 22) for name in names]
    drawing = Drawing(width, 4 + row * len(names) + foot, "Top-1 error of each class, with its 95% interval")
    left = label_room(labels) + 2
    x = Scale(0.0, 1.05 * max((high for _, high in intervals), default=0.0) or 1.0)
    axes = Axes(drawing, left, 4, width - left - 14, row * len(names), x, Scale(len(names) - 0.4, -0.6))
    ticks = linear_ticks(x.low, x.high, 8)
    axes.x_axis(ticks, percent_labels(ticks), grid=True)
    axes.y_axis(range(len(names)), labels, color="ink", grid=False, line=False)
    for number, (error, (low, high)) in enumerate(zip(errors, intervals, strict=True)):
        axes.line([axes.place(low, number), axes.place(high, number)], "red", 2 * HAIRLINE, opacity=0.45)
        axes.marks([error], [number], "red", 1.8, fill="red")
    return drawing
