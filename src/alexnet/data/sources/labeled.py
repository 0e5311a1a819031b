"""Images whose labels do not come from folders (a table, file names, annotations) -> a data set with splits."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile

from alexnet.data.dataset import Dataset, Ignored, are_numbers, distinct
from alexnet.data.hold_out import hold_out, note_held_out_copies
from alexnet.data.image_tree import HERE, gather_images
from alexnet.data.imagenet_classes import NAMES
from alexnet.data.sources.folders import WNID
from alexnet.data.split_names import split_kinds
from alexnet.data.tree import FileTree
from alexnet.errors import UserError, some, such_as


@dataclass(frozen=True, slots=True)
class LabeledImage:
    """An image file of a tree, and what is known of it."""

    file: str
    label: str
    split: str = ""
    """`train`, `val` or `test`; "" if no split is stated."""

    def describe(self) -> str:
        return f"{self.label!r} in {self.split}" if self.split else repr(self.label)


def image_files(tree: FileTree) -> list[str]:
    """The files that count as images, without those of operating systems and of alexnet itself."""
    return sorted(gather_images(tree)[0].all_images())


@cache
def split_name(word: str) -> str:
    """`train`, `val` or `test` if the word means that, such as `Training` or `valid`; else ""."""
    kind = split_kinds([word]).get(word, "unlabeled")
    return "" if kind == "unlabeled" else kind


def split_of_folder(file: str) -> str:
    """The split that the first folder with the name of a split states, such as `val` of `valid/a.jpg`; else ""."""
    return _split_of_path(file.rpartition("/")[0])


@cache
def _split_of_path(folder: str) -> str:
    return next(filter(None, map(split_name, folder.split("/"))), "")


def is_test_folder(file: str) -> bool:
    """Whether the file is in a folder of test images, which may have no labels."""
    folders = file.split("/")[:-1]
    return bool({"test", "unlabeled"} & {split_kinds([folder]).get(folder) for folder in folders})


def make_dataset(
    tree: FileTree, images: Iterable[LabeledImage], labeled_by: str, held_out: float, seed: int,
    notes: Sequence[str] = (), unlabeled: Sequence[str] = (), used: Collection[str] = (),
    words: Mapping[str, str] | None = None,
) -> Dataset:
    """The data set of these images.

    Args:
        labeled_by: what the labels are from, for the first note, which says what was understood.
        held_out, seed: as for `layout.read_layout`, where the images have no validation split.
        notes: what else the user should know.
        unlabeled: files that are images and have no label.
        used: files that hold the labels.
        words: readable names of labels that are WordNet IDs.

    Raises:
        UserError: there are fewer than two classes, or two that differ in upper and lower case only, or one without
            training images.
    """
    by_split: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    images = sorted(images, key=lambda image: image.file)
    for image in images:
        by_split[image.split or "train"][image.label].append(image.file)
    labels = sorted({label for files in by_split.values() for label in files})
    labels.sort(key=int if are_numbers(labels) else None)
    _require_classes(tree, labels)
    base = _common_folder([*(image.file for image in images), *set(used).intersection(tree.files)])
    splits, held_out, split_notes = _choose_splits(by_split, held_out, seed, base)
    if missing := [label for label in labels if not splits["train"].get(label)]:
        raise UserError(f"{tree.source} has no training images of class {missing[0]!r}", "add some, or leave it out")
    number = {label: index for index, label in enumerate(labels)}
    wnids = tuple(labels) if all(map(WNID.fullmatch, labels)) else None
    classes = distinct([(words or NAMES).get(wnid, wnid) for wnid in wnids], wnids) if wnids else tuple(labels)
    ignored = gather_images(tree, used)[1]
    if unlabeled:
        ignored.append(Ignored(HERE, "images without a label", len(unlabeled)))
    counts = [f"{name} {sum(len(files.get(label, ())) for files in splits.values()):,}"
              for label, name in zip(labels, classes, strict=True)]
    said = [f"{tree.source} holds {len(labels):,} classes ({some(counts, 6)}), labeled by {labeled_by}; ignored: "
            f"{some(map(str, ignored), 10) or 'nothing'}",
            *notes, *left_out(unlabeled, "image", "without a label"), *split_notes]
    return Dataset(
        tree.name, classes,
        {split: [tree.image(file, number[label]) for label in labels for file in files.get(label, ())]
         for split, files in splits.items()},
        tree.source, wnids, tuple(said), held_out=held_out, ignored=tuple(ignored))


def _require_classes(tree: FileTree, classes: Sequence[str]) -> None:
    if len(classes) < 2:
        holds = f"one class, {classes[0]!r}" if classes else "no labeled images"
        raise UserError(f"{tree.source} holds {holds}, and a classifier needs two or more", "check the labels")
    spellings = defaultdict(list)
    for name in classes:
        spellings[name.casefold()].append(name)
    if same := next((names for names in spellings.values() if len(names) > 1), None):
        raise UserError(f"the labels {same[0]!r} and {same[1]!r} differ in upper and lower case only",
                        "give both the same spelling")
    numbers = defaultdict(list)
    for name in classes:
        with contextlib.suppress(ValueError):
            numbers[float(name)].append(name)
    if equal := next((names for names in numbers.values() if len(names) > 1), None):
        raise UserError(f"the labels {equal[0]!r} and {equal[1]!r} are the same number", "give both the same spelling")


def _common_folder(files: Sequence[str]) -> str:
    """The folder that all files are in; "" for the root. A folder around the data does not change the hold-out."""
    first, last = (file.split("/")[:-1] for file in (min(files), max(files)))
    return "/".join(part for part, _ in takewhile(lambda parts: parts[0] == parts[1], zip(first, last, strict=False)))


def _choose_splits(
    by_split: Mapping[str, Mapping[str, list[str]]], held_out: float, seed: int, base: str,
) -> tuple[dict[str, Mapping[str, list[str]]], float, list[str]]:
    """The splits, the fraction that was held out, and notes on both."""
    splits = dict(by_split)
    if "train" not in splits:  # only val, or only test: data without a split
        splits["train"] = splits.pop("val" if "val" in splits else "test")
    if "val" not in splits and "test" in splits:
        splits["val"] = splits.pop("test")
        return splits, 0.0, ["the test images are the validation set, as there is no other: they choose the best epoch"]
    if "val" in splits or not held_out:
        return splits, 0.0, []
    splits |= hold_out({label: list(files) for label, files in splits["train"].items()}, held_out, seed, base)
    return splits, held_out, note_held_out_copies({split: splits[split] for split in ("train", "val")})


def left_out(names: Sequence[str], noun: str, why: str) -> list[str]:
    """A note on what was left out, with the number and the first of the names; none if there are none.

    Args:
        noun: what the names are, in the singular.
        why: what is wrong with them, to follow the noun.
    """
    plural = "s" * (len(names) != 1)
    return [f"left out: {len(names):,} {noun}{plural} {why}{such_as(len(names), names[0])}"] if names else []
