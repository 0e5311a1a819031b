"""Text of `alexnet train`: the result; the table of `--seeds` and `--folds` (mean, spread); and that of `lr-find`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from alexnet.architecture.recipe import Recipe
from alexnet.cli.render_metrics import baselines_text, few_groups_text, over_groups

if TYPE_CHECKING:  # these import torch
    from alexnet.api.training import TrainedRun
    from alexnet.training.lr_find import RateSweep
    from alexnet.training.repeats import Repeats

SWEEP_ROWS = 12
"""Rows of the table of a sweep, about."""


def result_lines(done: TrainedRun) -> Iterator[str]:
    """The end of `alexnet train`: how good the network is, compared with guessing, and what to do next."""
    from alexnet.inference.class_metrics import baselines
    from alexnet.reproduce.report.commands import next_commands
    from alexnet.reproduce.report.run_data import packed_data
    from alexnet.training.run_folder import read_config, read_overlap

    errors, config = done.metrics, read_config(done.path)
    (low, high), over = errors.top1_interval, over_groups(errors.groups)
    # The only epoch is not chosen from several, and --head has none.
    best = "best " if config["recipe"]["epochs"] > 1 else ""
    yield f"{best}top-1 error {errors.top1_error:.1%} in {done.path / 'best'}"
    yield f"  95% interval{over} {low:.1%} to {high:.1%}, on {errors.images:,} validation images"
    yield from (f"  {line}" for line in few_groups_text(errors.groups))
    overlap = read_overlap(config)
    if known := overlap.describe():
        yield f"  {known}, {overlap.verdict}"
    packed = packed_data(done.path)
    if packed and len(packed.split("val")) == errors.images:
        yield f"  {baselines_text(baselines(packed.split('val').labels, packed.classes))}"
    yield f"report: {done.report}"
    yield "next:"
    for purpose, command in next_commands(config, str(done.path)):
        yield f"  {purpose}: {command}"


def repeats_table(repeats: Repeats) -> str:
    """A line for each run, and what they have in common."""
    def percent(error: float | None) -> str:
        return "diverged" if error is None else f"{error:.1%}"

    chosen = any(run.epochs > 1 for run in repeats.runs)  # the only epoch is not, and --head has none
    errors = f"{'last epoch':>12}{'best epoch':>12}" if chosen else f"{'top-1 error':>13}"
    lines = [f"{'run':<10}{'training':>10}{'validation':>12}{errors}"]
    lines += [f"{run.name:<10}{run.training_images:>10,}{run.validation_images:>12,}"
              + (f"{percent(run.last_error):>12}{percent(run.best_error):>12}" if chosen else
                 f"{percent(run.last_error):>13}") for run in repeats.runs]
    if repeats.mean is not None:
        spread = f", standard deviation {100 * repeats.deviation:.1f} points" if repeats.deviation is not None else ""
        lines.append(f"top-1 error{' after the last epoch' * chosen}: mean {repeats.mean:.1%}{spread}, over "
                     f"{len(repeats.last_errors)} {repeats.kind}s")
    if repeats.pooled and repeats.pooled_interval:
        (wrong, images), (low, high), groups = repeats.pooled, repeats.pooled_interval, repeats.pooled_groups
        lines.append(f"{_pooled_images(repeats, images)}: {wrong / images:.1%} (95% interval{over_groups(groups)} "
                     f"{low:.1%} to {high:.1%})")
        lines += few_groups_text(groups)
    lines += [f"{run.name}: {known}" for run in repeats.runs[: 1 if repeats.kind == "seed" else None]
              if (known := run.overlap.describe())]
    parent = repeats.runs[0].path.parent
    if chosen:
        lines.append("The best epoch was selected on the same validation images, so its error is slightly optimistic.")
    lines.append(f"runs: {', '.join(str(run.path) for run in repeats.runs)}")
    if repeats.kind == "seed":
        lines.append("compare with another series, by the last epoch too: alexnet compare "
                     f"{shlex.quote(str(parent))} --with OTHER-RUNS")
    return "\n".join(lines)


def _pooled_images(repeats: Repeats, images: int) -> str:
    """Which images the pooled error of all folds is of, and what is known of who was trained on them."""
    left_out = sum(run.left_out for run in repeats.runs)
    unknown = sorted({name for run in repeats.runs for name in run.unknown})
    count = f"{images:,} of {images + left_out:,} images" if left_out else f"all {images:,} images"
    network = "run that did not train on it" if unknown else "network that was not trained on it"
    notes = [f"the weights of --init were trained on the other {left_out:,}"] if left_out else []
    notes += [f"it is not known which images {' and '.join(unknown)} were trained on"] if unknown else []
    said = f" ({'; '.join(notes)})" if notes else ""
    return f"over {count}, each measured once by a {network}{said}"


def sweep_table(sweep: RateSweep, recipe: Recipe) -> str:
    """Some of the sweep's rates with their smoothed losses, and the suggestion."""
    last = len(sweep.rates) - 1
    rows = [*range(0, last, max(1, last // SWEEP_ROWS)), last]
    lines = [f"{'learning rate':>13}  {'loss':>8}", *(
        f"{sweep.rates[step]:13.2e}  {sweep.smoothed[step]:8.3f}" for step in rows)]
    rise = (f"rose above its start at {sweep.rose:.2g}" if sweep.rose is not None else
            f"did not rise above its start up to {sweep.rates[-1]:.2g}")
    lines.append(f"the loss was lowest at {sweep.lowest:.2g}, and {rise}")
    if sweep.suggestion is not None:
        lines.append(f"suggested learning rate: {sweep.suggestion:.2g}   (train with --lr {sweep.suggestion:.2g}; the "
                     f"recipe {recipe.name} has {recipe.learning_rate:g})")
    return "\n".join(lines)
