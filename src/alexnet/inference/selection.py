"""Choose the images that a network is measured on: none that it was trained on, by content hash, whatever their names.

Every number that is computed on data with a network goes through `select_unseen`, so that a copied, renamed, touched or
repacked training image is recognized everywhere. An image that was saved again has other bytes; if it looks like a
training image, by its perceptual hash, it is measured and counted, because a look-alike is no proof; on demand it is
left out (`exclude_look_alikes`).

Shapes: N images of a split, M measured ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from alexnet.data.content import contained
from alexnet.data.near_duplicates import has_near_duplicate, is_usual, share_of_near_duplicates
from alexnet.data.packed import PackedDataset, PackedSplit
from alexnet.data.perceptual_hash import distinct_perceptual_hashes
from alexnet.errors import require
from alexnet.models.seen import SeenImages, describe_roles

NO_TEST = 0.1
"""The fraction of look-alikes of training images from which the output says that a result is no test error."""


class SelectionJson(TypedDict):
    """`Selection`, as `evaluate --json` prints it under `measured`."""

    images: int
    """Images that were measured."""
    available: int
    """Images of the data's test split, or of all data without one."""
    trained_on: int
    """How many of the available ones a network was trained on."""
    includes_trained: bool
    """Whether these were measured as well, so that the result is no test error."""
    looks_trained_on: int
    """How many of the measured ones look like a training image, but are no copy of one, byte for byte."""
    training_look_alikes: float | None
    """The fraction of the training images that look like another one; None if no image looks like one of them."""
    selected_on: int
    """How many of the measured ones chose the best epoch of a network, or fitted its temperature."""
    unknown: list[str]
    """Weights whose training images are not recorded."""
    undecodable: int
    """Images of the data that could not be decoded, and are in no other count."""
    look_alikes_left_out: int
    """Images that were left out on demand, because they look like a training image."""


@dataclass(frozen=True)
class Selection:
    """Which images of a split are measured, and how many of them a network has seen."""

    indices: NDArray[np.int64]
    """The measured images in the split, ascending."""
    available: int
    """Images of the split."""
    trained_on: int
    """How many of the split's images at least one of the networks was trained on."""
    selected_on: int
    """How many of the measured images chose the best epoch of a network, or fitted its temperature."""
    unknown: tuple[str, ...]
    """Names of weights whose training images are not recorded; empty if all are."""
    networks: int
    looks_trained_on_M: NDArray[np.bool_]
    """Which of the measured images look like a training image, but are no copy of one, byte for byte."""
    training_look_alikes: float
    """The fraction of the training images that look like another one; 0 if no measured image looks like one."""
    undecodable: int = 0
    """Images of these splits that could not be decoded, and are not in `available`."""
    look_alikes: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Images in the split that are not measured because they look like a training image, ascending; on demand only."""
    roles: tuple[str, ...] = ()
    """What the images of `selected_on` did (`models.seen.ROLES`); empty if that is not known of every network."""

    @property
    def includes_trained(self) -> bool:
        """Whether images are measured that a network was trained on."""
        return len(self.indices) + len(self.look_alikes) > self.available - self.trained_on

    @property
    def looks_trained_on(self) -> int:
        """How many of the measured images look like a training image, but are no copy of one."""
        return int(self.looks_trained_on_M.sum())

    def describe_look_alikes(self) -> str:
        """How many images look like training images, and what it means for the result; "" if none does."""
        count, images = self.looks_trained_on, len(self.indices)
        if not count:
            return ""
        these = f"all {images:,}" if count == images > 1 else f"{count:,} of these {images:,}"
        share, usual = count / images, self.training_look_alikes
        found = f"{these} {'looks like a training image' if count == 1 else 'look like training images'}"
        if is_usual(count, images, usual):
            flattered = "the result is not a test error" if share >= NO_TEST else "the true error is higher"
            return (f"{found} ({usual:.0%} of the training images also look like another training image), so this may "
                    f"be normal for this data; if not, {flattered}")
        return (f"{found} (saved again?), so the "
                + ("result is probably not a test error" if share >= NO_TEST else "error is probably too low"))

    def describe(self) -> str:
        """One line for the user, such as "measured: 6 of 60 images; the network was trained on the other 54"."""
        network = "the network was" if self.networks == 1 else "at least one of the networks was"
        images = f"{self.available:,} image{'s' * (self.available != 1)}"
        measured = f"all {images}" if len(self.indices) == self.available else f"{len(self.indices):,} of {images}"
        parts = []
        if self.includes_trained:
            measured += f", of which {network} trained on {self._number(self.trained_on)}: not a test error"
        elif self.trained_on:
            these = f"{self.trained_on:,} of the others" if len(self.look_alikes) else f"the other {self.trained_on:,}"
            parts.append(f"{network} trained on {these}")
        elif not self.unknown:
            measured += ", none of these files seen in training"
        if self.unknown:
            other = "other " if self.trained_on else ""
            parts.append(f"it is not known which {other}images {' and '.join(self.unknown)} were trained on, and some "
                         "may be among those measured: the error may be too low")
        if left_out := len(self.look_alikes):
            share, usual = left_out / (left_out + len(self.indices)), self.training_look_alikes
            parts.append(f"{left_out:,} that look like training images were left out" + (
                f", but {usual:.0%} of the training images also look like another training image: if that is normal "
                "for this data, the images that are left are the harder ones" if is_usual(left_out, left_out + len(
                    self.indices), usual) else f" ({share:.1%})"))
        if look_alikes := self.describe_look_alikes():
            parts.append(look_alikes)
        if self.selected_on and not self.includes_trained:
            these = f"these {len(self.indices):,}"
            count = these if self.selected_on == len(self.indices) else f"{self.selected_on:,} of {these}"
            parts.append(f"{count} {describe_roles(self.roles)}, so the result is slightly optimistic")
        if self.undecodable:
            parts.append(f"{self.undecodable:,} of {self.available + self.undecodable:,} files could not be decoded")
        return "; ".join([f"measured: {measured}", *parts])

    def _number(self, images: int) -> str:
        return "all" if images == len(self.indices) and images > 1 else f"{images:,}"

    def to_json(self) -> SelectionJson:
        """All counts."""
        return {"images": len(self.indices), "available": self.available, "trained_on": self.trained_on,
                "includes_trained": self.includes_trained, "looks_trained_on": self.looks_trained_on,
                "training_look_alikes": self.training_look_alikes if self.looks_trained_on or len(self.look_alikes)
                else None, "selected_on": self.selected_on, "unknown": list(self.unknown),
                "undecodable": self.undecodable, "look_alikes_left_out": len(self.look_alikes)}


def select_unseen(
    split: PackedSplit, seen: Sequence[SeenImages], include_trained: bool = False, undecodable: int = 0,
    exclude_look_alikes: bool = False,
) -> Selection:
    """Choose the images of a split that no network was trained on. The order of the networks does not matter.

    Images that chose the best epoch or fitted the temperature are measured, and counted.

    Args:
        split: the images.
        seen: of each network.
        include_trained: choose all images, and count those that a network was trained on.
        undecodable: images of the split that could not be decoded, for the counts.
        exclude_look_alikes: leave out the images that look like a training image, too; else they are counted.
    """
    hashes_N = split.content_hashes
    trained_N = np.any([contained(hashes_N, each.trained) for each in seen], axis=0)
    selected_N = np.any([contained(hashes_N, each.selected_on) for each in seen], axis=0)
    unseen = np.flatnonzero(np.ones_like(trained_N) if include_trained else ~trained_N)
    perceptual = distinct_perceptual_hashes(*(each.trained_perceptual for each in seen))
    alike_U = has_near_duplicate(split.perceptual_hashes[unseen], perceptual) & ~trained_N[unseen]
    kept_U = ~alike_U if exclude_look_alikes else np.ones_like(alike_U)
    measured = unseen[kept_U]
    unknown = {name for each in seen for name in each.unknown}
    deciding = [each for each in seen if contained(hashes_N[measured], each.selected_on).any()]
    roles = sorted({role for each in deciding for role in each.roles}) if all(each.roles for each in deciding) else ()
    return Selection(measured, len(split), int(trained_N.sum()), int((selected_N & ~trained_N)[measured].sum()),
                     tuple(sorted(unknown)), len(seen), alike_U[kept_U],
                     share_of_near_duplicates(perceptual) if alike_U.any() else 0.0, undecodable, unseen[~kept_U],
                     tuple(roles))


def choose_images(
    packed: PackedDataset, seen: Sequence[SeenImages], split: str | None = None, include_trained: bool = False,
    exclude_look_alikes: bool = False,
) -> tuple[PackedSplit, Selection]:
    """The images of a data set on which networks are measured, possibly none, and how they were chosen.

    Args:
        packed: the data.
        seen: of each network.
        split: name of a split; default: `packed.test_splits`. `train` includes the images that were trained on.
        include_trained: measure the images that were trained on as well.
        exclude_look_alikes: do not measure the images that look like a training image.
    """
    images = _images_of(packed, split)
    undecodable = sum(len(packed.quarantined[name]) for name in _splits(packed, split))
    selection = select_unseen(images, seen, include_trained or split == "train", undecodable, exclude_look_alikes)
    return images if len(selection.indices) == len(images) else images.subset(selection.indices), selection


def left_out_look_alikes(packed: PackedDataset, selection: Selection, split: str | None = None) -> PackedSplit:
    """The images that `exclude_look_alikes` left out, of the same data and split as for `choose_images`."""
    return _images_of(packed, split).subset(selection.look_alikes)


def _splits(packed: PackedDataset, split: str | None) -> tuple[str, ...]:
    return (split,) if split else tuple(packed.test_splits)


def _images_of(packed: PackedDataset, split: str | None) -> PackedSplit:
    return packed.split(*_splits(packed, split))


def evaluation_images(
    packed: PackedDataset, seen: Sequence[SeenImages], split: str | None = None, include_trained: bool = False,
    exclude_look_alikes: bool = False,
) -> tuple[PackedSplit, Selection]:
    """As `choose_images`. Raises UserError if the data has no such split, or none of its images may be measured."""
    images, selection = choose_images(packed, seen, split, include_trained, exclude_look_alikes)
    what = f"the split {split!r} of {packed.source}" if split else packed.source
    require(selection.available > 0, f"{what} has no images", f"choose a split that has: {', '.join(packed.splits)}")
    alike = len(selection.look_alikes)
    require(len(images) > 0 or not alike, f"all {alike:,} images of {what} that the network was not trained on look "
            "like training images", "leave out --exclude-look-alikes, or give other images")
    require(len(images) > 0, f"the network was trained on all {selection.available:,} images of {what}",
            "give images that it has not seen; --include-trained measures these, which is not a test error")
    return images, selection
