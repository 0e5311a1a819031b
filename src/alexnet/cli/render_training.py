"""Tables of `alexnet train --seeds` and `--folds` (the error of each run, mean, spread) and of `alexnet lr-find`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alexnet.architecture.recipe import Recipe

if TYPE_CHECKING:  # these import torch
    from alexnet.training.lr_find import RateSweep
    from alexnet.training.repeats import Repeats

SWEEP_ROWS = 12
"""Rows of the table of a sweep, about."""


def repeats_table(repeats: Repeats) -> str:
    """A line for each run, and what they have in common."""
    from alexnet.inference.metrics import wilson

    def percent(error: float | None) -> str:
        return "diverged" if error is None else f"{error:.1%}"

    lines = [f"{'run':<10}{'training':>10}{'validation':>12}{'last epoch':>12}{'best epoch':>12}"]
    lines += [f"{run.name:<10}{run.training_images:>10,}{run.validation_images:>12,}{percent(run.last_error):>12}"
              f"{percent(run.best_error):>12}" for run in repeats.runs]
    if repeats.mean is not None:
        spread = f", standard deviation {repeats.deviation:.1%}" if repeats.deviation is not None else ""
        lines.append(f"top-1 error after the last epoch: mean {repeats.mean:.1%}{spread}, over "
                     f"{len(repeats.last_errors)} {repeats.kind}s")
    if repeats.pooled:
        wrong, images = repeats.pooled
        low, high = wilson(wrong, images)
        lines.append(f"over all {images:,} images, each measured once by a network that was not trained on it: "
                     f"{wrong / images:.1%} (95% interval {low:.1%} to {high:.1%})")
    lines.append("The best epoch was selected on the same validation images, so its error is slightly optimistic.")
    return "\n".join(lines)


def sweep_table(sweep: RateSweep, recipe: Recipe) -> str:
    """Some of the sweep's rates with their smoothed losses, and the suggestion."""
    last = len(sweep.rates) - 1
    rows = [*range(0, last, max(1, last // SWEEP_ROWS)), last]
    lines = [f"{'learning rate':>13}  {'loss':>8}", *(
        f"{sweep.rates[step]:13.2e}  {sweep.smoothed[step]:8.3f}" for step in rows)]
    lines.append(f"the loss {'diverged at' if sweep.diverged else 'was followed up to'} {sweep.rates[-1]:.2g}, and was "
                 f"lowest at {sweep.lowest:.2g}")
    if sweep.suggestion is not None:
        lines.append(f"suggested learning rate: {sweep.suggestion:.2g}   (train with --lr {sweep.suggestion:.2g}; the "
                     f"recipe {recipe.name} has {recipe.learning_rate:g})")
    return "\n".join(lines)
