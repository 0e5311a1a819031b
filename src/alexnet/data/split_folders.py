"""Find the training, validation and test folder among the folders of images, however deep they are nested.

What is ambiguous raises a UserError that names the folders and the remedy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from alexnet.data.dataset import Ignored
from alexnet.data.image_tree import ImageFolder, counted
from alexnet.data.split_names import Kind, is_neutral, is_only_a_split, split_kinds
from alexnet.errors import UserError, require, some

ClassFolders = Mapping[str, ImageFolder]
"""For each class folder's name, the folder; folders without images too."""


_SPLITS: tuple[Kind, ...] = ("train", "val", "test")

_ONLY_TEST = "as there is no other: training chooses the best epoch on it"


@dataclass(frozen=True)
class SplitFolder:
    """Where the images of a split are."""

    path: str
    """Relative to the tree, with a slash at the end: `train/`, `./`, or `*/train/` within each class folder."""
    classes: ClassFolders
    parent: ImageFolder | None = None
    """The folder that holds the class folders; None if the splits are within the class folders."""


@dataclass(frozen=True)
class FoundSplits:
    """The splits of a tree."""

    base: ImageFolder
    """The folder that holds the splits, or the classes if there are no splits."""
    splits: Mapping[str, SplitFolder]
    """`train`, and `val` and `test` if there are such folders."""
    ignored: tuple[Ignored, ...] = ()
    """What stands beside the folders of the splits."""
    notes: tuple[str, ...] = ()


def find_splits(root: ImageFolder, source: str) -> FoundSplits:
    """Find the folders of the splits in a tree.

    Args:
        root: the tree's images.
        source: the tree as the user knows it, for messages.

    Raises:
        UserError: it is not clear which folders are splits and which are classes.
    """
    base = _enter_wrappers(root)
    kinds = split_kinds(base.folders)
    named = [folder for folder in base.with_images if folder.name in kinds]
    no_class = [folder for folder in base.with_images
                if kinds.get(folder.name, "train") != "train" or is_only_a_split(folder.name)]
    others = [folder for folder in base.with_images if folder not in (*named, *no_class)]
    training = [folder for folder in named if kinds[folder.name] == "train"]
    structured = [folder for folder in training if find_class_parent(folder)]
    if structured:
        require(len(structured) == 1, f"{shown(base, source)} has several training folders: {listed(structured)}",
                "merge them, or move all but one away")
        return _with_splits(base, structured[0], kinds, source)
    if base.with_images and not others:
        raise _no_training_classes(base, named or no_class, training, source)
    if inside := next((set_of for folder in others for set_of in data_sets_within(folder, 2) if named), None):
        raise UserError(f"{shown(base, source)} holds {listed(named)} beside {listed(others)}, and "
                        f"{shown(inside, source)} is a data set of its own with {listed(inside.with_images)}",
                        f"did you mean {shown(inside, source)}?")
    if no_class:
        raise UserError(
            f"{shown(base, source)} holds {listed(no_class)} beside {listed(others)}, so it is not clear whether "
            f"{no_class[0].name}/ is a class", "if it is one, rename it; if it is not, move it away, or sort the "
            "others into a folder train/")
    if by_class := _splits_within_classes(base, source):
        return by_class
    notes = [f"{folder.name}/ has no folders in it, so it is taken as a class and not as the training folder"
             for folder in training]
    return FoundSplits(base, {"train": _split_folder(base)}, notes=tuple(notes))


def shown(folder: ImageFolder, source: str) -> str:
    """The folder as the user knows it."""
    return f"{source}/{folder.path}" if folder.path else source


def listed(folders: Collection[ImageFolder], limit: int = 5) -> str:
    """The names of folders: `cat/, dog/ and 3 more`."""
    return some([f"{folder.name}/" for folder in folders], limit)


def find_class_parent(folder: ImageFolder, known: Collection[str] = ()) -> ImageFolder | None:
    """The folder whose folders are the classes of a split, at or below the split's folder; None if there is none.

    Goes through folders that only repeat the name or say nothing: seg_train/seg_train/, train/images/.

    Args:
        folder: of the split.
        known: names of classes, which are not gone through.
    """
    while folder.with_images:
        only = folder.with_images[0]
        if len(folder.with_images) > 1 or folder.images or only.name in known:
            return folder
        if only.with_images and not only.images:
            folder = only
        elif is_neutral(only.name) or only.name == folder.name:
            return None
        else:
            return folder
    return None


def holds_splits(folder: ImageFolder) -> bool:
    """Whether there are a training folder with classes and another split's folder directly inside."""
    kinds = split_kinds(folder.folders)
    named = [below for below in folder.with_images if below.name in kinds]
    return len({kinds[below.name] for below in named}) > 1 and any(
        kinds[below.name] == "train" and find_class_parent(below) for below in named)


def data_sets_within(folder: ImageFolder, levels: int) -> Iterator[ImageFolder]:
    """The folder, or folders below, that have a training folder with classes and another split."""
    if holds_splits(folder):
        yield folder
    elif levels:
        for below in folder.with_images:
            yield from data_sets_within(below, levels - 1)


def _enter_wrappers(root: ImageFolder) -> ImageFolder:
    """The first folder with more than one folder of images, or with images, or with a split's folder."""
    folder = root
    while len(folder.with_images) == 1 and not folder.images:
        only = folder.with_images[0]
        if only.images or not only.with_images or (split_kinds(folder.folders) and not holds_splits(only)):
            break
        folder = only
    return folder


def _split_folder(parent: ImageFolder) -> SplitFolder:
    """A split whose class folders are directly in `parent`."""
    return SplitFolder(_relative(parent), parent.folders, parent)


def _relative(folder: ImageFolder) -> str:
    return f"{folder.path}/" if folder.path else "./"


def _no_training_classes(
    base: ImageFolder, named: list[ImageFolder], training: list[ImageFolder], source: str,
) -> UserError:
    """The error for folders of splits without classes to train on."""
    if training:
        folder = training[0]
        return UserError(f"{shown(folder, source)} holds {counted(folder.image_count)} and no class folders",
                         "put the images of each class into a folder with the class's name")
    where = shown(named[0], source)
    return UserError(f"{shown(base, source)} has {listed(named)} but no train/",
                     f"name the training folder train, or name {where} to use it alone")


# --- A training folder and its siblings -------------------------------------------------------------------------------


def _with_splits(base: ImageFolder, train: ImageFolder, kinds: Mapping[str, Kind], source: str) -> FoundSplits:
    """The splits of a folder that has a training folder with classes."""
    siblings = [folder for folder in base.with_images if folder is not train]
    other_splits = [folder for folder in siblings if kinds.get(folder.name, "train") != "train"]
    strangers = [folder for folder in siblings if folder not in other_splits]
    if strangers and not other_splits:
        raise UserError(f"{shown(train, source)} looks like a training folder, and {listed(strangers)} with images "
                        f"stand beside it", f"if {train.name}/ is a class, rename it; if it is not, move the others "
                        f"away, or name {shown(train, source)} alone")
    ignored = [Ignored(_relative(folder), f"beside {train.name}/ and no split", folder.image_count)
               for folder in strangers]
    ignored += _beside_splits(base, kinds, source)
    parents: dict[Kind, ImageFolder] = {"train": find_class_parent(train) or train}
    for folder in other_splits:
        kind, parent = kinds[folder.name], find_class_parent(folder, parents["train"].folders)
        if kind == "val" and not parent:
            raise _without_classes(folder, train, source)
        if kind == "unlabeled" or not parent:
            ignored.append(Ignored(_relative(folder), "no class folders, so no labels", folder.image_count))
        elif other := parents.get(kind):
            raise UserError(f"{shown(base, source)} has several {kind} folders: {other.path}/ and {folder.path}/",
                            "merge them, or move all but one away")
        else:
            parents[kind] = parent
    notes: tuple[str, ...] = ()
    if "test" in parents and "val" not in parents:
        parents["val"] = parents.pop("test")
        notes = (f"{_relative(parents['val'])} is the validation set, {_ONLY_TEST}",)
    splits: dict[str, SplitFolder] = {split: _split_folder(parents[split]) for split in _SPLITS if split in parents}
    return FoundSplits(base, splits, tuple(ignored), notes)


def _beside_splits(base: ImageFolder, kinds: Mapping[str, Kind], source: str) -> list[Ignored]:
    """Images and empty folders beside the folders of the splits. Raises UserError for a split without a single image
    that can be decoded."""
    empty = [folder for folder in base.folders.values() if not folder.image_count]
    for folder in empty:
        if folder.name in kinds:
            require_supported(folder, source)
            require(not folder.other_files or kinds[folder.name] == "unlabeled",
                    f"{shown(folder, source)} holds no image, but {file_types(folder)}",
                    "give its images the extension of their format, such as .jpg, or move the folder away")
    loose = [Ignored(_relative(base), "images beside the class folders", len(base.images))] if base.images else []
    return loose + [Ignored(_relative(folder), "no images", 0) for folder in empty]


def require_supported(folder: ImageFolder, source: str) -> None:
    """Raise UserError if the folder, which has no images, has some in formats that cannot be decoded."""
    if folder.unsupported:
        names = " and ".join(sorted(known.name for known in folder.unsupported))
        remedies = ", or ".join(sorted({known.remedy for known in folder.unsupported}))
        raise UserError(f"{shown(folder, source)} has no image that can be decoded here, but "
                        f"{counted(folder.unsupported.total())} of the format {names}",
                        f"{remedies}, or move the folder away")


def file_types(folder: ImageFolder) -> str:
    """The files of a folder without images: `12 files (.npy)`."""
    types = some([kind for kind, _ in folder.other_files.most_common()], 3)
    return f"{folder.other_files.total():,} file{'s' * (folder.other_files.total() != 1)} ({types})"


def _without_classes(folder: ImageFolder, train: ImageFolder, source: str) -> UserError:
    where = shown(train, source)
    return UserError(f"{shown(folder, source)} has no class folders with images",
                     f"sort its images into folders named as those in {where}, or move it away to hold out a part of "
                     f"{where}")


# --- Class folders that hold the splits: cat/train/, cat/test/ --------------------------------------------------------


def _splits_within_classes(base: ImageFolder, source: str) -> FoundSplits | None:
    """The splits of class folders that each hold folders of splits; None if no class folder does.

    Raises UserError if only some do, or if the folders are data sets of their own.
    """
    kinds = {folder.name: split_kinds(folder.folders) for folder in base.with_images}
    holding = [folder for folder in base.with_images if len({kinds[folder.name].get(below.name, "unlabeled")
                                                            for below in folder.with_images} - {"unlabeled"}) > 1]
    if not holding or len(base.with_images) < 2:
        return None
    if inside := next(filter(holds_splits, holding), None):
        raise UserError(f"{shown(inside, source)} is a data set of its own: it holds {listed(inside.with_images)}",
                        f"did you mean {shown(inside, source)}?")
    for folder in base.with_images:
        strangers = [below for below in folder.with_images if below.name not in kinds[folder.name]]
        outside = listed(strangers) or "images"
        own_splits = listed([below for below in holding[0].with_images if below.name in kinds[holding[0].name]])
        require(not folder.images and not strangers,
                f"{shown(holding[0], source)} holds {own_splits}, and "
                + (f"{shown(folder, source)} holds {outside} instead" if folder not in holding
                   else f"{outside} beside them" if folder is holding[0]
                   else f"{shown(folder, source)} holds {outside} beside them"),
                "give every class folder the same split folders, or sort the images into train/CLASS/ and val/CLASS/")
    found: dict[Kind, dict[str, ImageFolder]] = {}
    for folder in base.with_images:
        for below in folder.with_images:
            kind = kinds[folder.name][below.name]
            require(folder.name not in found.setdefault(kind, {}),
                    f"{shown(folder, source)} has several {kind} folders: {listed(folder.with_images)}", "merge them")
            found[kind][folder.name] = below
    require("train" in found, f"{shown(holding[0], source)} holds {listed(holding[0].with_images)} and no train/",
            "name the training folders train")
    notes = [f"the splits are inside the class folders, such as {holding[0].with_images[0].path}/"]
    if "test" in found and "val" not in found:
        found["val"] = found.pop("test")
        notes.append(f"the test folders are the validation set, {_ONLY_TEST}")
    ignored = _beside_splits(base, {}, source) + [Ignored(_relative(below), "no labels", below.image_count)
                                                  for below in found.pop("unlabeled", {}).values()]
    prefix = _relative(base).removeprefix("./")
    splits: dict[str, SplitFolder] = {
        split: SplitFolder(f"{prefix}*/{split}/", found[split]) for split in _SPLITS if split in found}
    return FoundSplits(base, splits, tuple(ignored), tuple(notes))
