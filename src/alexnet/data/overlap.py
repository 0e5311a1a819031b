"""Validation images that are copies of training images, or look like one: with them the validation error is too low."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from alexnet.data.content import contained, distinct_hashes
from alexnet.data.near_duplicates import has_near_duplicate, is_usual, share_of_near_duplicates
from alexnet.data.packed import PackedSplit
from alexnet.data.perceptual_hash import distinct_perceptual_hashes


class OverlapJson(TypedDict, total=False):
    """`Overlap`, as config.json and the errors in a checkpoint hold it: counts that are not 0."""

    validation_copies: int
    """Validation images that are copies of training images, byte for byte."""
    validation_look_alikes: int
    """Other validation images that look like a training image."""
    training_look_alikes: float
    """The fraction of the training images that look like another one."""


@dataclass(frozen=True)
class Overlap:
    """How many validation images are known from training."""

    images: int
    """Validation images."""
    copies: int = 0
    """Copies of training images, byte for byte."""
    look_alikes: int = 0
    """Near duplicates of training images (perceptual_hash.py) that are no copies."""
    example: str = ""
    """Name of one of the near duplicates."""
    usual_share: float = 0.0
    """The fraction of the training images that look like another one; 0 without look-alikes."""

    @property
    def is_usual(self) -> bool:
        """Whether the training images look like each other as often: bursts, or images that are alike by nature."""
        return self.look_alikes > 0 and is_usual(self.look_alikes, self.images, self.usual_share)

    @property
    def flatters(self) -> bool:
        """Whether the validation error is probably too low."""
        return self.copies > 0 or (self.look_alikes > 0 and not self.is_usual)

    @property
    def verdict(self) -> str:
        """What follows from `describe` for the validation error; "" if no image is known from training."""
        if not self.copies and not self.look_alikes:
            return ""
        return ("so the error is probably too low" if self.flatters else
                "so this may be normal for this data; if not, the true error is higher")

    def describe(self) -> str:
        """Such as "3 of the 3,925 validation images are copies of training images, 7 more look like one"; "" if none.
        """
        usual = (f" ({self.usual_share:.0%} of the training images also look like another training image)"
                 if self.is_usual else "")
        of_all = f"{{}} of the {self.images:,} validation image{'s' * (self.images != 1)} {{}}"
        copies = of_all.format(f"{self.copies:,}", "are copies of training images" if self.copies > 1 else
                               "is a copy of a training image")
        verb = "look" if self.look_alikes > 1 else "looks"
        if self.copies and self.look_alikes:
            return f"{copies}, {self.look_alikes:,} more {verb} like one{usual}"
        if self.look_alikes:
            return of_all.format(f"{self.look_alikes:,}", f"{verb} like {'' if self.look_alikes > 1 else 'a '}training "
                                 f"image{'s' * (self.look_alikes > 1)}") + usual
        return copies if self.copies else ""

    def to_json(self) -> OverlapJson:
        """The counts that are not 0."""
        found: OverlapJson = {}
        if self.copies:
            found["validation_copies"] = self.copies
        if self.look_alikes:
            found["validation_look_alikes"] = self.look_alikes
            if self.usual_share:
                found["training_look_alikes"] = self.usual_share
        return found

    @classmethod
    def from_json(cls, images: int, found: Mapping[str, Any]) -> Self:
        """What `to_json` made, among other values. `images`: validation images."""
        return cls(images, found.get("validation_copies", 0), found.get("validation_look_alikes", 0), "",
                   found.get("training_look_alikes", 0.0))


def find_overlap(
    validation: PackedSplit, training: PackedSplit, trained_perceptual: NDArray[np.uint64] | None = None,
) -> Overlap:
    """Count the validation images that are copies of training images, or look like one.

    Args:
        validation: the images that are measured.
        training: the run's training images.
        trained_perceptual: perceptual hashes of all images that the network sees in training, those of its initial
            weights included; default: those of `training`.
    """
    seen_M2 = distinct_perceptual_hashes(training.perceptual_hashes if trained_perceptual is None
                                         else trained_perceptual)
    is_copy_N = contained(validation.content_hashes, distinct_hashes(training.content_hashes))
    looks_alike_N = has_near_duplicate(validation.perceptual_hashes, seen_M2) & ~is_copy_N
    alike = np.flatnonzero(looks_alike_N)
    return Overlap(len(validation), int(is_copy_N.sum()), len(alike),
                   validation.names[alike[0]] if len(alike) else "",
                   share_of_near_duplicates(seen_M2) if len(alike) else 0.0)
