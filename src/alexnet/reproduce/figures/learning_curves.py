"""Learning curves: loss, top-1 error and learning rate over epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from alexnet.reproduce.figures.style import BLUE, INK, QUIET, RED, STYLE
from alexnet.training.events import EpochEvent

DASHED = (0, (3.2, 1.6))
"""matplotlib's line style of validation and of a second run."""


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


@matplotlib.rc_context(STYLE)
def learning_curves(epochs: Sequence[EpochEvent], panels: Sequence[str] = tuple(PANELS)) -> Figure:
    """Draw loss, error and learning rate over epochs: training solid, validation dashed.

    Args:
        epochs: the `epoch` events of log.jsonl in order, each with `epoch` and the keys of PANELS.
        panels: names of the panels to draw in a row, each 3.7 inches wide.
    """
    figure = Figure(figsize=(3.7 * len(panels), 2.5), layout="constrained")
    numbers = [event["epoch"] for event in epochs]
    marker = "." if len(epochs) < 16 else None  # a line through a single point is invisible
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        panel = PANELS[name]
        axes.plot(numbers, [event[panel.training] for event in epochs], color=BLUE if panel.validation else QUIET,
                  marker=marker, label="training")
        if panel.validation:
            axes.plot(numbers, [event[panel.validation] for event in epochs], color=RED, marker=marker,
                      linestyle=DASHED, label="validation")
            axes.legend(loc="best", labelcolor=INK)
        values = [event[key] for event in epochs for key in (panel.training, panel.validation) if key]
        _set_y_range(axes, values, may_be_logarithmic=name == "learning_rate")
        axes.set_title(panel.title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        if panel.percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    return figure


def _set_y_range(axes: Axes, values: Sequence[float], *, may_be_logarithmic: bool) -> None:
    """Start the axis at zero; use a logarithmic axis for a learning rate that is divided by ten from time to time."""
    finite = [value for value in values if math.isfinite(value)]
    few_steps = len(set(finite)) < 10 and 0 < 20 * min(finite, default=0) < max(finite, default=0)
    if may_be_logarithmic and few_steps:
        axes.set_yscale("log")
        # Extend to whole powers of ten, so that at least two of them are labeled.
        low, high = math.floor(math.log10(min(finite))), math.ceil(math.log10(max(finite)))
        axes.set_ylim(0.8 * 10.0**low, 1.25 * 10.0**high)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    else:
        axes.set_ylim(0, 1.08 * max(finite, default=1.0) or 1.0)
