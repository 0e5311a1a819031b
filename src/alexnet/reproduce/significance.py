"""Statistics over seeds: paired and Welch's t tests, 95% intervals, minimum detectable effect.

The runtime has no SciPy. Student's distribution follows from the incomplete beta function, whose continued fraction is
8.17.22 of the NIST Digital Library of Mathematical Functions.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from alexnet.inference.comparison import POWER, SIGNIFICANCE

_TERMS = 60
"""Of the continued fraction, in pairs: enough for double precision up to 400 degrees of freedom."""


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
    is the observed one."""


def paired_t_test(differences: Sequence[float], comparisons: int = 1) -> TTest:
    """Test differences between pairs, one for each seed.

    Args:
        differences: two or more.
        comparisons: how many the family has, this one included.
    """
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return _t_test(statistics.fmean(differences), error, len(differences) - 1, comparisons)


def welch_t_test(first: Sequence[float], second: Sequence[float]) -> TTest:
    """Test the difference of two means, first less second, of values that are not paired and may spread unequally.

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
    # The usual approximation; it replaces the noncentral t distribution by a shifted one.
    detectable = (quantile_all + t_quantile(POWER, degrees)) * error
    return TTest(mean, mean - half, mean + half, mean - quantile_all * error, mean + quantile_all * error, p,
                 detectable)


def t_inside(t: float, degrees: float) -> float:
    """Probability that Student's t lies between -|t| and |t|, for 1 degree of freedom or more, or a fraction of it."""
    return _incomplete_beta(t * t / (degrees + t * t), 0.5, degrees / 2)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b)."""
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly
        return 1 - _incomplete_beta(1 - x, b, a)
    if x == 0:
        return 0.0
    fraction = 1.0
    for m in range(_TERMS, 0, -1):
        fraction = 1 + m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)) / fraction
        fraction = 1 - (a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1)) / fraction
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(scale) / (a * fraction)


def t_quantile(probability: float, degrees: float) -> float:
    """The value that Student's t is below with this probability, which is above 0.5."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 + t_inside(middle, degrees)) / 2 < probability else (low, middle)
    return (low + high) / 2
