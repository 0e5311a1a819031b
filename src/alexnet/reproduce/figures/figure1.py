"""Figure 1 of the paper: training error over epochs, one curve for each run."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

from alexnet.errors import UserError, require
from alexnet.reproduce.claims import TARGET_ERROR
from alexnet.reproduce.figures.axes import HAIRLINE, Axes, Key, Scale, draw_legend, label_room, legend_size
from alexnet.reproduce.figures.drawing import Color, Drawing
from alexnet.reproduce.figures.learning_curves import DASHED
from alexnet.reproduce.figures.ticks import linear_ticks, percent_labels
from alexnet.training.run_folder import read_config, read_log

LINES: tuple[tuple[tuple[float, ...], Color], ...] = (
    ((), "blue"), (DASHED, "red"), ((1, 1.4), "ink"), ((5, 1.4, 1, 1.4), "quiet"))
"""Dashes and color of the curves."""

LINE_OF = {"relu": 0, "tanh": 1, "sigmoid": 2}
"""The number in LINES of each activation, as in the paper: ReLU solid, tanh dashed."""


def figure1(runs: Sequence[Path], names: Sequence[str] = ()) -> Drawing:
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


def training_error_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]], lines: Sequence[int], target: float = TARGET_ERROR,
) -> Drawing:
    """Draw named curves of (epoch, error), each by its number in LINES, with a horizontal line at `target`.

    A point at epoch 0 is chance level, not a measurement, and is drawn as an open circle.
    """
    chance = sorted({error for points in curves.values() for epoch, error in points if epoch == 0})
    keys = [Key(name, LINES[number][1], dashes=LINES[number][0]) for number, name in zip(lines, curves, strict=True)]
    if chance:
        keys.append(Key("chance, before training", "quiet", 0.0, marker="circle", filled=False))
    x = Scale(0.0, max(epoch for points in curves.values() for epoch, _ in points))
    errors = [error for points in curves.values() for _, error in points if math.isfinite(error)]
    y = Scale(0.0, 1.05 * max(target, *errors))
    ticks = linear_ticks(y.low, y.high)
    left = label_room(percent_labels(ticks)) + 2
    right = max(legend_size(keys)[0], 80.0) + 14  # beside the axes: within them the legend would cover curves
    drawing = Drawing(left + 320 + right, max(245.0, legend_size(keys)[1] + 60),
                      f"Training error over epochs: {', '.join(curves)}")
    axes = Axes(drawing, left, 22, 320, 189, x, y)
    axes.title("Training error")
    axes.y_axis(ticks, percent_labels(ticks))
    epochs = linear_ticks(x.low, x.high, 8, whole=True)
    axes.x_axis(epochs, [f"{epoch:g}" for epoch in epochs], "epoch")
    axes.plot([x.low, x.high], [target, target], "quiet", HAIRLINE)
    for key, points in zip(keys, curves.values(), strict=False):
        axes.plot([epoch for epoch, _ in points], [error for _, error in points], key.color, dashes=key.dashes)
    axes.marks([0.0] * len(chance), chance, "quiet", 2.7, fill="paper")
    draw_legend(axes, keys, axes.right + 12, axes.top - 4)
    # At the target's line, and below the legend of many runs.
    middle = max(axes.place(0.0, target)[1], axes.top - 4 + legend_size(keys)[1] + 16)
    axes.text(axes.right + 6, middle, f"{target:.0%}, where the\npaper compares", 8.5, "quiet", vertical="middle")
    return drawing
