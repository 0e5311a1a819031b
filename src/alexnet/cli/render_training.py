"""The table of `alexnet train --seeds` and `--folds`: the error of each run, their mean and standard deviation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imports torch
    from alexnet.training.repeats import Repeats


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
