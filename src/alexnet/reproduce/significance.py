"""Statistics of paired comparisons over seeds: Student's t test, 95% interval, Holm's correction, detectable effect.

The runtime has no SciPy. Student's distribution has a closed form for a whole number of degrees of freedom
(Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.05
"""Two-sided level of the tests."""
POWER = 0.8
"""Power at which the minimum detectable effect is given."""


@dataclass(frozen=True)
class PairedTest:
    """Student's t test of whether the mean of paired differences is 0, in the unit of the differences."""

    mean: float
    low: float
    """End of the 95% interval of the mean."""
    high: float
    p: float
    """Two-sided."""
    minimum_detectable: float
    """The true difference that this test finds with a power of POWER, if the spread is the observed one."""


def paired_test(differences: Sequence[float]) -> PairedTest:
    """Test differences between pairs, one for each seed. Needs at least two."""
    degrees = len(differences) - 1
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    quantile = t_quantile(1 - LEVEL / 2, degrees)
    half_width = quantile * error
    p = max(0.0, 1 - t_inside(mean / error, degrees)) if error else float(mean == 0)
    # The usual approximation; it replaces the noncentral t distribution by a shifted one.
    detectable = (quantile + t_quantile(POWER, degrees)) * error
    return PairedTest(mean, mean - half_width, mean + half_width, p, detectable)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p values that may be compared with one level for the whole family, in order."""
    corrected, largest = [0.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


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
