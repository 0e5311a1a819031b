"""t tests over seeds: paired and Welch's, with 95% intervals and the minimum detectable effect."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from alexnet.inference.statistics import SIGNIFICANCE, detectable_shift, t_inside, t_quantile


@dataclass(frozen=True)
class TTest:
    """Student's t test of whether a mean difference is 0, in the unit of the differences."""

    mean: float
    low: float
    """End of the 95% interval of the mean."""
    high: float
    low_all: float
    """End of the simultaneous 95% interval (Bonferroni): with a probability of at least 95%, the intervals of all
    comparisons of the family contain their true means."""
    high_all: float
    p: float
    """Two-sided, not corrected."""
    minimum_detectable: float
    """The true difference for which p is below SIGNIFICANCE / comparisons with a probability of POWER, if the spread
    is the observed one (noncentral t)."""


def paired_t_test(differences: Sequence[float], comparisons: int = 1) -> TTest:
    """Test differences between pairs, one for each seed.

    Args:
        differences: two or more.
        comparisons: how many the family has, this one included.
    """
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return _t_test(statistics.fmean(differences), error, len(differences) - 1, comparisons)


def welch_t_test(first: Sequence[float], second: Sequence[float]) -> TTest:
    """Test the difference of two means, first minus second, of values that are not paired and may spread unequally.

    Welch (1947), with Satterthwaite's degrees of freedom.

    Args:
        first, second: two values or more each.
    """
    squared = [statistics.variance(values) / len(values) for values in (first, second)]
    smaller = sum(square**2 / (len(values) - 1) for square, values in zip(squared, (first, second), strict=True))
    degrees = sum(squared) ** 2 / smaller if smaller else len(first) + len(second) - 2
    return _t_test(statistics.fmean(first) - statistics.fmean(second), math.sqrt(sum(squared)), degrees, 1)


def _t_test(mean: float, error: float, degrees: float, comparisons: int) -> TTest:
    """Of a mean difference with this standard error."""
    half = t_quantile(1 - SIGNIFICANCE / 2, degrees) * error
    quantile_all = t_quantile(1 - SIGNIFICANCE / comparisons / 2, degrees)
    p = max(0.0, 1 - t_inside(mean / error, degrees)) if error else float(mean == 0)
    detectable = detectable_shift(quantile_all, degrees) * error
    return TTest(mean, mean - half, mean + half, mean - quantile_all * error, mean + quantile_all * error, p,
                 detectable)
