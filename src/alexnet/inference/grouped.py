"""Images in groups (`--group`): how few independent images they are worth, by the design effect of the groups.

Images of one object, patient or scene are classified alike, so 20 of them say less than 20 images of 20 objects. The
design effect is the variance of a fraction (or mean) over that of as many independent images. Dividing the images by it
gives the effective number of images, with which the formulas for independent images hold (Kish 1965; for fractions Rao
and Scott 1992, Biometrics 48:577-585). Shapes: N images, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alexnet.inference.statistics import critical_value
from alexnet.models.checkpoint_json import GroupsJson

FEW_GROUPS = 10
"""With fewer groups the variance between groups is hardly known, and an interval is called unreliable."""


class GroupSums(NamedTuple):
    """What the design effect of a value of each image follows from."""

    images_G: NDArray[np.float64]
    """Images of each group, at least 1."""
    sums_G: NDArray[np.float64]
    """Sum of the value over the images of each group."""
    squares: float
    """Sum of the value's square over all images."""
    informative: int
    """Groups in which the value of an image is not the most frequent one."""


def group_sums(values_N: NDArray[np.generic], groups_N: NDArray[np.uint64]) -> GroupSums:
    """Sum a value of each image, such as whether it is classified wrongly, over the images of each group.

    Args:
        values_N: at least one number.
        groups_N: equal for images that belong together.
    """
    values = values_N.astype(np.float64)
    group_N = np.unique(groups_N, return_inverse=True)[1]
    distinct, counts = np.unique(values, return_counts=True)
    unusual = np.unique(group_N[values != distinct[counts.argmax()]])
    sums_G = np.bincount(group_N, values).astype(np.float64)
    return GroupSums(np.bincount(group_N).astype(np.float64), sums_G, float((values**2).sum()), len(unusual))


def count_sums(images_G: NDArray[np.int64], wrong_G: NDArray[np.int64]) -> GroupSums:
    """As `group_sums` of the errors of all images, from the images and the errors of each group."""
    images, wrong = images_G.astype(np.float64), wrong_G.astype(np.float64)
    minority = wrong if 2 * wrong.sum() <= images.sum() else images - wrong
    return GroupSums(images, wrong, float(wrong.sum()), int((minority > 0).sum()))


def intraclass_correlation(sums: GroupSums) -> float:
    """The correlation of a value between two images of a group, 0 to 1; 1 where nothing is known of it.

    The analysis of variance estimator (Ridout, Demetrio and Firth 1999, Biometrics 55:137-148), averaged with the value
    1 of one further group: few groups with an error say little, and none, as of a network that is right about all
    images, says nothing; then a group counts as one image.
    """
    images_G, sums_G = sums.images_G, sums.sums_G
    images, groups = float(images_G.sum()), len(images_G)
    between = float((sums_G**2 / images_G).sum()) - float(sums_G.sum()) ** 2 / images
    within = sums.squares - float((sums_G**2 / images_G).sum())
    if groups < 2 or groups == images or not sums.informative or between + within <= 0:
        return 1.0
    between, within = between / (groups - 1), within / (images - groups)
    size = (images - float((images_G**2).sum()) / images) / (groups - 1)
    total = between + (size - 1) * within
    measured = min(1.0, max(0.0, (between - within) / total)) if total > 0 else 1.0
    return (1 + sums.informative * measured) / (1 + sums.informative)


def design_effect(sums: GroupSums) -> float:
    """The variance of the mean of a value over that of as many independent images; 1 for groups of one image.

    The larger of two estimates: 1 + (m - 1) r, where m is the mean size of an image's group and r the intraclass
    correlation (Kish 1965), and the variance of the ratio estimator (Rao and Scott 1992), which also holds where the
    correlation is not the same in small and large groups.
    """
    images_G, sums_G = sums.images_G, sums.sums_G
    images = float(images_G.sum())
    if len(images_G) == images:
        return 1.0
    by_correlation = 1 + (float((images_G**2).sum()) / images - 1) * intraclass_correlation(sums)
    mean = float(sums_G.sum()) / images
    independent = sums.squares - images * mean**2
    if len(images_G) < 2 or independent <= 1e-12 * sums.squares:
        return by_correlation
    residuals = float(((sums_G - mean * images_G) ** 2).sum())
    return max(by_correlation, residuals / independent * len(images_G) / (len(images_G) - 1))


def effective_images(images: int, groups: int, effect: float) -> float:
    """Independent images that tell as much as these; `images` for groups of one image, 0 for a single group.

    The images over the design effect, times the squared ratio of Student's quantiles at `images` - 1 and `groups` - 1
    degrees of freedom, since the design effect is an estimate from so many groups (Korn and Graubard 1998, Survey
    Methodology 24:193-201).
    """
    return images / effect * (critical_value(images - 1) / critical_value(groups - 1)) ** 2 if images > 1 else images


@dataclass(frozen=True)
class GroupedSample:
    """The groups of evaluated images, and the design effects of the errors."""

    groups: int
    top1_design_effect: float
    top5_design_effect: float

    @property
    def top1(self) -> tuple[int, float]:
        """The groups and the design effect of the top-1 error, for `metrics.sample_interval`."""
        return self.groups, self.top1_design_effect

    @property
    def top5(self) -> tuple[int, float]:
        """As `top1`, of the top-5 error."""
        return self.groups, self.top5_design_effect

    @classmethod
    def of_counts(cls, counts_G3: NDArray[np.int64]) -> GroupedSample | None:
        """Of each group's images, top-1 and top-5 errors: int64 [G, 3]. None for no image."""
        images_G, top1_G, top5_G = counts_G3[counts_G3[:, 0] > 0].T
        if not len(images_G):
            return None
        return cls(len(images_G), design_effect(count_sums(images_G, top1_G)),
                   design_effect(count_sums(images_G, top5_G)))

    @classmethod
    def from_json(cls, tree: GroupsJson) -> GroupedSample | None:
        """What `to_json` wrote; None for images without groups."""
        if "groups" not in tree:
            return None
        return cls(tree["groups"], tree["design_effect"]["top1_error"], tree["design_effect"]["top5_error"])

    def to_json(self) -> GroupsJson:
        """The number of groups and the design effects."""
        return {"groups": self.groups, "design_effect": {"top1_error": self.top1_design_effect,
                                                         "top5_error": self.top5_design_effect}}


def pooled_effect(parts: list[tuple[int, float]]) -> float:
    """The design effect of images whose parts have no group in common.

    Args:
        parts: the number of images of each part and its design effect.
    """
    return sum(images * effect for images, effect in parts) / sum(images for images, _ in parts)


def joint_effect(parts: list[tuple[int, float]]) -> float:
    """As `pooled_effect`, where groups may be divided between the parts: an upper bound (the errors add up)."""
    root = sum((images * effect) ** 0.5 for images, effect in parts)
    return root**2 / sum(images for images, _ in parts)
