"""Choose the images that a network is measured on: none that it was trained on, by content hash, whatever their names.

Every number that is computed on data with a network goes through `select_unseen`, so that a copied, renamed, touched or
repacked training image is recognized everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from alexnet.data.content import contained, distinct_hashes
from alexnet.data.packed import PackedDataset, PackedSplit
from alexnet.errors import require
from alexnet.models.seen import SeenImages


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
    selected_on: int
    """How many of the measured ones chose the best epoch of a network, or fitted its temperature."""
    unknown: list[str]
    """Weights whose training images are not recorded."""
    undecodable: int
    """Images of the data that could not be decoded, and are in no other count."""


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
    undecodable: int = 0
    """Images of these splits that could not be decoded, and are not in `available`."""

    @property
    def includes_trained(self) -> bool:
        """Whether images are measured that a network was trained on."""
        return len(self.indices) > self.available - self.trained_on

    def describe(self) -> str:
        """One line for the user, such as "measured: 6 of 60 images; the network was trained on the other 54"."""
        network = "the network was" if self.networks == 1 else "at least one of the networks was"
        images = f"{self.available:,} image{'s' * (self.available != 1)}"
        measured = f"all {images}" if len(self.indices) == self.available else f"{len(self.indices):,} of {images}"
        parts = []
        if self.includes_trained:
            measured += f", of which {network} trained on {self._number(self.trained_on)}: not a test error"
        elif self.trained_on:
            parts.append(f"{network} trained on the other {self.trained_on:,}")
        elif not self.unknown:
            measured += ", none of these files seen in training"
        if self.unknown:
            other = "other " if self.trained_on else ""
            parts.append(f"it is not known which {other}images {' and '.join(self.unknown)} were trained on")
        if self.selected_on:
            these = f"these {len(self.indices):,}"
            count = these if self.selected_on == len(self.indices) else f"{self.selected_on:,} of {these}"
            parts.append(f"{count} chose the best epoch or fitted the temperature, so the result is slightly "
                         "optimistic")
        if self.undecodable:
            parts.append(f"{self.undecodable:,} more could not be decoded")
        return "; ".join([f"measured: {measured}", *parts])

    def _number(self, images: int) -> str:
        return "all" if images == len(self.indices) and images > 1 else f"{images:,}"

    def to_json(self) -> SelectionJson:
        """All counts."""
        return {"images": len(self.indices), "available": self.available, "trained_on": self.trained_on,
                "includes_trained": self.includes_trained, "selected_on": self.selected_on,
                "unknown": list(self.unknown), "undecodable": self.undecodable}


def select_unseen(
    split: PackedSplit, seen: Sequence[SeenImages], include_trained: bool = False, undecodable: int = 0,
) -> Selection:
    """Choose the images of a split that no network was trained on. The order of the networks does not matter.

    Images that chose the best epoch or fitted the temperature are measured, and counted.

    Args:
        split: the images.
        seen: of each network.
        include_trained: choose all images, and count those that a network was trained on.
        undecodable: images of the split that could not be decoded, for the counts.
    """
    hashes_N = split.content_hashes
    trained_N = np.any([contained(hashes_N, each.trained) for each in seen], axis=0)
    selected_N = np.any([contained(hashes_N, each.selected_on) for each in seen], axis=0)
    measured_N = np.ones_like(trained_N) if include_trained else ~trained_N
    unknown = {name for each in seen for name in each.unknown}
    return Selection(np.flatnonzero(measured_N), len(split), int(trained_N.sum()),
                     int((selected_N & measured_N & ~trained_N).sum()), tuple(sorted(unknown)), len(seen), undecodable)


def validation_copies(packed: PackedDataset) -> int:
    """How many validation images are exact copies of training images, and flatter a network trained on these."""
    return int(contained(packed.split("val").content_hashes,
                         distinct_hashes(packed.split("train").content_hashes)).sum())


def choose_images(
    packed: PackedDataset, seen: Sequence[SeenImages], split: str | None = None, include_trained: bool = False,
) -> tuple[PackedSplit, Selection]:
    """The images of a data set on which networks are measured, possibly none, and how they were chosen.

    Args:
        packed: the data.
        seen: of each network.
        split: name of a split; default: `packed.test_splits`. `train` includes the images that were trained on.
        include_trained: measure the images that were trained on as well.
    """
    names = (split,) if split else packed.test_splits
    images = packed.split(*names)
    undecodable = sum(len(packed.quarantined[name]) for name in names)
    selection = select_unseen(images, seen, include_trained or split == "train", undecodable)
    return images if len(selection.indices) == len(images) else images.subset(selection.indices), selection


def evaluation_images(
    packed: PackedDataset, seen: Sequence[SeenImages], split: str | None = None, include_trained: bool = False,
) -> tuple[PackedSplit, Selection]:
    """As `choose_images`. Raises UserError if the data has no such split, or none of its images may be measured."""
    images, selection = choose_images(packed, seen, split, include_trained)
    what = f"the split {split!r} of {packed.source}" if split else packed.source
    require(selection.available > 0, f"{what} has no images", f"choose a split that has: {', '.join(packed.splits)}")
    require(len(images) > 0, f"the network was trained on all {selection.available:,} images of {what}",
            "give images that it has not seen; --include-trained measures these, which is not a test error")
    return images, selection
