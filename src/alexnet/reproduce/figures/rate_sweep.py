"""The figure of `alexnet lr-find`: the loss over the learning rate, with the suggested rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

from alexnet.reproduce.figures.axes import Axes, Key, Scale, label_room
from alexnet.reproduce.figures.drawing import Drawing
from alexnet.reproduce.figures.ticks import linear_ticks, log_ticks, number_labels
from alexnet.training.lr_find import RateSweep


def rate_sweep(sweep: RateSweep) -> Drawing:
    """Draw the loss of each batch and its moving average over a logarithmic axis of learning rates."""
    width, height = 432.0, 230.0  # points
    drawing = Drawing(width, height, "Loss over the learning rate" + (
        f", with the suggestion {sweep.suggestion:.2g}" if sweep.suggestion is not None else ""))
    finite = [loss for loss in sweep.smoothed if math.isfinite(loss)] or [1.0]
    low, start = min(finite), finite[0]
    margin = max(0.1 * start, start - low) or 1.0
    y = Scale(max(0.0, low - margin), start + margin)  # the loss after the divergence is of no interest
    ticks = linear_ticks(y.low, y.high)
    room = label_room(number_labels(ticks)) + 2
    axes = Axes(drawing, room, 22, width - room - 14, height - 22 - 34,
                Scale(min(sweep.rates) / 1.2, max(sweep.rates) * 1.2, logarithmic=True), y)
    axes.title("Loss (nats)")
    axes.y_axis(ticks, number_labels(ticks))
    rates = log_ticks(axes.x.low, axes.x.high)
    axes.x_axis(rates, [f"{rate:g}" for rate in rates], "learning rate")
    shown = _shown(sweep.smoothed, y.high)
    axes.plot(sweep.rates[:shown], sweep.losses[:shown], "faint", 1.0)
    axes.plot(sweep.rates[:shown], sweep.smoothed[:shown], "blue")
    keys = [Key("batch", "faint", 1.0), Key("moving average", "blue")]
    if sweep.suggestion is not None:
        axes.plot([sweep.suggestion] * 2, [y.low, y.high], "red", 1.2)
        keys.append(Key(f"suggestion: {sweep.suggestion:.2g}", "red", 1.2))
    axes.legend(keys)
    return drawing


def _shown(smoothed: Sequence[float], high: float) -> int:
    """How many batches are drawn: up to the one with which the moving average leaves the axes.

    After the divergence single losses are low by chance, and would be strokes without a curve.
    """
    return next((number for number, loss in enumerate(smoothed, 1) if not loss <= high), len(smoothed))
