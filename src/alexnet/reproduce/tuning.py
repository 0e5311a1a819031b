"""Search of a variant's learning rate: a grid in steps of about 3, extended until the best rate has neighbors."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_RATES = 8
"""Rates that are tried of a variant at most."""


@dataclass(frozen=True)
class Trial:
    """What a run with a tuning seed came to."""

    value: float | None
    """The quantity to minimize. None: the run diverged, or did not reach its target."""
    fallback: float = math.inf
    """The quantity to minimize where no run has a value: the last clean training error."""


@dataclass(frozen=True)
class Tuned:
    """The grid of a variant, and the best rate in it."""

    rate: float
    grid: dict[float, list[Trial]]
    """By ascending rate."""

    @property
    def interior(self) -> bool:
        """Whether a lower and a higher rate were tried."""
        return min(self.grid) < self.rate < max(self.grid)


def search(
    run: Callable[[float], list[Trial]], rates: Sequence[float], max_rates: int = MAX_RATES,
) -> Tuned:
    """Try the rates, and further ones beyond the end that is best, until the best is interior.

    Args:
        run: trains with a rate, once for each tuning seed.
        rates: 1 or 3 times a power of 10.
        max_rates: where to stop although the best rate is an end of the grid.
    """
    grid = {rate: run(rate) for rate in rates}
    while True:
        grid = dict(sorted(grid.items()))
        tuned = Tuned(_best(grid), grid)
        if tuned.interior or len(grid) >= max_rates:
            return tuned
        rate = next_rate(tuned.rate, 1 if tuned.rate == max(grid) else -1)
        grid[rate] = run(rate)


def next_rate(rate: float, direction: int) -> float:
    """The neighbor of a rate in 0.001, 0.003, 0.01, 0.03, ...: above for direction 1, below for -1."""
    place = round(2 * math.log10(rate)) + direction  # 0.01 -> -4, 0.003 -> -5
    return float(f"{1 if place % 2 == 0 else 3}e{place // 2}")


def _best(grid: dict[float, list[Trial]]) -> float:
    """The rate with the fewest runs without a value, then the lowest mean; of equal ones, one that has neighbors."""
    def score(rate: float) -> tuple[int, float, float, bool]:
        trials = grid[rate]
        values = [trial.value for trial in trials if trial.value is not None]
        return (len(trials) - len(values), statistics.fmean(values) if values else math.inf,
                statistics.fmean(trial.fallback for trial in trials), rate in (min(grid), max(grid)))

    return min(grid, key=score)
