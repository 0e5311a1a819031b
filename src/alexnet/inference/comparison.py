"""Compare networks on the same images: McNemar's exact paired test, and the interval of the difference.

The interval belongs to the test (`paired_interval`): it excludes 0 exactly where p is below 5%. If images are in
groups, the test draws signs for whole groups and not for images, and the interval uses the effective number of images
(`grouped`): the networks tend to differ on all images of a group in the same way (Obuchowski 1998, Statistics in
Medicine 17:1495-1507).

Shapes: N images, R networks, G groups.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet.inference.grouped import GroupSums, design_effect, effective_images, group_sums
from alexnet.inference.paired_interval import difference_interval
from alexnet.inference.statistics import SIGNIFICANCE, Z_POWER, Z, holm


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
    """Top-1 error of the first minus that of the second: positive if the second is better."""
    interval: tuple[float, float]
    """95%, of this comparison alone: it excludes 0 exactly where `p_value`, which Holm's method has not adjusted, is
    below 5%."""
    p_value: float
    """McNemar's test, exact and two-sided; of images in groups `sign_flip_test`."""
    adjusted_p_value: float
    """By Holm's method, over all pairs that are compared."""
    detectable: float
    """The smallest difference that these images would show in 80 of 100 such tests at the 5% level, given how often the
    two networks disagree."""
    images_needed: int | None
    """Images on which the measured difference would be shown in 80 of 100 tests; None for no difference. Of images in
    groups: in groups of the same size."""
    groups: int | None = None
    """Groups of the images, which the test and the interval are over; None for images without groups."""

    @property
    def significant(self) -> bool:
        """At the 5% level, after Holm's correction."""
        return self.adjusted_p_value < SIGNIFICANCE

    def to_json(self) -> dict[str, object]:
        """Every field but `groups` of images without groups, and `significant`."""
        tree = asdict(self) | {"significant": self.significant}
        return tree if self.groups is not None else {name: tree[name] for name in tree if name != "groups"}


def paired_tests(right_RN: NDArray[np.bool_], groups_N: NDArray[np.uint64] | None = None) -> list[PairedTest]:
    """Test every pair of networks, in order.

    Args:
        right_RN: whether each network classified each image correctly; at least one image.
        groups_N: equal for images that belong together; None: the images are independent.
    """
    pairs = [(first, second) for first in range(len(right_RN)) for second in range(first + 1, len(right_RN))]
    counts = [(int((right_RN[first] & ~right_RN[second]).sum()), int((right_RN[second] & ~right_RN[first]).sum()))
              for first, second in pairs]
    sums = [None if groups_N is None else group_sums(
        right_RN[second].astype(np.int64) - right_RN[first], groups_N) for first, second in pairs]
    values = [mcnemar(*only) if by_group is None else sign_flip_test(by_group.sums_G.astype(np.int64))
              for only, by_group in zip(counts, sums, strict=True)]
    images = right_RN.shape[1]
    return [_paired_test(pair, only, images, value, adjusted, by_group) for pair, only, value, adjusted, by_group in
            zip(pairs, counts, values, holm(values), sums, strict=True)]


def _paired_test(
    pair: tuple[int, int], only: tuple[int, int], images: int, value: float, adjusted: float,
    by_group: GroupSums | None,
) -> PairedTest:
    """Of one pair. Scaled counts of effective images stand for those of images in groups (Rao and Scott 1992)."""
    groups = None if by_group is None else len(by_group.images_G)
    effective: float = images
    if by_group is not None:
        effective = max(1.0, effective_images(images, len(by_group.images_G), design_effect(by_group)))
    first, second = (count * (effective / images) for count in only)
    needed = images_needed(*only, images)
    return PairedTest(
        *pair, images, *only, (only[1] - only[0]) / images, difference_interval(first, second, effective, value),
        value, adjusted, detectable_difference(first + second, effective),
        needed if needed is None or groups is None else math.ceil(needed * (images / effective)), groups)


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


def sign_flip_test(differences_G: NDArray[np.int64]) -> float:
    """The two-sided p-value of the exact sign-flip (randomization) test over groups.

    If the networks were equally good, each group's difference could as well have the other sign. p is the fraction of
    all choices of signs whose sum is as far from 0 as the measured one. For differences of 0 and 1 alone, as in groups
    of one image, it is McNemar's exact test.

    Args:
        differences_G: for each group, how many more of its images the second network classified correctly.
    """
    sizes, counts = np.unique(np.abs(differences_G[differences_G != 0]), return_counts=True)
    # How probable each sum of the positive differences is, from 0 to the sum of all sizes.
    probability_S = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        own = np.zeros(size * count + 1)
        own[::size] = [math.exp(math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
                                - count * math.log(2)) for k in range(count + 1)]
        probability_S = np.convolve(probability_S, own)
    total = len(probability_S) - 1
    is_as_far_S = np.abs(2 * np.arange(total + 1) - total) >= abs(int(differences_G.sum()))
    return min(1.0, float(probability_S[is_as_far_S].sum()))


def detectable_difference(disagreements: float, images: float) -> float:
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
    spread = Z * math.sqrt(disagreeing) + Z_POWER * math.sqrt(max(0.0, disagreeing - difference**2))
    return (spread / difference) ** 2
