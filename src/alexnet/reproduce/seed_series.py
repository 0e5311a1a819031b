"""Compare two series of runs, one run for each seed (`alexnet compare --with`): t test of their errors, paired or not.

All runs are measured on the same images. The test's intervals cover the seed, not the choice of these images.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alexnet.errors import UserError, require
from alexnet.inference.metrics import Errors
from alexnet.inference.statistics import SIGNIFICANCE
from alexnet.models.checkpoint import Checkpoint, load, weights_sha256
from alexnet.reproduce.run_settings import differing_settings
from alexnet.reproduce.t_tests import TTest, paired_t_test, welch_t_test
from alexnet.training.run_folder import logged


@dataclass(frozen=True)
class Series:
    """Runs that differ in their seed only."""

    names: tuple[str, ...]
    checkpoints: tuple[Checkpoint, ...]

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """One for each run; None where it is not recorded."""
        return tuple(saved.training.get("seed") for saved in self.checkpoints)

    def check(self) -> None:
        """Raise UserError if the runs are no sample of one setting: other settings differ, or a network occurs twice.
        """
        former: dict[str, str] = {}
        for saved, name in zip(self.checkpoints, self.names, strict=True):
            _require_finished(saved, name)
            digest = weights_sha256(saved.weights)
            require(digest not in former, f"{former.get(digest)} and {name} hold the same weights, so they are not two "
                    "runs", "name each run of a series once")
            former[digest] = name
        for setting in differing_settings(self.checkpoints):
            if setting.name.partition(".")[0] in ("arch", "recipe", "classes", "init", "transform") or (
                    setting.name == "data.fingerprint"):
                values = ", ".join("not recorded" if value is None else str(value) for value in setting.values)
                raise UserError(f"the runs of one series differ in {setting.name} ({values}): {', '.join(self.names)}",
                                "put runs that differ only in their seed into one series")


def _require_finished(saved: Checkpoint, name: str) -> None:
    """Raise UserError for a checkpoint of a run that diverged or was stopped: its best epoch is not its result."""
    if saved.path is None or not (events := logged(saved.path.parent)):
        return  # weights without a log
    require(any(event["event"] == "end" for event in events),
            f"{name} has not finished: it diverged, or was stopped",
            f"resume it (alexnet train DATA --out {saved.path.parent} --resume), or leave it out of the series")


@dataclass(frozen=True)
class Spread:
    """A series' errors: mean and standard deviation over its runs."""

    top1_error: float
    top1_deviation: float
    top5_error: float
    top5_deviation: float
    loss: float
    loss_deviation: float


@dataclass(frozen=True)
class SeriesTest:
    """Whether two series differ in top-1 error, in fractions of the images. Differences: the first minus the second."""

    method: Literal["paired t test", "Welch's t test"]
    unpaired_because: str
    """Why the runs are not paired by seed; "" if they are."""
    seeds: tuple[int, int]
    """Runs of each series."""
    difference: float
    """Of the means."""
    test: TTest | None
    """None: the runs do not spread, so that any difference would be called certain."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """95%, of the difference."""
        return (self.test.low, self.test.high) if self.test else None

    @property
    def significant(self) -> bool:
        """At the 5% level."""
        return self.test is not None and self.test.p < SIGNIFICANCE

    def to_json(self) -> dict[str, object]:
        """Difference, interval and p under the names that the test of two networks has."""
        return {"method": self.method, "unpaired_because": self.unpaired_because or None, "seeds": self.seeds,
                "difference": self.difference, "interval": self.interval,
                "p_value": self.test.p if self.test else None,
                "detectable": self.test.minimum_detectable if self.test else None, "significant": self.significant}


def spread(errors: Sequence[Errors]) -> Spread:
    """Mean and standard deviation over two runs or more."""
    columns = [[each.top1_error for each in errors], [each.top5_error for each in errors],
               [each.loss for each in errors]]
    return Spread(*(number for values in columns for number in (statistics.fmean(values), statistics.stdev(values))))


def compare_series(first: Series, second: Series, errors: tuple[Sequence[Errors], Sequence[Errors]]) -> SeriesTest:
    """Student's paired test if the runs are paired by seed, else Welch's."""
    values, others = ([each.top1_error for each in one] for one in errors)
    difference = statistics.fmean(values) - statistics.fmean(others)
    counts, reason = (len(values), len(others)), why_unpaired(first, second)
    if reason:
        test = welch_t_test(values, others) if _spreads(values) or _spreads(others) else None
        return SeriesTest("Welch's t test", reason, counts, difference, test)
    by_seed = dict(zip(second.seeds, others, strict=True))
    differences = [value - by_seed[seed] for seed, value in zip(first.seeds, values, strict=True)]
    return SeriesTest("paired t test", "", counts, difference,
                      paired_t_test(differences) if _spreads(differences) else None)


def _spreads(values: Sequence[float]) -> bool:
    """Whether values differ by more than the rounding of equal fractions."""
    return len({round(value, 9) for value in values}) > 1


def why_unpaired(first: Series, second: Series) -> str:
    """Why the runs of two series cannot be paired by seed; "" if they can."""
    for series in (first, second):
        if None in series.seeds:
            return f"the seed of {series.names[series.seeds.index(None)]} is not recorded"
        if len({*series.seeds}) < len(series.seeds):
            return "a series has one seed twice"
    if {*first.seeds} != {*second.seeds}:
        seeds = [", ".join(map(str, series.seeds)) for series in (first, second)]
        return f"the seeds differ: {seeds[0]} and {seeds[1]}"
    place = {seed: place for place, seed in enumerate(second.seeds)}
    for seed, saved, name in zip(first.seeds, first.checkpoints, first.names, strict=True):
        other = place[seed]
        if not np.array_equal(_validated_on(saved), _validated_on(second.checkpoints[other])):
            return f"{name} and {second.names[other]} were validated on different images in training"
    return ""


def _validated_on(saved: Checkpoint) -> NDArray[np.uint64]:
    """Content hashes of the images that chose the run's best epoch, which its last checkpoint does not hold."""
    with suppress(UserError):  # of a run without a best epoch
        if saved.path is not None and saved.path.name == "last":
            return load(saved.path.with_name("best"), fall_back=False).seen.selected_on
    return saved.seen.selected_on


def unequal_role(names: Sequence[str], selected_on: Sequence[int]) -> str:
    """Say which runs the measured images favor, as they chose the best epoch of some runs only; "" if of all or none.

    Args:
        names: of the runs.
        selected_on: for each run, how many of the measured images chose its best epoch or fitted its temperature.
    """
    most, least = (choose(range(len(names)), key=selected_on.__getitem__) for choose in (max, min))
    if selected_on[most] == selected_on[least]:
        return ""
    return (f"{selected_on[most]:,} of the measured images chose the best epoch of {names[most]}, and "
            f"{selected_on[least]:,} that of {names[least]}, which favors the former")


def spread_json(series: Series, errors: Sequence[Errors]) -> dict[str, object]:
    """A series as `compare --json` prints it."""
    return {"runs": list(series.names), "seeds": list(series.seeds), **asdict(spread(errors))}
