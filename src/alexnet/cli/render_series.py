"""Text of `alexnet compare --with`: two series of runs, mean and spread over seeds, and the t test of their errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet.cli.render_metrics import settings_table
from alexnet.models.checkpoint_json import has_top5

if TYPE_CHECKING:  # these bring torch or rich
    from rich.console import RenderableType

    from alexnet.inference.metrics import Errors
    from alexnet.reproduce.run_settings import DifferingSetting
    from alexnet.reproduce.seed_series import Series, SeriesTest

_EPOCHS = {"best": "best epoch (RUN/best), which the validation images chose",
           "last": "last epoch (RUN/last)"}

LABELS = ("A", "B")
"""What the two series are called in the text."""


def series_table(
    series: tuple[Series, Series], settings: Sequence[DifferingSetting],
    errors: tuple[Sequence[Errors], Sequence[Errors]], test: SeriesTest, all_settings: bool = False,
) -> RenderableType:
    """Differing settings of two series, their errors run by run, mean and spread, and the verdict."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    from alexnet.reproduce.seed_series import spread

    top5 = has_top5(len(series[0].checkpoints[0].classes))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("series", "run", "seed", "top-1 error", *(["top-5 error"] * top5), "loss"):
        table.add_column(title, justify="left" if title in ("series", "run") else "right", overflow="fold")
    for label, one, values in zip(LABELS, series, errors, strict=True):
        for name, seed, each in zip(one.names, one.seeds, values, strict=True):
            table.add_row(label, escape(name), "-" if seed is None else str(seed), f"{each.top1_error:.2%}",
                          *([f"{each.top5_error:.2%}"] * top5), f"{each.loss:.4f}")
        over = spread(values)
        table.add_row(label, "mean", "", f"{over.top1_error:.2%}", *([f"{over.top5_error:.2%}"] * top5),
                      f"{over.loss:.4f}", style="bold")
        table.add_row(label, "standard deviation", "", f"{100 * over.top1_deviation:.2f}",
                      *([f"{100 * over.top5_deviation:.2f}"] * top5), f"{over.loss_deviation:.4f}", style="bold")
    shown = settings_table(LABELS, settings, all_settings) if settings else (
        "The recorded settings of the two series are the same.")
    return Group(shown, "", table, "", *map(escape, series_test_text(test)))


def epochs_text(names: Sequence[str], paths: Sequence[Path | None]) -> str:
    """Which epoch of each run was measured: the best one or the last one.

    Args:
        names: of the runs.
        paths: of their checkpoints; None of weights that were not read from a checkpoint.
    """
    kinds = [path.name if path and path.name in _EPOCHS else "" for path in paths]
    if len({*kinds}) == 1 and kinds[0]:
        return f"errors are those of the {_EPOCHS[kinds[0]]}"
    said = (f"{name}: {_EPOCHS.get(kind, 'the checkpoint as it is')}" for name, kind in zip(names, kinds, strict=True))
    return f"errors are of different epochs: {'; '.join(said)}" if any(kinds) else "errors are of the weights named"


def series_test_text(found: SeriesTest) -> Iterator[str]:
    """The verdict with its numbers, how the runs were paired, and what the test could have found."""
    better, worse = LABELS if found.difference < 0 else LABELS[::-1]
    points, (low, high) = 100 * found.difference, (100 * end for end in found.interval or (0.0, 0.0))
    if points < 0:  # the interval of how much better the better one is
        points, low, high = -points, -high, -low
    fewer = f"{better} has {points:.2f} points less top-1 error than {worse}"
    if found.test is None:
        said = fewer if points else "A and B have the same mean top-1 error"
        yield f"{said}; there is no spread over the runs to test against: measure more images, or train more seeds."
    else:
        verdict = f"{better} is better than {worse}, by {points:.2f} points of top-1 error" if found.significant else (
            f"{fewer}, but that may be chance")
        yield f"{verdict} (95% interval {low:+.2f} to {high:+.2f}; {found.method}: p = {found.test.p:.2g})."
    first, second = found.seeds
    if found.unpaired_because:
        yield (f"The runs are not paired by seed, since {found.unpaired_because}; Welch's test takes them as "
               f"independent ({first} and {second} runs).")
    else:
        yield f"The runs are paired by seed ({first} pairs): same seed, same validation images."
    if found.test and found.test.minimum_detectable < 1:
        yield (f"With these runs the test usually finds only differences of {100 * found.test.minimum_detectable:.2f} "
               "points or more (power 80%, level 5%, at the observed spread).")
    elif found.test:
        yield "So few runs with so large a spread cannot show any difference: train more seeds."
    yield "The interval covers the seed of training, and not the choice of the images, which are the same for all runs."
