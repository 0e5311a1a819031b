"""Subsets of the training images, and a tuning split held out of them, so that settings are not chosen on validation.

The tuning split is a fifth of the training images, evenly from each class, with look-alikes and groups on one side. A
subset has the same number of images of each class: first those outside of the tuning split, in a random order that
depends on the images' contents and the number of the draw, and not on names. So a smaller subset is part of a larger
one of the same draw, and a subset of up to four fifths of a class can be tuned at its full size.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from alexnet.data.divided import DividedDataset
from alexnet.data.folds import divide, together
from alexnet.data.packed import PackedDataset, PackedSplit
from alexnet.errors import require

TUNING_FOLDS = 5
"""The tuning split is one fold of so many."""


def tuning_images(packed: PackedDataset) -> NDArray[np.bool_]:
    """Which training images belong to the tuning split: [N].

    Raises:
        UserError: the images are streamed, or too few.
    """
    require(type(packed) is PackedDataset, f"{packed.source} is not a packed folder on this machine",
            "pack the images with `alexnet pack SOURCE DEST`, and give DEST")
    train = packed.split("train")
    is_tuning_N = divide(train, together(train, TUNING_FOLDS), TUNING_FOLDS) == 0
    require(0 < is_tuning_N.sum() < len(train), f"{len(train)} training images are too few to hold some of them out "
            "for tuning", "give more images")
    return is_tuning_N


def subset(
    packed: PackedDataset, is_tuning_N: NDArray[np.bool_], images_per_class: int | None = None, *, draw: int = 0,
    tuning: bool = False,
) -> PackedDataset:
    """The data set with a subset of its training images.

    Args:
        packed: the whole.
        is_tuning_N: of its training images, from `tuning_images`.
        images_per_class: None for all.
        draw: seed of the random choice.
        tuning: validate on the tuning split, and train on those of the subset that are not in it.

    Raises:
        UserError: a class has fewer images.
    """
    if images_per_class is None and not tuning:
        return packed
    smallest = int(np.bincount(packed.split("train").labels, minlength=len(packed.classes)).min())
    require(images_per_class is None or 1 <= images_per_class <= smallest,
            f"{images_per_class} training images per class are more than the smallest class has, {smallest:,}",
            f"give --images-per-class {smallest} or less" if smallest else "add images of each class")
    return SubsetDataset(packed.path, packed.manifest, images_per_class, draw, tuning, is_tuning_N)


@dataclass(frozen=True)
class SubsetDataset(DividedDataset):
    """A packed folder of which some training images are used. `subset` makes one."""

    images_per_class: int | None
    draw: int
    tuning: bool
    is_tuning_N: NDArray[np.bool_] = field(repr=False, compare=False)

    @cached_property
    def _is_chosen_N(self) -> NDArray[np.bool_]:
        train = super().split("train")
        if self.images_per_class is None:
            return np.ones(len(train), np.bool_)
        rank_N = np.argsort(np.argsort(train.content_hashes, kind="stable"))
        drawn_N = np.random.default_rng(self.draw).permutation(len(train))[rank_N]
        order_N = np.lexsort((drawn_N, self.is_tuning_N, train.labels))
        labels_N = train.labels[order_N]
        place_N = np.arange(len(train)) - np.searchsorted(labels_N, labels_N)  # in the class
        chosen_N = np.zeros(len(train), np.bool_)
        chosen_N[order_N[place_N < self.images_per_class]] = True
        return chosen_N

    def split(self, *names: str) -> PackedSplit:
        """The images of `train` or `val`; of any other split, or of several, those of the packed folder."""
        if names == ("train",):
            is_held_out_N = self.is_tuning_N if self.tuning else np.zeros_like(self.is_tuning_N)
            return super().split("train").subset(np.flatnonzero(self._is_chosen_N & ~is_held_out_N))
        if names == ("val",) and self.tuning:
            return super().split("train").subset(np.flatnonzero(self.is_tuning_N))
        return super().split(*names)

    @property
    def counts(self) -> dict[str, int]:
        """The number of images in each split."""
        return super().counts | {"train": len(self.split("train")), "val": len(self.split("val"))}

    @cached_property
    def fingerprint(self) -> str:
        """Identify the data, the subset and its images."""
        digest = hashlib.sha256(PackedDataset(self.path, self.manifest).fingerprint.encode())
        number = f"{self.images_per_class or 'all'} per class, draw {self.draw}"
        digest.update(f"{number}{', tuning' * self.tuning}".encode())
        digest.update(np.packbits(self._is_chosen_N).tobytes())
        digest.update(np.packbits(self.is_tuning_N & self.tuning).tobytes())
        return digest.hexdigest()

    @property
    def division(self) -> str:
        """What is trained and measured on."""
        counts = self.counts
        measured = "held out of them for tuning" if self.tuning else "for validation"
        return (f"{counts['train']:,} of {len(self.is_tuning_N):,} training images, "
                f"{counts['val']:,} {measured}")
