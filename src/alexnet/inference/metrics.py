"""Metrics: loss, top-1 and top-5 error of a classifier, with Wilson's 95% confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.models.checkpoint_json import ErrorsJson


@dataclass(frozen=True)
class Errors:
    """Sums over evaluated images; `+` adds the sums of two parts of a set, such as two ranks' shares."""

    images: int = 0
    loss_sum: float = 0.0
    top1_wrong: int = 0
    top5_wrong: int = 0

    def __add__(self, other: Errors) -> Errors:
        return replace(self, images=self.images + other.images, loss_sum=self.loss_sum + other.loss_sum,
                       top1_wrong=self.top1_wrong + other.top1_wrong, top5_wrong=self.top5_wrong + other.top5_wrong)

    @property
    def loss(self) -> float:
        """Mean negative log-probability of the true class, in nats."""
        return self.loss_sum / self.images if self.images else math.nan

    @property
    def top1_error(self) -> float:
        """The fraction of images whose likeliest class is wrong."""
        return self.top1_wrong / self.images if self.images else math.nan

    @property
    def top5_error(self) -> float:
        """The fraction of images whose true class is not among the five likeliest (§2)."""
        return self.top5_wrong / self.images if self.images else math.nan

    def to_json(self) -> ErrorsJson:
        """The means and their 95% intervals."""
        return {
            "images": self.images, "loss": self.loss,
            "top1_error": self.top1_error, "top5_error": self.top5_error,
            "interval": {"top1_error": wilson(self.top1_wrong, self.images),
                         "top5_error": wilson(self.top5_wrong, self.images)},
        }

    @classmethod
    def from_counts(cls, images: int, counts: Sequence[float]) -> Errors:
        """Of one batch, from its `error_counts`."""
        loss_sum, top1_wrong, top5_wrong = counts
        return cls(images, loss_sum, int(top1_wrong), int(top5_wrong))

    @classmethod
    def from_json(cls, tree: ErrorsJson) -> Errors:
        """The sums that `to_json` was made from."""
        images = tree["images"]
        if not images:  # the means are NaN
            return cls()
        return cls(images, tree["loss"] * images, round(tree["top1_error"] * images),
                   round(tree["top5_error"] * images))


def wilson(count: int, images: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval for a fraction; (0, 1) without images.

    It covers the choice of images, and not that of the training seed.

    Args:
        count: number of errors, or of other images that are counted.
        images: number of images.
        z: quantile of the normal distribution; the default gives 95%.
    """
    if not images:
        return 0.0, 1.0
    p, n = count / images, images
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, center - half), min(1.0, center + half)


def count_errors(probabilities_NK: Tensor, labels_N: Tensor) -> Errors:
    """Count the errors of one batch.

    A tie with the true class counts as an error, and so does NaN, so that a collapsed network is never right.
    """
    return Errors.from_counts(len(labels_N), error_counts(probabilities_NK, labels_N).tolist())


def error_counts(probabilities_NK: Tensor, labels_N: Tensor) -> Tensor:
    """`count_errors` on the device, which nothing waits for: loss sum, top-1 and top-5 errors, float64 [3]."""
    true_N1 = probabilities_NK.gather(1, labels_N[:, None])
    # How many classes are not strictly less likely than the true one, less the true class itself.
    ahead_N = (~(true_N1 > probabilities_NK)).sum(1) - 1
    loss_sum = -true_N1.double().clamp(min=1e-45).log().sum()
    return torch.stack([loss_sum, (ahead_N >= 1).sum().double(), (ahead_N >= 5).sum().double()])


def predicted_classes(probabilities_NK: NDArray[np.floating], labels_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """The likeliest class of each image; where the true class ties with another, the other: int64 [N].

    NaN counts as the highest probability. An image is thus classified correctly exactly if `count_errors` says so.
    """
    rows_N = np.arange(len(labels_N))
    true_N = probabilities_NK[rows_N, labels_N]
    others_NK = np.nan_to_num(probabilities_NK, nan=np.inf)  # a copy
    others_NK[rows_N, labels_N] = -np.inf
    other_N = others_NK.argmax(axis=1)
    return np.where(true_N > others_NK[rows_N, other_N], labels_N, other_N)
