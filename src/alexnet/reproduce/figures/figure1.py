"""Figure 1 of the paper: training error over epochs, one curve for each run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from alexnet.errors import UserError, require
from alexnet.reproduce.claims import TARGET_ERROR
from alexnet.reproduce.figures.learning_curves import DASHED
from alexnet.reproduce.figures.style import BLUE, INK, PAPER, QUIET, RED, STYLE
from alexnet.training.run_folder import read_config, read_log

LINES = (("-", BLUE), (DASHED, RED), ((0, (1, 1.4)), INK), ((0, (5, 1.4, 1, 1.4)), QUIET))
"""Dashes and color of the curves."""

LINE_OF = {"relu": 0, "tanh": 1, "sigmoid": 2}
"""The number in LINES of each activation, as in the paper: ReLU solid, tanh dashed."""


def figure1(runs: Sequence[Path], names: Sequence[str] = ()) -> Figure:
    """Draw the training error of runs over epochs: ReLU solid and tanh dashed, as in the paper, sigmoid dotted.

    Further runs of the same activation have the lines that no other run has.

    Args:
        runs: folders of runs, each once.
        names: labels for the legend; default: each run's folder and activation.

    Raises:
        UserError: a run is named twice, is no run, or has no finished epoch.
    """
    resolved = [Path(os.path.realpath(run)) for run in runs]
    for number, run in enumerate(resolved):
        require(run not in resolved[:number], f"{runs[number]} is given twice", "name each run once")
    curves = [_training_curve(run) for run in runs]
    activations = [read_config(run)["arch"]["activation"] for run in runs]
    if not names:
        folders = [run.name for run in resolved]
        labels = folders if len(set(folders)) == len(runs) else [str(run) for run in runs]
        names = [f"{label}, {'ReLU' if activation == 'relu' else activation}"
                 for label, activation in zip(labels, activations, strict=True)]
    return training_error_curves(dict(zip(names, curves, strict=True)), line_numbers(activations))


def line_numbers(activations: Sequence[str]) -> list[int]:
    """For each run's activation the number of its line in LINES: LINE_OF for the first run of each, then free ones."""
    own = [LINE_OF[activation] if activation not in activations[:place] else None
           for place, activation in enumerate(activations)]
    free = [number for number in range(len(LINES)) if number not in own] or [*range(len(LINES))]
    further = cycle(free)
    return [next(further) if number is None else number for number in own]


def _training_curve(run: Path) -> list[tuple[float, float]]:
    """(epoch, training error) from a run's log, with chance level at epoch 0 if the number of classes is logged."""
    events = read_log(run)
    epochs = {event["epoch"]: event["train_error"] for event in events
              if event["event"] == "epoch" or event["event"] == "trained"}
    classes = next((event["classes"] for event in events if event["event"] == "start"), 0)
    if not epochs:
        raise UserError(f"{run} has no finished epoch to draw", "train it for at least one epoch")
    return [*([(0.0, 1 - 1 / classes)] if classes else []), *sorted(epochs.items())]


@matplotlib.rc_context(STYLE)
def training_error_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]], lines: Sequence[int], target: float = TARGET_ERROR,
) -> Figure:
    """Draw named curves of (epoch, error), each by its number in LINES, with a horizontal line at `target`.

    A point at epoch 0 is chance level, not a measurement, and is drawn as an open circle.
    """
    figure = Figure(figsize=(6.6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(target, color=QUIET, linewidth=0.8)
    for number, (name, points) in zip(lines, curves.items(), strict=True):
        epochs, errors = zip(*points, strict=True)
        dashes, color = LINES[number]
        axes.plot(epochs, errors, label=name, color=color, linestyle=dashes)
    if chance := sorted({error for points in curves.values() for epoch, error in points if epoch == 0}):
        axes.plot([0] * len(chance), chance, "o", markersize=5.5, markerfacecolor=PAPER, markeredgecolor=QUIET,
                  clip_on=False, zorder=3, label="chance, before training")
    axes.text(1.015, target, f"{target:.0%}, where the\npaper compares", transform=axes.get_yaxis_transform(),
              va="center", color=QUIET, fontsize=8.5)  # to the right of the axes, where it covers no curve
    axes.set_title("Training error")
    axes.set_xlabel("epoch")
    axes.set_ylim(0, None)
    axes.set_xlim(0, None)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    # Outside the axes, above the words on the target: within them it would cover a curve or the target's line.
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1.04), labelcolor=INK, fontsize=9)
    return figure
