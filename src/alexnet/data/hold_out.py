"""Draw the validation images of data that has no validation split: a fraction of each class, single images or groups.

Both draws depend on names and the seed only, not on dates, on the order of the files or on the folder around them.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from alexnet.data.derived_images import held_out_copies
from alexnet.errors import require, such_as

Group = TypeVar("Group", bound=Hashable)


def require_fraction(held_out: float) -> None:
    """Raise UserError unless `held_out` is a fraction of each class that leaves some of it."""
    require(0 <= held_out < 1, f"the fraction to hold out, {held_out:g}, must be at least 0 and below 1",
            "give 0.2 for a fifth of each class")


def target_size(images: int, fraction: float) -> int:
    """How many images of a class to hold out: at least one of two or more, and never all of them."""
    return min(images - 1, max(1, round(fraction * images)))


def hold_out(
    images: Mapping[str, list[str]], fraction: float, seed: int, base: str,
) -> dict[str, dict[str, list[str]]]:
    """Move a fraction of each class to `val`: the images whose names below `base` have the smallest hashes.

    A folder around the data does not change the choice. If images are added, most held-out images stay held out: one
    becomes a training image only if an added one, with a smaller hash, takes its place. No rule that holds out exactly
    this many can promise more.

    Args:
        images: class -> its files.
        fraction: of each class.
        seed: of the choice.
        base: the folder that holds all files.
    """
    splits: dict[str, dict[str, list[str]]] = {"train": {}, "val": {}}
    for name, files in images.items():
        ranked = sorted(files, key=lambda file: _rank(seed, file[len(base) :].removeprefix("/")))
        held = set(ranked[: target_size(len(files), fraction)])
        splits["train"][name] = [file for file in files if file not in held]
        splits["val"][name] = [file for file in files if file in held]
    return splits


def hold_out_groups(groups: Sequence[str], labels: Sequence[int], fraction: float, seed: int) -> set[str]:
    """Choose whole groups so that about a fraction of each class is held out.

    The groups are visited in the order of a hash of their names. A group is taken if the classes of its images come
    closer to the fraction by it, and if each of these classes keeps a training image. A class of which nothing was
    taken, since all its groups are large, then gives its smallest group. A class with one group gives none.

    Args:
        groups: the group of each image.
        labels: the class of each image.
        fraction: of each class.
        seed: of the choice.

    Returns:
        The names of the groups that are held out.
    """
    sizes: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for group, label in zip(groups, labels, strict=True):
        sizes[group][label] += 1
    total, held = Counter(labels), Counter[int]()
    target = {label: target_size(count, fraction) for label, count in total.items()}
    chosen = set[str]()

    def take(group: str) -> None:
        chosen.add(group)
        held.update(sizes[group])

    def leaves_some(group: str) -> bool:
        return all(held[label] + count < total[label] for label, count in sizes[group].items())

    ranked = sorted(sizes, key=lambda group: _rank(seed, group))
    for group in ranked:
        missing = sum(abs(target[label] - held[label]) for label in sizes[group])
        after = sum(abs(target[label] - held[label] - count) for label, count in sizes[group].items())
        if after < missing and leaves_some(group):
            take(group)
    for label in sorted(total):
        if not held[label] and (able := [group for group in ranked if sizes[group][label] and leaves_some(group)]):
            take(min(able, key=lambda group: sizes[group].total()))  # the first in rank of those of equal size
    return chosen


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogateescape")).digest()


def deal_groups(groups: Sequence[Group], labels: Sequence[int], folds: int) -> list[int]:
    """Deal whole groups into folds so that each fold has about as many images of each class: the fold of each image.

    The largest groups are dealt first, each into the fold that has the fewest images of the group's classes.

    Args:
        groups: the group of each image; groups that are equal in size are dealt in their sorted order.
        labels: the class of each image.
        folds: how many.
    """
    sizes: defaultdict[Group, Counter[int]] = defaultdict(Counter)
    for group, label in zip(groups, labels, strict=True):
        sizes[group][label] += 1
    filled = [Counter[int]() for _ in range(folds)]
    fold_of: dict[Group, int] = {}
    for group in sorted(sizes, key=lambda group: (-sizes[group].total(), group)):
        def load(fold: int, own: Counter[int] = sizes[group]) -> tuple[int, int]:
            return sum(filled[fold][label] * count for label, count in own.items()), filled[fold].total()

        fold_of[group] = min(range(folds), key=load)
        filled[fold_of[group]].update(sizes[group])
    return [fold_of[group] for group in groups]


def note_held_out_copies(splits: Mapping[str, Mapping[str, Sequence[str]]]) -> list[str]:
    """A note on held-out images that have the name of a copy of a training image."""
    train, val = ([file for files in splits[split].values() for file in files] for split in ("train", "val"))
    if not (copies := held_out_copies(train, val)):
        return []
    return [f"by their names, {len(copies):,} of the {len(val):,} images held out may be copies of training images"
            f"{such_as(len(copies), f'{copies[0][0]} of {copies[0][1]}')}; then the error looks "
            "better than it is: hold images out before augmenting, into a folder val/ beside train/"]
