"""Understand a folder of images: its splits, its classes, the hold-out, and everything in it that is not used.

`read_layout` is a function of a list of files (tree.py) and opens none. split_folders.py finds the splits,
layout_checks.py refuses folders that are no classes, and sources/folders.py makes a data set of the result.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alexnet.data.dataset import Ignored, are_numbers
from alexnet.data.hold_out import hold_out, note_held_out_copies
from alexnet.data.image_tree import HERE, ImageFolder, counted, gather_images
from alexnet.data.layout_checks import require_class_folders, require_classes, require_images
from alexnet.data.split_folders import FoundSplits, SplitFolder, find_splits, listed, require_supported, shown
from alexnet.data.tree import FileTree
from alexnet.errors import UserError, did_you_mean, require, some, such_as

ImagesByClass = dict[str, list[str]]
"""For each class, in the order of the labels, its images as paths relative to the root."""


@dataclass(frozen=True)
class Layout:
    """What a folder of images was understood to be."""

    classes: tuple[str, ...]
    """Names of the class folders, in composed Unicode (NFC) and without blanks around; a label is an index into them.
    Sorted as text, or as numbers if all of them are numbers."""
    splits: Mapping[str, ImagesByClass]
    """`train`; `val` if there is a validation folder or images were held out; `test` if there are both."""
    folders: Mapping[str, str]
    """For each split, the folder that holds its classes: `train/`, `./`, or `*/train/` within each class folder."""
    held_out: float
    """The fraction of each class that was held out as `val`; 0 if there is a validation folder."""
    ignored: tuple[Ignored, ...]
    """Everything in the tree that is not used."""
    notes: tuple[str, ...]
    """What was assumed, a sentence each. `describe_layout` says what was understood and ignored."""


def read_layout(tree: FileTree, held_out: float = 0.1, seed: int = 0, trust_folders: bool = False) -> Layout:
    """Find the splits, the classes and their images in a list of files.

    Classes are folders, matched between the splits by name. Images in folders below a class folder belong to that
    class. Every file of the tree is an image of a split or counted in `Layout.ignored`.

    Args:
        held_out: the fraction of each class that becomes `val` if there is no validation or test folder.
        seed: of the choice of these images.
        trust_folders: take folders for classes that do not look like classes (layout_checks.py).

    Raises:
        UserError: there are fewer than two classes, the splits do not have the same classes, or it is not clear what
            a folder is. The message names the right folder if it can be guessed.
    """
    root, ignored = gather_images(tree)
    found, notes = find_splits(root, tree.source), list[str]()
    if not trust_folders:
        _require_classes(found, tree.source)
    train = _read_classes(found.splits["train"], tree.source, ignored)
    if len(train) < 2:
        raise _too_few_classes(found, train, tree.source)
    images: dict[str, ImagesByClass] = {"train": {name: list(folder.all_images()) for name, folder in train.items()}}
    for split, folder in found.splits.items():
        if split != "train":
            images[split] = _match_classes(split, folder, found.splits["train"], train, tree.source, ignored, notes)
    folders = {split: folder.path for split, folder in found.splits.items()}
    ignored += [*found.ignored, *_loose_images(found)]
    notes[:0] = [*found.notes, *_nested_notes(found)]
    if len(images) == 1 and held_out:
        images, folders = hold_out(images["train"], held_out, seed, found.base.path), dict.fromkeys(
            ("train", "val"), folders["train"])
        notes += note_held_out_copies(images)
    else:
        held_out = 0.0
    notes += _few_validation_images(images, folders)
    return Layout(tuple(train), images, folders, held_out, tuple(ignored), tuple(notes))


def describe_layout(layout: Layout, source: str, names: Sequence[str]) -> str:
    """What was understood: `/data holds train/: 2 classes (cat 120, dog 30), val/: ...; ignored: ...`.

    Args:
        layout: what `read_layout` returned.
        source: the tree as the user knows it.
        names: readable names of the classes, in the order of `layout.classes`.
    """
    counts: dict[str, Counter[str]] = {}
    for split, by_class in layout.splits.items():  # images that were held out are in the same folder
        count = counts.setdefault(layout.folders[split], Counter())
        count.update({name: len(images) for name, images in by_class.items()})
    parts = []
    for folder, count in counts.items():
        classes = some([f"{name} {count[key]:,}" for key, name in zip(layout.classes, names, strict=True)
                        if count[key]], 6)
        parts.append(f"{folder}: {len(count):,} class{'es' * (len(count) != 1)} ({classes})".removeprefix(f"{HERE}: "))
    left_out = [str(item) for item in sorted(layout.ignored, key=lambda item: (-item.count, item.path))]
    return f"{source} holds {', '.join(parts)}; ignored: {some(left_out, 10) or 'nothing'}"


# --- Classes ----------------------------------------------------------------------------------------------------------


def _require_classes(found: FoundSplits, source: str) -> None:
    """Raise UserError if class folders of a split do not look like classes."""
    for split in found.splits.values():
        if split.parent:
            require_classes(split.parent, source)
        require_class_folders(split.classes, source)
        for folder in split.classes.values():
            if not folder.image_count:
                require_images(folder, source)


def _read_classes(split: SplitFolder, source: str, ignored: list[Ignored]) -> dict[str, ImageFolder]:
    """The class folders of a split that hold images, by class name, in the order of the labels.

    Raises UserError for a class whose images all are of unsupported formats, and for two folders of one name.
    """
    found: dict[str, ImageFolder] = {}
    keys: dict[str, ImageFolder] = {}
    for name, folder in split.classes.items():
        if not folder.image_count:
            require_supported(folder, source)
            ignored.append(Ignored(f"{folder.path}/", "no images", 0))
            continue
        other = keys.setdefault(_class_key(name), folder)
        require(other is folder, f"{other.path}/ and {folder.path}/ in the folder {source} have the same name but for "
                "case, accents' encoding or blanks", "merge them, or rename one")
        found[_class_name(name)] = folder
    return {name: found[name] for name in sorted(found, key=int if are_numbers(tuple(found)) else None)}


def _match_classes(
    split: str, folder: SplitFolder, train_folder: SplitFolder, train: Mapping[str, ImageFolder], source: str,
    ignored: list[Ignored], notes: list[str],
) -> ImagesByClass:
    """The images of a split under the training folder's class names. Raises UserError for a class that has no name."""
    own = _read_classes(folder, source, ignored)
    by_key = {_class_key(name): name for name in train}
    for name in own:
        if _class_key(name) not in by_key:
            raise UserError(f"{source}/{folder.path.rstrip('/')} has class {name!r} and "
                            f"{source}/{train_folder.path.rstrip('/')} has not ({did_you_mean(name, train)})",
                            "classes must have the same names in both")
    images = {by_key[_class_key(name)]: list(below.all_images()) for name, below in own.items()}
    spelled = [(name, by_key[_class_key(name)]) for name, below in own.items() if by_key[_class_key(name)] != name]
    if spelled:
        notes.append(f"class names of {folder.path} and {train_folder.path} that differ only in case are one class"
                     f"{such_as(len(spelled), f'{spelled[0][0]!r} and {spelled[0][1]!r}')}")
    return {name: images[name] for name in train if name in images}


def _class_name(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip() or name


def _class_key(name: str) -> str:
    """Equal for names that a file system or an unpacking tool may have changed into each other.

    For a single letter, upper and lower case are two classes of characters.
    """
    name = _class_name(name)
    return unicodedata.normalize("NFC", name.lower()) if len(name) > 1 else name


def _too_few_classes(found: FoundSplits, train: Mapping[str, ImageFolder], source: str) -> UserError:
    """The error for fewer than two classes, with the folder that was probably meant."""
    base = found.base
    where = f"{source}/{found.splits['train'].path}".removesuffix("/").removesuffix("/.")
    inside = [folder for folder in train.values() if len(folder.with_images) > 1]
    if inside:
        return UserError(f"{where} holds no class folders of its own, but {shown(inside[0], source)} does",
                         f"did you mean {shown(inside[0], source)}?")
    parent = found.splits["train"].parent or base
    loose, in_class = len(parent.images), sum(folder.image_count for folder in train.values())
    if loose and loose >= in_class:  # one folder among many loose images is hardly a class
        return UserError(f"{shown(parent, source)} holds {counted(loose + in_class)} and no class folders",
                         "put the images of each class into a folder with the class's name; to classify the images: "
                         f"alexnet predict RUN {shown(parent, source)}")
    if not base.image_count:
        require_supported(base, source)
    holds = f"one class, {next(iter(train))!r}" if train else "no class folders with images"
    holds += f", {counted(loose)} beside it" * bool(loose)
    if base.unsupported:
        formats = " and ".join(sorted(known.name for known in base.unsupported))
        holds += f", {counted(base.unsupported.total())} that cannot be decoded here ({formats})"
    return UserError(f"{where} holds {holds}, and a classifier needs two or more", "give each class its own folder")


# --- What else the folder holds ---------------------------------------------------------------------------------------


def _loose_images(found: FoundSplits) -> list[Ignored]:
    return [Ignored(split.path, "images beside the class folders", len(split.parent.images))
            for split in found.splits.values() if split.parent and split.parent.images]


def _nested_notes(found: FoundSplits) -> list[str]:
    """A note that names the folders inside class folders: these could be thumbnails, or the classes.

    A single folder that holds all images of a class takes nothing in, such as images/.
    """
    nested = [folder for split in found.splits.values() for folder in split.classes.values()
              if len(folder.with_images) > 1 or (folder.images and folder.with_images)]
    if not nested:
        return []
    names = some([f"{folder.path}/ ({listed(folder.with_images, 3)})" for folder in nested], 3)
    return [f"the images in the folders inside a class folder are images of this class: {names}"]


FEW_VALIDATION = 30
"""Images. With so few, the error is known to plus or minus 18 points (95%, at an error of 50%)."""


def _few_validation_images(images: Mapping[str, ImagesByClass], folders: Mapping[str, str]) -> list[str]:
    """A note on a validation set that is much smaller than the test set, as the 16 images of the chest X-rays' val/."""
    count = {split: _count(by_class) for split, by_class in images.items()}
    if "test" not in count or not count["val"] < min(FEW_VALIDATION, count["test"] / 4):
        return []
    return [f"{folders['val']} has {counted(count['val'])} only, on which training chooses the best epoch, and "
            f"{folders['test']} has {count['test']:,}: measure on these with evaluate --split test, or move some of "
            f"{folders['train']} to {folders['val']}"]


def _count(images: ImagesByClass) -> int:
    return sum(map(len, images.values()))
