"""K-fold cross-validation: a packed data set of which one fold is the validation set and the others are trained on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from alexnet.data.divided import DividedDataset
from alexnet.data.hold_out import deal_groups
from alexnet.data.near_duplicates import near_duplicate_groups
from alexnet.data.packed import PackedDataset, PackedSplit
from alexnet.errors import UserError, require


def parse_fold(text: str) -> tuple[int, int]:
    """Read `2/5`, the second of five folds. Raises UserError for anything else."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) and int(count) >= 2):
        raise UserError(f"--fold {text} is not a fold", "write 2/5 for the second of five")
    return int(number), int(count)


def fold_of_images(labels_N: NDArray[np.int64], content_N: NDArray[np.uint64], folds: int) -> NDArray[np.int64]:
    """The fold of each image, from 0: int64 [N].

    Each class is dealt out evenly in the order of the content hashes, which is random and does not depend on names.
    Equal images are in one fold, so that none is validated on by a network that was trained on its copy.
    """
    content_U, unique_N = np.unique(content_N, return_inverse=True)
    label_U, fold_U = np.full((2, len(content_U)), np.iinfo(np.int64).max)
    np.minimum.at(label_U, unique_N, labels_N)  # an image that is in two classes counts for the first one
    fold_U[np.lexsort((content_U, label_U))] = np.arange(len(content_U)) % folds
    return fold_U[unique_N]


def join_look_alikes(
    content_N: NDArray[np.uint64], perceptual_N2: NDArray[np.uint64], folds: int,
) -> NDArray[np.uint64]:
    """The content hashes, equal for images that look alike, as those of a burst of photographs: uint64 [N].

    A group with more images than a tenth of a fold stays divided: where so many images are alike by nature, as digits
    are, folds of equal size matter more.
    """
    groups_N = near_duplicate_groups(perceptual_N2)
    sizes_N = np.bincount(groups_N, minlength=len(groups_N))[groups_N]
    lowest_N = np.full(len(content_N), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(lowest_N, groups_N, content_N)
    return np.where(sizes_N <= max(2, len(content_N) // (10 * folds)), lowest_N[groups_N], content_N)


def join_groups(first_N: NDArray[np.uint64], second_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers that are equal for images that have the same number in one of both, directly or over others: [N]."""
    joined_N = first_N
    while True:
        before_N = joined_N
        for numbers_N in (second_N, first_N):
            _, place_N = np.unique(numbers_N, return_inverse=True)
            lowest_P = np.full(place_N.max(initial=-1) + 1, np.iinfo(np.uint64).max, np.uint64)
            np.minimum.at(lowest_P, place_N, joined_N)
            joined_N = lowest_P[place_N]
        if (joined_N == before_N).all():
            return joined_N


def copies_and_groups(content_N: NDArray[np.uint64], groups_N: NDArray[np.uint64] | None) -> NDArray[np.uint64]:
    """A number for each image, equal for copies and for images of one group, if there are groups: [N]."""
    return content_N if groups_N is None else join_groups(groups_N, content_N)


def together(split: PackedSplit, folds: int) -> NDArray[np.uint64]:
    """A number for each image, equal for images that must be in one fold: copies, look-alikes and groups: [N]."""
    alike_N = join_look_alikes(split.content_hashes, split.perceptual_hashes, folds)
    return alike_N if split.groups is None else join_groups(split.groups, alike_N)


def divide(split: PackedSplit, together_N: NDArray[np.uint64], folds: int) -> NDArray[np.int64]:
    """The fold of each image, from 0: [N]. Each class is dealt out evenly, as far as whole groups allow.

    Args:
        split: the images.
        together_N: from `together`.
        folds: how many.
    """
    if split.groups is None:
        return fold_of_images(split.labels, together_N, folds)
    return np.array(deal_groups(together_N.tolist(), split.labels.tolist(), folds), np.int64)


def folded(packed: PackedDataset, number: int, folds: int) -> FoldedDataset:
    """The data set with fold `number`, from 1, as its validation set, and the other folds as its training set.

    Raises:
        UserError: there are too few images, or they are streamed.
    """
    require(type(packed) is PackedDataset, f"{packed.path} is streamed from a URL, and folds need random access to all "
            "images", "download the packed folder, or leave out --fold and --folds")
    made = FoldedDataset(packed.path, packed.manifest, number, folds)
    distinct = len(np.unique(made.together_N))
    require(distinct >= 2 * folds, f"{distinct} different images are too few for {folds} folds", "choose fewer folds")
    if packed.manifest.grouped_by:
        empty = [name for name in ("train", "val") if not len(made.split(name))]
        require(not empty, f"{distinct} groups are too few for {folds} folds", "choose fewer folds")
    return made


@dataclass(frozen=True)
class FoldedDataset(DividedDataset):
    """A packed folder whose `train` and `val` images are divided anew. Its `test` images stay apart."""

    number: int
    """The fold that is the validation set, from 1."""
    folds: int

    @cached_property
    def pool(self) -> PackedSplit:
        """The images that are divided into folds."""
        return PackedDataset(self.path, self.manifest).split(
            *(name for name in ("train", "val") if name in self.manifest.splits))

    @cached_property
    def together_N(self) -> NDArray[np.uint64]:
        """A number for each image of the pool, equal for those that are in one fold (`together`)."""
        return together(self.pool, self.folds)

    @cached_property
    def _is_validation_N(self) -> NDArray[np.bool_]:
        return divide(self.pool, self.together_N, self.folds) == self.number - 1

    def split(self, *names: str) -> PackedSplit:
        """The images of `train` or `val`; of any other split, or of several, those of the packed folder."""
        if names == ("train",) or names == ("val",):
            return self.pool.subset(np.flatnonzero(self._is_validation_N == (names == ("val",))))
        return super().split(*names)

    @property
    def counts(self) -> dict[str, int]:
        """The number of images in each split."""
        validation = int(self._is_validation_N.sum())
        return super().counts | {"train": len(self.pool) - validation, "val": validation}

    @cached_property
    def fingerprint(self) -> str:
        """Identify the data and its division."""
        whole = PackedDataset(self.path, self.manifest).fingerprint
        return hashlib.sha256(f"{whole} fold {self.number} of {self.folds}".encode()).hexdigest()

    @property
    def _dealt_by(self) -> str:
        group = self.manifest.grouped_by
        return (f"whole groups (--group {group}), look-alikes into one fold" if group
                else "the images' content, look-alikes into one fold")

    @property
    def division(self) -> str:
        """What the fold is."""
        counts = self.counts
        return (f"fold {self.number} of {self.folds}: {counts['train']:,} training and {counts['val']:,} validation "
                f"images; each class is dealt out by {self._dealt_by}"
                + ("" if self.manifest.held_out else ", and the data's own split is not used"))
