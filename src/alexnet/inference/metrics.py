"""Metrics: loss, top-1 and top-5 error of a classifier, with Wilson's 95% confidence intervals.

If images are in groups (`--group`), the intervals use the effective number of images (`grouped`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.inference.grouped import GroupedSample, design_effect, effective_images, group_sums, joint_effect
from alexnet.inference.statistics import Interval, wilson
from alexnet.models.checkpoint_json import ErrorsJson


@dataclass(frozen=True)
class Errors:
    """Sums over evaluated images; `+` adds the sums of two parts of a set, such as two ranks' shares.

    Groups may be divided between the two, so the sum has an upper bound of their design effect.
    """

    images: int = 0
    loss_sum: float = 0.0
    top1_wrong: int = 0
    top5_wrong: int = 0
    sample: GroupedSample | None = None
    """The groups of the images, if they have groups."""

    def __add__(self, other: Errors) -> Errors:
        return replace(self, images=self.images + other.images, loss_sum=self.loss_sum + other.loss_sum,
                       top1_wrong=self.top1_wrong + other.top1_wrong, top5_wrong=self.top5_wrong + other.top5_wrong,
                       sample=_joint_sample([each for each in (self, other) if each.images]))

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

    @property
    def groups(self) -> int | None:
        """The number of groups that the images are in; None for images without groups."""
        return self.sample.groups if self.sample else None

    @property
    def top1_interval(self) -> Interval:
        """95%."""
        return sample_interval(self.top1_wrong, self.images, self.sample.top1 if self.sample else None)

    @property
    def top5_interval(self) -> Interval:
        """95%."""
        return sample_interval(self.top5_wrong, self.images, self.sample.top5 if self.sample else None)

    def to_json(self) -> ErrorsJson:
        """The means and their 95% intervals; of images in groups also the number of groups and the design effects."""
        tree: ErrorsJson = {
            "images": self.images, "loss": self.loss,
            "top1_error": self.top1_error, "top5_error": self.top5_error,
            "interval": {"top1_error": self.top1_interval, "top5_error": self.top5_interval},
        }
        return tree if self.sample is None else {**tree, **self.sample.to_json()}

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
                   round(tree["top5_error"] * images), GroupedSample.from_json(tree))


def _joint_sample(parts: Sequence[Errors]) -> GroupedSample | None:
    """The groups of all parts; images of a part without groups are independent. None if no part has groups."""
    if len(parts) < 2 or not any(part.sample for part in parts):
        return parts[0].sample if parts else None
    samples = [part.sample or GroupedSample(part.images, 1.0, 1.0) for part in parts]
    return GroupedSample(max(sample.groups for sample in samples), *(
        joint_effect([(part.images, effect(sample)) for part, sample in zip(parts, samples, strict=True)])
        for effect in (lambda sample: sample.top1_design_effect, lambda sample: sample.top5_design_effect)))


def sample_interval(count: int, images: int, groups: tuple[int, float] | None) -> Interval:
    """The 95% interval of a fraction: Wilson's, at the effective number of images if they are in groups.

    Args:
        count: number of errors, or of other images that are counted.
        images: number of images.
        groups: the number of groups and the design effect; None: the images are independent.
    """
    if groups is None or not images:
        return wilson(count, images)
    effective = effective_images(images, *groups)
    return wilson(count * (effective / images), effective)


def fraction_interval(counted_N: NDArray[np.bool_], groups_N: NDArray[np.uint64] | None = None) -> Interval:
    """The 95% interval of the fraction of images that are counted.

    Args:
        counted_N: which images are counted, such as those that are classified wrongly.
        groups_N: equal for images that belong together; None: the images are independent.
    """
    count, images = int(counted_N.sum()), len(counted_N)
    if groups_N is None or not images:
        return wilson(count, images)
    return sample_interval(count, images, (len(np.unique(groups_N)), design_effect(group_sums(counted_N, groups_N))))


def count_errors(
    probabilities_NK: Tensor, labels_N: Tensor, groups_N: NDArray[np.uint64] | None = None,
) -> Errors:
    """Count the errors of one batch, or of all images.

    A tie with the true class counts as an error, and so does NaN, so that a collapsed network is never right.

    Args:
        probabilities_NK: of the network.
        labels_N: true classes.
        groups_N: equal for images that belong together. Only with all images: a group may be in several batches.
    """
    errors = Errors.from_counts(len(labels_N), error_counts(probabilities_NK, labels_N).tolist())
    if groups_N is None:
        return errors
    tally = GroupTally(groups_N)
    tally.add(np.arange(len(labels_N)), classes_ahead(probabilities_NK, labels_N))
    return replace(errors, sample=tally.sample)


def error_counts(probabilities_NK: Tensor, labels_N: Tensor) -> Tensor:
    """`count_errors` on the device, which nothing waits for: loss sum, top-1 and top-5 errors, float64 [3]."""
    true_N1 = probabilities_NK.gather(1, labels_N[:, None])
    ahead_N = classes_ahead(probabilities_NK, labels_N)
    loss_sum = -true_N1.double().clamp(min=1e-45).log().sum()
    return torch.stack([loss_sum, (ahead_N >= 1).sum().double(), (ahead_N >= 5).sum().double()])


def classes_ahead(probabilities_NK: Tensor, labels_N: Tensor) -> Tensor:
    """How many classes are not strictly less likely than the true one, minus the true class itself: int64 [N]."""
    return (~(probabilities_NK.gather(1, labels_N[:, None]) > probabilities_NK)).sum(1) - 1


class GroupTally:
    """Counts images and errors of each group, batch by batch.

    Args:
        groups_N: of all images: equal for those that belong together.
    """

    def __init__(self, groups_N: NDArray[np.uint64]) -> None:
        distinct, self._group_N = np.unique(groups_N, return_inverse=True)
        self.counts_G3 = np.zeros((len(distinct), 3), np.int64)
        """Images, top-1 and top-5 errors of each group; the groups are in the same order on each rank."""

    def add(self, indices: NDArray[np.int64], ahead_n: Tensor) -> None:
        """Count the images with these indices, of which `classes_ahead` is given."""
        ahead = ahead_n.cpu().numpy()
        np.add.at(self.counts_G3, self._group_N[indices],
                  np.stack([np.ones_like(ahead), ahead >= 1, ahead >= 5], axis=1).astype(np.int64))

    @property
    def sample(self) -> GroupedSample | None:
        """Of the images that were counted; None without any."""
        return GroupedSample.of_counts(self.counts_G3)


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
