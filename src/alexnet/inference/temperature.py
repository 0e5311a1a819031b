"""Fit a temperature, which divides logits before the softmax: that of one view, or of the mean over ten views.

Shapes: N images, V views of each, K classes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from alexnet.errors import UserError, require

_COLDEST, _HOTTEST = 0.01, 100.0
"""Temperatures searched. A best one outside them means that there is none."""

_GRID = np.geomspace(_COLDEST, _HOTTEST, 41).tolist()
"""Temperatures that `fit_ten_view_temperature` tries first, each 1.26 times the one before."""

_CHUNK = 1 << 22
"""Logits that `mean_softmax` converts to float64 at a time: 32 MiB, as all those of ten views may be gigabytes."""


def fit_temperature(logits_NK: NDArray[np.float32], labels_N: NDArray[np.int64]) -> float:
    """The temperature with the lowest mean negative log-probability of the true classes.

    The loss is convex in the inverse temperature b. Its derivative is the mean over images of the logits' expectation,
    under softmax(b logits), minus the true class's logit; bisection finds where it is zero.

    Raises:
        UserError: no temperature between 0.01 and 100 is best: the network is right about every image, or no better
            than a guess.
    """
    logits = logits_NK.astype(np.float64)
    require(bool(np.isfinite(logits).all()), "the network's logits are not finite", "use another checkpoint")
    true_N = logits[np.arange(len(labels_N)), labels_N]

    def slope(inverse: float) -> float:
        return float(((softmax(inverse * logits) * logits).sum(1) - true_N).mean())

    low, high = 1 / _HOTTEST, 1 / _COLDEST
    if slope(low) >= 0:
        raise UserError("the network cannot be calibrated: on these images it is no better than chance",
                        "train it further, or check the labels")
    if slope(high) <= 0:
        raise UserError(f"the network cannot be calibrated: it classifies all {len(labels_N):,} calibration images "
                        "correctly", "give more images, among them ones that it gets wrong")
    while high / low > 1 + 1e-7:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / low


def fit_ten_view_temperature(logits_NVK: NDArray[np.float32], labels_N: NDArray[np.int64]) -> float:
    """The temperature of each view for which the mean of their softmax outputs has the lowest mean log loss.

    A mean of softmax outputs is not log-concave in the inverse temperature, so unlike that of `fit_temperature` this
    loss may have several minima. The search tries 41 temperatures from 0.01 to 100 and then refines the best one by
    golden section between its neighbors, to 1e-5. Guaranteed: no tried temperature has a lower loss than the result.
    Not guaranteed: that none between two of them has one, as a minimum narrower than a factor of 1.26 may be missed.

    Args:
        logits_NVK: at temperature 1.
        labels_N: true classes.

    Raises:
        UserError: the best temperature tried is 0.01 or 100, so there may be no best one.
    """
    require(bool(np.isfinite(logits_NVK).all()), "the network's logits are not finite", "use another checkpoint")
    tried: dict[float, float] = {}

    def loss(temperature: float) -> float:
        tried[temperature] = float(log_losses(mean_softmax(logits_NVK, temperature), labels_N).mean())
        return tried[temperature]

    best = int(np.argmin([loss(temperature) for temperature in _GRID]))
    require(0 < best < len(_GRID) - 1, f"the best temperature for ten views lies outside {_COLDEST:g} to "
            f"{_HOTTEST:g}", "give more images, among them ones that the network gets wrong")
    _golden_section(loss, _GRID[best - 1], _GRID[best + 1])
    return min(tried, key=lambda temperature: tried[temperature])


def _golden_section(loss: Callable[[float], float], low: float, high: float) -> None:
    """Call a function of a positive number ever closer to a minimum between two of them, a local one of several."""
    ratio = (5**0.5 - 1) / 2
    left, right = high * (low / high) ** ratio, low * (high / low) ** ratio
    left_loss, right_loss = loss(left), loss(right)
    while high / low > 1 + 1e-5:
        if left_loss <= right_loss:
            high, right, right_loss = right, left, left_loss
            left = high * (low / high) ** ratio
            left_loss = loss(left)
        else:
            low, left, left_loss = left, right, right_loss
            right = low * (high / low) ** ratio
            right_loss = loss(right)


def mean_softmax(logits_NVK: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """The mean over the views of softmax(logits / temperature): float64 [N, K]."""
    count, views, classes = logits_NVK.shape
    rows = max(1, _CHUNK // (views * classes))
    means_NK = np.empty((count, classes))
    for first in range(0, count, rows):
        means_NK[first : first + rows] = softmax(logits_NVK[first : first + rows] / temperature).mean(1)
    return means_NK


def log_losses(probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """The negative log-probability of each image's true class, in nats: float64 [N]."""
    true_N: NDArray[np.float64] = probabilities_NK[np.arange(len(labels_N)), labels_N]
    return -np.log(np.maximum(true_N, 1e-45))


def softmax(logits: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities: float64 [..., K]."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
