"""Statistics of paired comparisons over seeds: Student's t test, 95% intervals, minimum detectable effect.

The runtime has no SciPy. Student's distribution has a closed form for a whole number of degrees of freedom
(Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from alexnet.inference.comparison import POWER, SIGNIFICANCE


@dataclass(frozen=True)
class PairedTTest:
    """Student's t test of whether the mean of paired differences is 0, in the unit of the differences."""

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


def paired_t_test(differences: Sequence[float], comparisons: int = 1) -> PairedTTest:
    """Test differences between pairs, one for each seed.

    Args:
        differences: two or more.
        comparisons: how many the family has, this one included.
    """
    degrees = len(differences) - 1
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    half = t_quantile(1 - SIGNIFICANCE / 2, degrees) * error
    quantile_all = t_quantile(1 - SIGNIFICANCE / comparisons / 2, degrees)
    p = max(0.0, 1 - t_inside(mean / error, degrees)) if error else float(mean == 0)
    # The usual approximation; it replaces the noncentral t distribution by a shifted one.
    detectable = (quantile_all + t_quantile(POWER, degrees)) * error
    return PairedTTest(mean, mean - half, mean + half, mean - quantile_all * error, mean + quantile_all * error, p,
                       detectable)


def t_inside(t: float, degrees: int) -> float:
    """Probability that Student's t lies between -|t| and |t|."""
    theta = math.atan(abs(t) / math.sqrt(degrees))
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = degrees % 2
    term = total = cosine if odd else 1.0
    for factor in range(3 if odd else 2, degrees, 2):  # cos^3 2/3, cos^5 2 4 / (3 5), ...; cos^2 1/2, cos^4 1 3 / (2 4)
        term *= cosine**2 * (factor - 1) / factor
        total += term
    if not odd:
        return sine * total
    return 2 / math.pi * (theta + (sine * total if degrees > 1 else 0.0))


def t_quantile(probability: float, degrees: int) -> float:
    """The value that Student's t is below with this probability, which is above 0.5."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 + t_inside(middle, degrees)) / 2 < probability else (low, middle)
    return (low + high) / 2
