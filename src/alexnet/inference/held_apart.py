"""Keep the images that fit a temperature or the ranges of int8 apart from those on which it is measured.

Copies, images of one group and near duplicates of a fitted image flatter what is measured on them. Shapes: M images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet.data.content import contained, distinct_hashes
from alexnet.data.near_duplicates import has_near_duplicate, is_usual, share_of_near_duplicates
from alexnet.data.packed import PackedSplit
from alexnet.data.perceptual_hash import distinct_perceptual_hashes

FEW = 0.1
"""Look-alikes that are up to this fraction of the images are always left out. More are kept where as many of the fitted
images look like another fitted one: such images, as of digits, are alike by nature."""


@dataclass(frozen=True)
class HeldApart:
    """Which images may measure, and what the others have in common with those that fit."""

    kept_M: NDArray[np.bool_]
    siblings: int
    """Left out: copies of fitted images, and images of a group of theirs."""
    look_alikes_left_out: int
    """Left out: other images that look like a fitted one."""
    look_alikes_kept: int
    """Images that look like a fitted one and are measured, since they are alike by nature."""

    def describe(self) -> str:
        """What was left out, or could not be; "" if nothing was in common."""
        known = ("that is a copy of a calibration image or in its group" if self.siblings == 1 else
                 "that are copies of calibration images or in their groups")
        alike = ("that looks like a calibration image" if self.look_alikes_left_out == 1 else
                 "that look like calibration images")
        parts = [f"{self.siblings:,} {known}"] * bool(self.siblings) + [
            f"{self.look_alikes_left_out:,} {alike}"] * bool(self.look_alikes_left_out)
        said = [f"left out: {', and '.join(parts)}"] * bool(parts)
        if self.look_alikes_kept:
            said.append(f"{self.look_alikes_kept:,} look like calibration images and are measured, as many of the "
                        "calibration images look alike, too")
        return "; ".join(said)


def held_apart(fitted: PackedSplit, measured: PackedSplit) -> HeldApart:
    """Leave out the images that are copies, siblings (`--group`) or near duplicates of fitted ones.

    Near duplicates stay where they are many (FEW) and usual among the fitted images, too.

    Args:
        fitted: the images that fit.
        measured: those that may measure.
    """
    sibling_M = contained(measured.content_hashes, distinct_hashes(fitted.content_hashes))
    if fitted.groups is not None and measured.groups is not None:
        sibling_M |= np.isin(measured.groups, fitted.groups)
    hashes = distinct_perceptual_hashes(fitted.perceptual_hashes)
    alike_M = ~sibling_M & has_near_duplicate(measured.perceptual_hashes, hashes)
    alike, others = int(alike_M.sum()), int((~sibling_M).sum())
    if alike > FEW * others and is_usual(alike, others, share_of_near_duplicates(hashes)):
        return HeldApart(~sibling_M, int(sibling_M.sum()), 0, alike)
    return HeldApart(~sibling_M & ~alike_M, int(sibling_M.sum()), alike, 0)
