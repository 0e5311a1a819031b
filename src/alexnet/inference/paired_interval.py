"""The 95% interval of the difference of two error rates on the same images that belongs to McNemar's exact test.

Fay and Lumbard 2021 (Statistics in Medicine 40:1147-1159), the melded interval. The difference is d (2 q - 1), where d
is the fraction of images that only one network classified correctly, and q the second one's share of them. Both have
confidence distributions of the Beta family, those of Clopper and Pearson's intervals; the limits are quantiles of the
product. Where q = 1/2 the product is 0 whatever d is, so the interval excludes 0 exactly where the test finds p < 5%.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from alexnet.inference.statistics import SIGNIFICANCE

_CELLS = 2000
"""Cells over which a distribution is integrated; limits are right to five digits."""

_WIDTH = 14
"""Standard deviations about the mean that the cells cover: also an exponential tail has less than 1e-6 outside."""


def difference_interval(
    only_first: float, only_second: float, images: float, p_value: float,
) -> tuple[float, float]:
    """The 95% interval of the first error rate minus the second, -1 to 1.

    Args:
        only_first: images that only the first network classified correctly; also a scaled, fractional count.
        only_second: as `only_first`, of the second network.
        images: all images, also those that both or none classified correctly.
        p_value: of the test of whether the networks differ. An end of the interval on the wrong side of 0 is moved to
            0, as scaled counts of images in groups may put it there.
    """
    low, high = _lower_limit(only_second, only_first, images), -_lower_limit(only_first, only_second, images)
    if p_value >= SIGNIFICANCE:
        return min(low, 0.0), max(high, 0.0)
    return (max(low, 0.0), high) if only_second > only_first else (low, min(high, 0.0))


def _lower_limit(wins: float, losses: float, images: float) -> float:
    """The 2.5% quantile of d (2 q - 1) by the lower confidence distribution of q, and of d the one that lowers it."""
    share_C, mass_C = _beta_cells(wins, losses + 1)
    sign_C = 2 * share_C - 1
    fraction_C, fraction_mass_C = _beta_cells(wins + losses, images - wins - losses + 1)
    others_C, others_mass_C = _beta_cells(images - wins - losses, wins + losses + 1)  # 1 - d, its upper distribution
    is_up_C, is_down_C = sign_C > 0, sign_C < 0
    low, high = -1.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if middle >= 0:
            below = mass_C[~is_up_C].sum() + (
                mass_C[is_up_C] * _below(middle / sign_C[is_up_C], fraction_C, fraction_mass_C)).sum()
        else:
            below = (mass_C[is_down_C] * _below(1 - middle / sign_C[is_down_C], others_C, others_mass_C)).sum()
        low, high = (middle, high) if below < SIGNIFICANCE / 2 else (low, middle)
    return (low + high) / 2


def _beta_cells(a: float, b: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centers [C] of equal cells, and the probability [C] of each by the Beta distribution, a >= 0 and b >= 1.

    For a below 1 the density has no bound at 0, so x^(a - 1) is integrated over each cell exactly. a = 0 is the point
    0 (one cell).
    """
    if a <= 0:
        return np.zeros(1), np.ones(1)
    mean, deviation = a / (a + b), math.sqrt(a * b / (a + b + 1)) / (a + b)
    edges = np.linspace(max(0.0, mean - _WIDTH * deviation), min(1.0, mean + _WIDTH * deviation), _CELLS + 1)
    center_C = (edges[1:] + edges[:-1]) / 2
    with np.errstate(divide="ignore"):
        logs = np.log(edges)
    log_mass_C = a * logs[1:] + np.log1p(-np.exp(a * (logs[:-1] - logs[1:]))) + (b - 1) * np.log1p(-center_C)
    mass_C = np.exp(log_mass_C - log_mass_C.max())
    return center_C, mass_C / mass_C.sum()


def _below(
    values: NDArray[np.float64], center_C: NDArray[np.float64], mass_C: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The probability that what `_beta_cells` describes is at most each value."""
    if len(center_C) == 1:
        return (values >= center_C[0]).astype(np.float64)
    half = (center_C[1] - center_C[0]) / 2
    edges = np.concatenate([center_C - half, center_C[-1:] + half])
    return np.interp(values, edges, np.concatenate([[0.0], mass_C.cumsum()]))
