"""Statistics: Wilson's 95% interval, the 5% level and 80% power of tests, Holm's correction, Student's t without SciPy.

The power of a t test is that of the noncentral t distribution, integrated over the estimated standard deviation.

The runtime does not have SciPy. Student's t follows from the incomplete beta function, whose continued fraction is
8.17.22 of the NIST Digital Library of Mathematical Functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

Interval = tuple[float, float]
"""Lower and upper end."""

SIGNIFICANCE = 0.05
"""Level of every test."""

POWER = 0.8
"""Probability with which a test finds a difference that is called detectable."""

Z, Z_POWER = 1.959964, 0.841621
"""Quantiles of the normal distribution at 1 - SIGNIFICANCE / 2 and at POWER."""

_TERMS = 60
"""Of the continued fraction, in pairs: enough for double precision up to 400 degrees of freedom."""

_STEPS = 2000
"""Steps of the integral over the standard deviation: ten times narrower than what is integrated changes."""

_MANY = 100
"""Degrees of freedom from which `critical_value` uses an expansion about the normal quantile."""


def wilson(count: float, images: float, z: float = Z) -> Interval:
    """Wilson's score interval for a fraction; (0, 1) without images.

    It covers the choice of images, and not that of the training seed.

    Args:
        count: number of errors, or of other images that are counted.
        images: number of independent images.
        z: quantile of the normal distribution; the default gives 95%.
    """
    if not images:
        return 0.0, 1.0
    p, n = count / images, images
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, center - half), min(1.0, center + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979), which bounds the probability of any false finding among several tests."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, number in enumerate(sorted(range(len(p_values)), key=lambda each: p_values[each])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[number]))
        adjusted[number] = highest
    return adjusted


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


@lru_cache(maxsize=256)
def detectable_shift(critical: float, degrees: float) -> float:
    """The true mean, in standard errors, that a two-sided t test finds with a probability of POWER.

    (Z + shift) / S exceeds `critical`, or is below -`critical`, with that probability, where Z is normal and degrees
    S^2 is chi-squared: |t| of the noncentral t distribution. For many degrees of freedom it is the sum of the normal
    quantiles, 2.80; with few, more than the sum of Student's quantiles, since one S is in both.

    Args:
        critical: the test finds a difference if |t| is above it.
        degrees: of freedom, 1 or more, or a fraction of it.
    """
    reach = 9 / math.sqrt(degrees)
    start, width = max(0.0, 1 - reach), (1 + reach - max(0.0, 1 - reach)) / _STEPS
    deviations = [start + (step + 0.5) * width for step in range(_STEPS)]
    densities = [math.exp((degrees - 1) * math.log(s) - degrees * (s * s - 1) / 2) for s in deviations]
    total = math.fsum(densities)
    low, high = 0.0, critical + 10
    for _ in range(50):
        middle = (low + high) / 2
        power = math.fsum(density * (math.erfc((critical * s - middle) * math.sqrt(0.5))
                                     + math.erfc((critical * s + middle) * math.sqrt(0.5))) / 2
                          for s, density in zip(deviations, densities, strict=True)) / total
        low, high = (middle, high) if power < POWER else (low, middle)
    return (low + high) / 2


@lru_cache(maxsize=4096)
def critical_value(degrees: int) -> float:
    """The 97.5% quantile of Student's t for any whole number of degrees of freedom; infinite for 0.

    For many it is an expansion in 1 / degrees (Abramowitz and Stegun 1964, 26.7.5), to eight digits.
    """
    if degrees < 1:
        return math.inf
    if degrees < _MANY:
        return t_quantile(0.975, degrees)
    first, second = (Z**3 + Z) / 4, (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    third = (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384
    return Z + first / degrees + second / degrees**2 + third / degrees**3
