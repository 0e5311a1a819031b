"""Refuse folders that look like classes and are none: masks beside images, copies of one data set, data sets inside.

Each check raises a UserError that names the folders and the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import combinations

from alexnet.data.image_tree import ImageFolder, some
from alexnet.data.split_folders import holds_splits, listed, shown
from alexnet.errors import UserError, require

_ANNOTATIONS = re.compile(
    r"(.*[\s_\-])?(annotations?|masks?|labels?|segmentations?|trimaps?|gt|ground[\s_\-]?truth|bbox(es)?)",
    re.IGNORECASE)

_PARTS = re.compile(
    r"(19|20)\d\d|(batch|part|fold|set|session|day|cam|camera|video|seq|sequence|take|subject|person|patient)"
    r"[\s_\-]?\d+", re.IGNORECASE)
"""Names of folders that divide the images of a class and are no classes: 2019, batch_1, cam2."""

_SAME_NAMES = 0.9
"""Fraction of the file names that two folders share if one is derived from the other."""


def require_classes(base: ImageFolder, source: str) -> None:
    """Raise UserError if the folders in `base` are not the classes.

    Args:
        base: the folder that is about to be understood as a folder of class folders.
        source: the tree as the user knows it, for messages.
    """
    classes = base.with_images
    if len(classes) < 2:
        return
    for inside in _data_sets_within(base, 3):
        raise UserError(f"{shown(base, source)} holds {listed(classes)}, and {shown(inside, source)} is a data set of "
                        f"its own with {listed(inside.with_images)}", f"did you mean {shown(inside, source)}?")
    _require_no_annotations(classes, source)
    _require_different_folders(classes, source)
    _require_different_files(classes, source)


def _data_sets_within(folder: ImageFolder, levels: int) -> Iterator[ImageFolder]:
    """Folders below that have a training folder with classes and another split."""
    for below in folder.with_images:
        if holds_splits(below):
            yield below
        elif levels > 1:
            yield from _data_sets_within(below, levels - 1)


def _require_no_annotations(classes: list[ImageFolder], source: str) -> None:
    """Masks have the file names of the images that they belong to."""
    masks = [folder for folder in classes if _ANNOTATIONS.fullmatch(folder.name)]
    images = [folder for folder in classes if folder not in masks]
    if not masks or not images:
        return
    stems = {stem for folder in images for stem in _stems(folder)}
    for mask in masks:
        own = _stems(mask)
        if len(own & stems) >= len(own) / 2:
            remedy = f"did you mean {shown(images[0], source)}?" if len(images) == 1 else f"move {mask.name}/ away"
            raise UserError(f"{shown(mask, source)} is no class: its files have the same names as those of "
                            f"{listed(images)}", remedy)


def _require_different_folders(classes: list[ImageFolder], source: str) -> None:
    """Copies of a data set (color/, grayscale/) have the same class folders in each."""
    inner = {folder.name: {below.name for below in folder.with_images if not _PARTS.fullmatch(below.name)}
             for folder in classes if not folder.images}
    for one, other in combinations([folder for folder in classes if len(inner.get(folder.name, ())) > 1], 2):
        common = inner[one.name] & inner[other.name]
        if len(common) > 1 and 2 * len(common) >= min(len(inner[one.name]), len(inner[other.name])):
            raise UserError(
                f"{one.name}/ and {other.name}/ in the folder {source} hold the same folders "
                f"({some(sorted(common), 3)}), so these look like the classes",
                f"did you mean {shown(one, source)}? If {one.name} and {other.name} are classes, put their images "
                f"directly into them")


def _require_different_files(classes: list[ImageFolder], source: str) -> None:
    """Two forms of the same images have the same file names, and these do not just count 1, 2, 3."""
    if len(classes) > 20:  # copies are few; to compare the names of a thousand classes would take long
        return
    stems = {folder.name: _stems(folder) for folder in classes}
    for one, other in combinations(classes, 2):
        own, others = stems[one.name], stems[other.name]
        common = own & others
        require(len(common) < 10 or len(common) < _SAME_NAMES * min(len(own), len(others)) or _are_counters(common),
                f"{one.name}/ and {other.name}/ in the folder {source} hold files of the same names "
                f"({some(sorted(common), 3)}), so they are not two classes of different images",
                "name the one to use, or rename the files if they are two classes")


def _stems(folder: ImageFolder) -> set[str]:
    return {image.rpartition("/")[2].rpartition(".")[0] for image in folder.all_images()}


def _are_counters(stems: Iterable[str]) -> bool:
    """Whether the names are one pattern with counters, such as frame_001: any two folders may have these."""
    patterns = {re.sub(r"\d+", "#", stem) for stem in stems}
    numbers = {int(found[-1]) for stem in stems if (found := re.findall(r"\d+", stem))}
    return len(patterns) == 1 and bool(numbers) and max(numbers) - min(numbers) < 4 * len(numbers) + 100
