"""Learning curves: loss, top-1 error and learning rate over epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from alexnet.errors import plural
from alexnet.reproduce.figures.axes import Axes, Key, Scale, label_room
from alexnet.reproduce.figures.drawing import Drawing
from alexnet.reproduce.figures.ticks import linear_ticks, log_ticks, number_labels, percent_labels
from alexnet.training.events import EpochEvent

DASHED = (3.2, 1.6)
"""Dashes of validation and of a second run."""


CurveKey = Literal["train_loss", "val_loss", "train_error", "val_top1_error", "learning_rate"]


@dataclass(frozen=True)
class Panel:
    """One set of axes: its title, and the keys of the `epoch` events of log.jsonl that it shows."""

    title: str
    training: CurveKey
    validation: CurveKey | None = None
    percent: bool = False


PANELS = {
    "loss": Panel("Loss (nats)", "train_loss", "val_loss"),
    "error": Panel("Top-1 error", "train_error", "val_top1_error", percent=True),
    "learning_rate": Panel("Learning rate", "learning_rate"),
}

WIDTH, HEIGHT = 266.0, 180.0
"""Points: a panel."""


def learning_curves(epochs: Sequence[EpochEvent], panels: Sequence[str] = tuple(PANELS)) -> Drawing:
    """Draw loss, error and learning rate over epochs: training solid, validation dashed.

    Args:
        epochs: the `epoch` events of log.jsonl in order, each with `epoch` and the keys of PANELS.
        panels: names of the panels to draw in a row.
    """
    titles = ", ".join(PANELS[name].title for name in panels)
    drawing = Drawing(WIDTH * len(panels), HEIGHT, f"{titles} over {plural(len(epochs), 'epoch')}")
    for number, name in enumerate(panels):
        _draw_panel(drawing, WIDTH * number, PANELS[name], epochs)
    return drawing


def _draw_panel(drawing: Drawing, left: float, panel: Panel, epochs: Sequence[EpochEvent]) -> None:
    numbers = [event["epoch"] for event in epochs]
    values = [event[key] for event in epochs for key in (panel.training, panel.validation) if key]
    y, ticks = _y_scale(values, may_be_logarithmic=panel.training == "learning_rate")
    labels = percent_labels(ticks) if panel.percent else (
        [f"{tick:g}" for tick in ticks] if y.logarithmic else number_labels(ticks))
    margin = 0.03 * (numbers[-1] - numbers[0]) or 0.5
    x = Scale(numbers[0] - margin, numbers[-1] + margin)
    room = label_room(labels) + 2
    axes = Axes(drawing, left + room, 22, WIDTH - room - 12, HEIGHT - 22 - 34, x, y)
    axes.title(panel.title)
    axes.y_axis(ticks, labels)
    whole = linear_ticks(x.low, x.high, whole=True)
    axes.x_axis(whole, [f"{tick:g}" for tick in whole], "epoch")
    curves = [Key("training", "blue" if panel.validation else "quiet")]
    if panel.validation:
        curves.append(Key("validation", "red", dashes=DASHED))
    for key, curve in zip((panel.training, panel.validation), curves, strict=False):
        heights = [event[key] for event in epochs] if key else []
        axes.plot(numbers, heights, curve.color, dashes=curve.dashes)
        if len(epochs) < 16:  # a line through a single point is invisible
            axes.marks(numbers, heights, curve.color, 1.6, fill=curve.color)
    if panel.validation:
        axes.legend(curves)


def _y_scale(values: Sequence[float], *, may_be_logarithmic: bool) -> tuple[Scale, list[float]]:
    """Start the axis at zero; use a logarithmic axis for a learning rate that is divided by ten from time to time."""
    finite = [value for value in values if math.isfinite(value)]
    few_steps = len(set(finite)) < 10 and 0 < 20 * min(finite, default=0) < max(finite, default=0)
    if may_be_logarithmic and few_steps:
        # Extend to whole powers of ten, so that at least two of them are labeled.
        low, high = math.floor(math.log10(min(finite))), math.ceil(math.log10(max(finite)))
        y = Scale(0.8 * 10.0**low, 1.25 * 10.0**high, logarithmic=True)
        return y, log_ticks(y.low, y.high)
    y = Scale(0.0, 1.08 * max(finite, default=1.0) or 1.0)
    return y, linear_ticks(0.0, y.high)
