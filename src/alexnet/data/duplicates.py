"""Duplicate images: exact copies (same content hash) and near duplicates, within and across splits and classes.

Shapes: N images, in the rows of `catalog.Catalog`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from alexnet.data.catalog import Catalog, ImageJson
from alexnet.data.near_duplicates import near_duplicate_groups
from alexnet.data.scan import Scan

Kind = Literal["exact", "near"]


class GroupJson(TypedDict):
    """A group of duplicates."""

    kind: Kind
    images: list[ImageJson]


@dataclass(frozen=True)
class DuplicateGroup:
    """Images that are copies of each other (exact), or look the same (near)."""

    kind: Kind
    rows: tuple[int, ...]
    splits: tuple[str, ...]
    """The splits that have one of the images, in the catalog's order."""
    classes: tuple[str, ...]
    """The classes that have one of the images."""

    def to_json(self, catalog: Catalog) -> GroupJson:
        return {"kind": self.kind, "images": catalog.describe(self.rows)}


@dataclass(frozen=True)
class Duplicates:
    """All groups of duplicates of a data set: those across splits first, then those across classes."""

    groups: tuple[DuplicateGroup, ...]

    def of_kind(self, kind: Kind) -> list[DuplicateGroup]:
        return [group for group in self.groups if group.kind == kind]

    def across_splits(self, kind: Kind) -> list[DuplicateGroup]:
        """Groups with a training image and an image of another split."""
        return [group for group in self.of_kind(kind) if "train" in group.splits and len(group.splits) > 1]

    def across_classes(self, kind: Kind) -> list[DuplicateGroup]:
        """Groups with images of two classes, without those of `across_splits`, so that none is named twice."""
        across_splits = self.across_splits(kind)
        return [group for group in self.of_kind(kind) if len(group.classes) > 1 and group not in across_splits]

    def within(self, kind: Kind) -> list[DuplicateGroup]:
        """Groups of one class and one split."""
        return [group for group in self.of_kind(kind) if len(group.splits) == len(group.classes) == 1]


def find_exact_duplicates(catalog: Catalog, content_N: NDArray[np.uint64]) -> Duplicates:
    """Group the images with the same content hash. Hash 0, of an image that cannot be decoded, has no copies."""
    _, firsts, inverse = np.unique(content_N, return_index=True, return_inverse=True)
    groups_N = firsts[inverse]
    groups_N[content_N == 0] = np.flatnonzero(content_N == 0)
    return Duplicates(_sorted(_groups(catalog, "exact", groups_N)))


def find_duplicates(catalog: Catalog, scan: Scan) -> Duplicates:
    """Group exact copies and near duplicates. A group of near duplicates has two different images or more."""
    content_N = scan.content_N.copy()
    content_N[list(scan.broken)] = 0
    exact = find_exact_duplicates(catalog, content_N)
    copy_of_N = np.arange(len(catalog))
    for group in exact.groups:
        copy_of_N[list(group.rows)] = group.rows[0]
    originals = np.flatnonzero(copy_of_N == np.arange(len(catalog)))
    near_N = np.arange(len(catalog))
    near_N[originals] = originals[near_duplicate_groups(scan.perceptual_N2[originals])]
    near_N = near_N[copy_of_N]
    near = [group for group in _groups(catalog, "near", near_N) if len({copy_of_N[row] for row in group.rows}) > 1]
    return Duplicates(_sorted([*exact.groups, *near]))


def _groups(catalog: Catalog, kind: Kind, groups_N: NDArray[np.int64]) -> list[DuplicateGroup]:
    """The groups of two images or more. groups_N: for each image a number that its group has in common."""
    order = np.argsort(groups_N, kind="stable")
    bounds = np.flatnonzero(np.diff(groups_N[order], prepend=-1, append=-1))
    splits, found = list(catalog.splits), []
    for group in np.flatnonzero(np.diff(bounds) > 1):
        rows = order[bounds[group] : bounds[group + 1]]
        found.append(DuplicateGroup(
            kind, tuple(rows.tolist()), tuple(splits[split] for split in np.unique(catalog.split_N[rows])),
            tuple(catalog.classes[label] for label in np.unique(catalog.labels_N[rows]))))
    return found


def _sorted(groups: list[DuplicateGroup]) -> tuple[DuplicateGroup, ...]:
    return tuple(sorted(groups, key=lambda group: (-len(group.splits), -len(group.classes), group.rows)))
