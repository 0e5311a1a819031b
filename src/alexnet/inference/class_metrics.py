"""Per-class metrics: precision, recall, F1 and AUC with 95% intervals, balanced accuracy, and chance error.

If images are in groups, the intervals use the effective number of images (`grouped`), estimated for each fraction.

Shapes: N images, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet.inference.metrics import fraction_interval, predicted_classes
from alexnet.inference.statistics import Interval, wilson


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class. A value that is a fraction of nothing is None."""

    name: str
    images: int
    """Images of the class (its support)."""
    predicted: int
    """Images that were classified as it."""
    right: int
    """Images of both."""
    precision: float | None
    """right / predicted."""
    precision_interval: Interval | None
    """`metrics.fraction_interval`: Wilson's, over the groups if the images are in groups."""
    recall: float | None
    """right / images; 1 - recall is the class's top-1 error."""
    recall_interval: Interval | None
    """As of the precision."""
    f1: float | None
    """The harmonic mean of precision and recall: 2 right / (predicted + images)."""
    f1_interval: Interval | None
    """As `f1_interval` calculates it, over the groups if the images are in groups."""
    auc: float | None
    """Area under the ROC curve of this class's probability, against all other classes; None for a class without images,
    or with all of them."""
    groups: int | None = None
    """Groups that images of the class are in; None for images without groups."""

    def to_json(self) -> dict[str, object]:
        """Every field, without `groups` if the images have none."""
        return {name: value for name, value in asdict(self).items() if name != "groups" or value is not None}


@dataclass(frozen=True)
class PerClassMetrics:
    """Metrics of each class, and their unweighted means, in which a small class counts as much as a large one.

    All three means are over the classes that have images. Other libraries also average the F1 of 0 of a class that was
    predicted and has no images; then macro F1 would depend on which absent class the wrong answers name.
    """

    classes: tuple[ClassMetrics, ...]
    classes_with_images: int
    """The number of classes that the means are over."""
    balanced_accuracy: float | None
    """Mean recall of the classes that have images."""
    macro_f1: float | None
    """Mean F1 of the classes that have images."""
    macro_auc: float | None
    """Mean one-versus-rest AUC of the classes that have images; None if only one has."""

    def to_json(self) -> dict[str, object]:
        """Every field; None for what is undefined."""
        return {**asdict(self), "classes": [each.to_json() for each in self.classes]}


@dataclass(frozen=True)
class Baselines:
    """Top-1 errors without a network, which a useful network stays below."""

    chance_top1_error: float
    """Of a guess that draws each of the network's classes equally often."""
    largest_class: str | None
    """The class with the most of the measured images; None if several have as many."""
    largest_class_error: float
    """Of the answer that is always the largest class, or one of them."""


def baselines(labels_N: NDArray[np.int64], classes: Sequence[str]) -> Baselines:
    """The errors of guessing, on images with these labels.

    Args:
        labels_N: true classes, at least one.
        classes: names of the network's classes.
    """
    counts_K = np.bincount(labels_N, minlength=len(classes))
    largest = np.flatnonzero(counts_K == counts_K.max())
    return Baselines(1 - 1 / len(classes), classes[largest[0]] if len(largest) == 1 else None,
                     1 - int(counts_K.max()) / len(labels_N))


def classes_without_images(labels_N: NDArray[np.int64], classes: Sequence[str]) -> list[str]:
    """The names of the network's classes of which no image was measured, in the network's order.

    Args:
        labels_N: true classes of the measured images.
        classes: names of the network's classes.
    """
    present = set(labels_N.tolist())
    return [name for label, name in enumerate(classes) if label not in present]


def per_class_metrics(
    labels_N: NDArray[np.int64], probabilities_NK: NDArray[np.float32], classes: Sequence[str],
    groups_N: NDArray[np.uint64] | None = None,
) -> PerClassMetrics:
    """Measure each class. A tie with the true class counts as an error, as in `count_errors`.

    Args:
        labels_N: true classes.
        probabilities_NK: of the network.
        classes: names of the K classes.
        groups_N: equal for images that belong together; None: the images are independent.
    """
    predicted_N = predicted_classes(probabilities_NK, labels_N)
    measured = tuple(
        _class_metrics(name, labels_N == k, predicted_N == k, roc_auc(labels_N == k, probabilities_NK[:, k]), groups_N)
        for k, name in enumerate(classes))
    present = [each for each in measured if each.images]
    return PerClassMetrics(measured, len(present), _mean([each.recall for each in present]),
                           _mean([each.f1 for each in present]), _mean([each.auc for each in present]))


def _class_metrics(
    name: str, is_true_N: NDArray[np.bool_], is_predicted_N: NDArray[np.bool_], auc: float | None,
    groups_N: NDArray[np.uint64] | None,
) -> ClassMetrics:
    """Of one class.

    Args:
        name: of the class.
        is_true_N, is_predicted_N: which images are of the class, and which are classified as it.
        auc: of the class.
        groups_N: as for `per_class_metrics`.
    """
    is_right_N = is_true_N & is_predicted_N
    images, predicted, right = int(is_true_N.sum()), int(is_predicted_N.sum()), int(is_right_N.sum())

    def interval(among_N: NDArray[np.bool_]) -> Interval | None:
        own_n = None if groups_N is None else groups_N[among_N]
        return fraction_interval(is_right_N[among_N], own_n) if among_N.any() else None

    return ClassMetrics(
        name, images, predicted, right, right / predicted if predicted else None, interval(is_predicted_N),
        right / images if images else None, interval(is_true_N),
        2 * right / (predicted + images) if predicted + images else None,
        _f1_of_jaccard(interval(is_true_N | is_predicted_N)), auc,
        None if groups_N is None else len(np.unique(groups_N[is_true_N])))


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def f1_interval(images: int, predicted: int, right: int) -> Interval | None:
    """The 95% interval of F1 of independent images; None without images and predictions.

    F1 is 2J / (1 + J), where J = right / (images or predicted) is a fraction, so the ends of J's Wilson interval give
    those of F1 (Lam, Gopal and Qian 2023, arXiv 2309.14621, "Wilson indirect").
    """
    either = images + predicted - right
    return _f1_of_jaccard(wilson(right, either) if either else None)


def _f1_of_jaccard(interval: Interval | None) -> Interval | None:
    """Of the ends of an interval of J, the values of F1."""
    if interval is None:
        return None
    low, high = (2 * end / (1 + end) for end in interval)
    return low, high


def roc_auc(positive_N: NDArray[np.bool_], scores_N: NDArray[np.float32]) -> float | None:
    """Area under the ROC curve: how often a positive image has the higher score than a negative one; a tie is a half.

    None without positive or without negative images, and where a score is NaN.
    """
    positive, negative = scores_N[positive_N], np.sort(scores_N[~positive_N])
    if not len(positive) or not len(negative) or math.isnan(float(scores_N.sum())):
        return None
    below = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(below.sum() / 2 / (len(positive) * len(negative)))
