"""The figure of `alexnet lr-find`: the loss over the learning rate, with the suggested rate."""

from __future__ import annotations

import matplotlib
from matplotlib.figure import Figure

from alexnet.reproduce.figures.style import BLUE, FAINT, INK, RED, STYLE
from alexnet.training.lr_find import RateSweep


@matplotlib.rc_context(STYLE)
def rate_sweep(sweep: RateSweep) -> Figure:
    """Draw the loss of each batch and its moving average over a logarithmic axis of learning rates."""
    figure = Figure(figsize=(6.0, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(sweep.rates, sweep.losses, color=FAINT, linewidth=1.0, label="batch")
    axes.plot(sweep.rates, sweep.smoothed, color=BLUE, label="moving average")
    if sweep.suggestion is not None:
        axes.axvline(sweep.suggestion, color=RED, linewidth=1.2, label=f"suggestion: {sweep.suggestion:.2g}")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    low, start = min(sweep.smoothed), max(sweep.smoothed[:1])
    margin = max(0.1 * start, start - low)
    axes.set_ylim(max(0.0, low - margin), start + margin)  # the loss after the divergence is of no interest
    axes.set_title("Loss (nats)")
    axes.set_xlabel("learning rate")
    axes.legend(loc="best", labelcolor=INK)
    return figure
