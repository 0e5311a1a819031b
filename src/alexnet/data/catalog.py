"""All images of a data set in one numbered list (`Catalog`): row -> split, class, name, pixels; packed or not.

Shapes: N images of all splits, one split after the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from alexnet.data.dataset import Dataset, number_alone
from alexnet.data.packed import PackedDataset, PackedSplit

ImageJson = TypedDict("ImageJson", {"name": str, "split": str, "class": str})


@dataclass(frozen=True)
class Catalog:
    """The images of `source`, by row."""

    source: Dataset | PackedDataset

    @cached_property
    def splits(self) -> dict[str, int]:
        """The splits that are not empty, and the number of images in each."""
        counts = self.source.counts if isinstance(self.source, PackedDataset) else {
            split: len(images) for split, images in self.source.splits.items()}
        return {split: count for split, count in counts.items() if count}

    @cached_property
    def packed_splits(self) -> dict[str, PackedSplit]:
        """The splits of a packed source, opened once; empty if the source is not packed."""
        source = self.source
        return {name: source.split(name) for name in self.splits} if isinstance(source, PackedDataset) else {}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a label is an index into them."""
        return self.source.classes

    def __len__(self) -> int:
        return sum(self.splits.values())

    @cached_property
    def split_N(self) -> NDArray[np.int8]:
        """The split of each image, as an index into `splits`."""
        return np.repeat(np.arange(len(self.splits), dtype=np.int8), list(self.splits.values()))

    @cached_property
    def labels_N(self) -> NDArray[np.int64]:
        if isinstance(self.source, PackedDataset):
            return np.concatenate([split.labels for split in self.packed_splits.values()])
        return np.array([image.label for split in self.splits for image in self.source.splits[split]], np.int64)

    @cached_property
    def names_N(self) -> tuple[str, ...]:
        """The name of each image in its source, such as `train/tench/n01440764_1.JPEG`."""
        if isinstance(self.source, PackedDataset):
            return tuple(name for split in self.packed_splits.values() for name in split.names)
        return tuple(image.name for split in self.splits for image in self.source.splits[split])

    @cached_property
    def packed_hashes_N(self) -> NDArray[np.uint64]:
        """Content hashes of the images of a packed source."""
        return np.concatenate([split.content_hashes for split in self.packed_splits.values()])

    @cached_property
    def packed_perceptual_hashes_N2(self) -> NDArray[np.uint64]:
        """Perceptual hashes of the images of a packed source."""
        return np.concatenate([split.perceptual_hashes for split in self.packed_splits.values()])

    @cached_property
    def groups_N(self) -> NDArray[np.uint64] | None:
        """A number for the group of each image (--group); None if the images have no groups."""
        if not isinstance(self.source, PackedDataset):
            grouping = self.source.grouping
            return np.array([grouping.number_of(name) for name in self.names_N], np.uint64) if grouping else None
        of_splits = [split.groups for split in self.packed_splits.values()]
        found = [groups_N for groups_N in of_splits if groups_N is not None]
        return np.concatenate(found) if len(found) == len(of_splits) and found else None

    @property
    def grouped_by(self) -> str | None:
        """The value of --group; None if the images have no groups."""
        if isinstance(self.source, PackedDataset):
            return self.source.manifest.grouped_by
        return self.source.grouping.by if self.source.grouping else None

    @cached_property
    def ungrouped_N(self) -> NDArray[np.bool_]:
        """Whether --group gives an image no group, so that it is a group of its own. All, if the images have none."""
        if self.groups_N is None:
            return np.ones(len(self), bool)
        alone_N = np.array([number_alone(name) for name in self.names_N], np.uint64)
        return self.groups_N == alone_N

    @property
    def held_out(self) -> float:
        """The fraction of each class that was held out for validation; 0 if the data has a validation split."""
        source = self.source
        return source.manifest.held_out if isinstance(source, PackedDataset) else source.held_out

    def rows_of(self, split: str) -> NDArray[np.int64]:
        """The rows of a split; empty if there is no such split."""
        names = list(self.splits)
        return np.flatnonzero(self.split_N == names.index(split)) if split in names else np.empty(0, np.int64)

    def locate(self, row: int) -> tuple[str, int]:
        """The split of an image, and its index there."""
        for split, count in self.splits.items():
            if row < count:
                return split, row
            row -= count
        raise IndexError(f"there is no row {row}")

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """Decode an image: uint8 [height, width, 3]. Raises BadImage or OSError."""
        split, index = self.locate(row)
        if isinstance(self.source, PackedDataset):
            return self.packed_splits[split].read_one(index)
        return self.source.splits[split][index].pixels()

    def describe(self, rows: Iterable[int]) -> list[ImageJson]:
        """Name, split and class of these images."""
        return [{"name": self.names_N[row], "split": self.locate(row)[0], "class": self.classes[self.labels_N[row]]}
                for row in map(int, rows)]


def class_counts(catalog: Catalog, split: str, broken: Collection[int] = ()) -> NDArray[np.int64]:
    """The number of images of each class in a split, without the rows `broken`: int64 [K]."""
    rows = np.setdiff1d(catalog.rows_of(split), np.fromiter(broken, np.int64))
    return np.bincount(catalog.labels_N[rows], minlength=len(catalog.classes))
