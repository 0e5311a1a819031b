"""Compare networks on the same images: McNemar's exact paired test, the difference's interval, and Holm's correction.

Shapes: N images, R networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

SIGNIFICANCE = 0.05
POWER = 0.8
_Z_SIGNIFICANCE, _Z_POWER = 1.959964, 0.841621
"""Quantiles of the normal distribution at 1 - SIGNIFICANCE / 2 and at POWER."""


@dataclass(frozen=True)
class PairedTest:
    """Whether two networks differ in top-1 error, on images that both classified."""

    first: int
    second: int
    """The networks, by number."""
    images: int
    only_first_right: int
    only_second_right: int
    difference: float
    """Top-1 error of the first less that of the second: positive if the second is better."""
    interval: tuple[float, float]
    """95% (Bonett and Price 2012, adjusted Wald interval for paired proportions)."""
    p_value: float
    """McNemar's test, exact and two-sided."""
    adjusted_p_value: float
    """By Holm's method, over all pairs that are compared."""
    detectable: float
    """The smallest difference that these images would show in 80 of 100 such tests at the 5% level, given how often the
    two networks disagree."""
    images_needed: int | None
    """Images on which the measured difference would be shown in 80 of 100 tests; None for no difference."""

    @property
    def significant(self) -> bool:
        """At the 5% level, after Holm's correction."""
        return self.adjusted_p_value < SIGNIFICANCE

    def to_json(self) -> dict[str, object]:
        """Every field, and `significant`."""
        return asdict(self) | {"significant": self.significant}


def paired_tests(right_RN: NDArray[np.bool_]) -> list[PairedTest]:
    """Test every pair of networks, in order.

    Args:
        right_RN: whether each network classified each image correctly; at least one image.
    """
    pairs = [(first, second) for first in range(len(right_RN)) for second in range(first + 1, len(right_RN))]
    counts = [(int((right_RN[first] & ~right_RN[second]).sum()), int((right_RN[second] & ~right_RN[first]).sum()))
              for first, second in pairs]
    values = [mcnemar(*each) for each in counts]
    images = right_RN.shape[1]
    return [PairedTest(first, second, images, *only, (only[1] - only[0]) / images, difference_interval(*only, images),
                       value, adjusted, detectable_difference(sum(only), images), images_needed(*only, images))
            for (first, second), only, value, adjusted in zip(pairs, counts, values, holm(values), strict=True)]


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p-value of McNemar's exact test: a coin thrown only_first + only_second times.

    Args:
        only_first: images that only the first network classified correctly.
        only_second: images that only the second one classified correctly.
    """
    throws, fewer = only_first + only_second, min(only_first, only_second)
    # Logarithms, since 2^throws exceeds a float's range.
    terms = [math.lgamma(throws + 1) - math.lgamma(k + 1) - math.lgamma(throws - k + 1) - throws * math.log(2)
             for k in range(fewer + 1)]
    return min(1.0, 2 * math.fsum(map(math.exp, terms)))


def difference_interval(only_first: int, only_second: int, images: int) -> tuple[float, float]:
    """The 95% interval of the difference of two paired error rates (Bonett and Price 2012).

    One image is added to each of the two counts, which keeps the interval right for few images.
    """
    first, second = (only_first + 1) / (images + 2), (only_second + 1) / (images + 2)
    half = _Z_SIGNIFICANCE * math.sqrt((first + second - (second - first) ** 2) / (images + 2))
    return max(-1.0, second - first - half), min(1.0, second - first + half)


def detectable_difference(disagreements: int, images: int) -> float:
    """The smallest difference in error that a test at the 5% level finds with a power of 80%.

    For a fraction d of disagreements and a difference D, the test needs
    (z_0.975 sqrt(d) + z_0.8 sqrt(d - D^2))^2 / D^2 images (Connor 1987); D is solved for. A difference cannot exceed
    the disagreements, so a D above the measured d counts as if d were D.

    Args:
        disagreements: images that only one of the two networks classified correctly.
        images: all images.
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        too_few = _needed(middle, max(middle, disagreements / images)) > images
        low, high = (middle, high) if too_few else (low, middle)
    return high


def images_needed(only_first: int, only_second: int, images: int) -> int | None:
    """Images on which a difference as large as the measured one is found with a power of 80%; None for none."""
    if only_first == only_second:
        return None
    return math.ceil(_needed(abs(only_second - only_first) / images, (only_first + only_second) / images))


def _needed(difference: float, disagreeing: float) -> float:
    if difference <= 0:
        return math.inf
    spread = _Z_SIGNIFICANCE * math.sqrt(disagreeing) + _Z_POWER * math.sqrt(max(0.0, disagreeing - difference**2))
    return (spread / difference) ** 2


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979), which bounds the probability of any false finding among several tests."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, number in enumerate(sorted(range(len(p_values)), key=lambda each: p_values[each])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[number]))
        adjusted[number] = highest
    return adjusted
