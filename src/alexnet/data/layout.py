"""Understand a folder of images: training and validation folder, class folders, hold-out, files that are ignored.

`read_layout` is a function of the list of files (tree.py) and opens none. sources/folders.py makes a data set of its
result.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from alexnet.data.tree import FileTree, Folder, is_junk_file, is_junk_folder, nest
from alexnet.errors import UserError, did_you_mean, require

TRAIN = "train"
VALIDATION = ("val", "valid", "validation", "test")
"""Names of the validation folder; the first that exists is used."""

EXTENSIONS = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
"""Files that count as images. The decoder looks at their contents, so a PNG that is called .JPEG is decoded too."""

ImagesByClass = dict[str, list[str]]
"""For each class folder, in sorted order, its images as paths relative to the root."""


@dataclass(frozen=True)
class Layout:
    """What a folder of images was understood to be."""

    class_folders: tuple[str, ...]
    """Their names, sorted; a label is an index into them."""
    splits: Mapping[str, ImagesByClass]
    """`train`, and `val` if there is a validation folder or images were held out."""
    held_out: float
    """The fraction of each class that was held out as `val`; 0 if there is a validation folder."""
    notes: tuple[str, ...]
    """What was assumed or ignored, a sentence each."""


def read_layout(tree: FileTree, held_out: float = 0.1, seed: int = 0) -> Layout:
    """Find the splits, the classes and their images in a list of files.

    Classes are folders, in sorted order, matched between the splits by name. Images in folders below a class folder
    belong to that class. Hidden and system folders are ignored, and so are empty classes.

    Args:
        held_out: the fraction of each class that becomes `val` if there is no validation folder.
        seed: of the choice of these images.

    Raises:
        UserError: there are fewer than two classes (the message names the right folder if it can be guessed), or the
            validation folder has a class that the training folder does not have.
    """
    require(0 <= held_out < 1, f"held_out {held_out} must lie in 0 <= fraction < 1")
    root, notes = nest(tree), [f"{path} in {tree.source} is left out: {why}" for path, why in tree.skipped.items()]
    train, validation_folders = _split_folders(root)
    training = _images_by_class(train, tree, notes)
    if len(training) < 2:
        raise _too_few_classes(train, tree, training)
    if train is root and (stray := set(training) & set(VALIDATION)):
        raise UserError(f"{tree.source} has {sorted(stray)[0]}/ but no train/", "name the training folder train")
    if validation := _used_validation_folder(validation_folders, notes):
        splits = {"train": training, "val": _validation_images(validation, train, tree, training, notes)}
        held_out = 0.0
    elif held_out:
        splits = _hold_out(training, held_out, seed)
        notes.append(f"there is no validation folder, so {held_out:.0%} of each class was held out "
                     f"({_count(splits['val']):,} images, chosen by name and seed {seed})")
    else:
        splits = {"train": training}
    return Layout(tuple(training), splits, held_out, tuple(notes))


# --- Splits -----------------------------------------------------------------------------------------------------------


def _split_folders(root: Folder) -> tuple[Folder, list[Folder]]:
    """The folder with the training classes, and the folders that may be the validation set."""
    train, validation = root.folders.get(TRAIN), [root.folders[name] for name in VALIDATION if name in root.folders]
    # A folder `train` that holds images and no folders is a class, of trains.
    return (train, validation) if train and (validation or train.folders) else (root, [])


def _used_validation_folder(folders: list[Folder], notes: list[str]) -> Folder | None:
    """The first of the folders, unless it is a test set without labels."""
    if not folders:
        return None
    used, *others = folders
    if used.name == "test" and not used.folders:
        notes.append("test/ is not used: it has no class folders, so its images have no labels")
        return None
    notes += [f"{folder.name}/ is not used: {used.name}/ is the validation set" for folder in others]
    return used


def _validation_images(
    folder: Folder, train: Folder, tree: FileTree, training: ImagesByClass, notes: list[str],
) -> ImagesByClass:
    """The validation images. Raises UserError for a class that the training folder does not have."""
    images, name, train_name = _images_by_class(folder, tree, notes), _shown(folder, tree), _shown(train, tree)
    require(bool(images), f"{name} has no class folders with images",
            f"sort its images into folders named as those in {train_name}, or move it away to hold out a part of "
            f"{train_name}")
    unknown = [name for name in images if name not in training]
    if unknown:
        raise UserError(f"{name} has class {unknown[0]!r} and {train_name} has not "
                        f"({did_you_mean(unknown[0], training)})", "classes must have the same names in both")
    if missing := [name for name in training if name not in images]:
        notes.append(f"{len(missing)} of {len(training)} classes have no validation images, such as {missing[0]!r}")
    return images


def _hold_out(images: ImagesByClass, fraction: float, seed: int) -> dict[str, ImagesByClass]:
    """Move a fraction of each class to `val`: at least one image of a class that has two, and never all of them.

    The images are chosen by a hash of their names, so the choice does not change when other images are added.
    """
    splits: dict[str, ImagesByClass] = {"train": {}, "val": {}}
    for class_folder, names in images.items():
        count = min(len(names) - 1, max(1, round(fraction * len(names))))
        ranked = sorted(names, key=lambda name: hashlib.sha256(
            f"{seed}\0{name}".encode("utf-8", "surrogateescape")).digest())
        held = set(ranked[:count])
        splits["train"][class_folder] = [name for name in names if name not in held]
        splits["val"][class_folder] = [name for name in names if name in held]
    return splits


def _count(images: ImagesByClass) -> int:
    return sum(map(len, images.values()))


# --- Classes ----------------------------------------------------------------------------------------------------------


def _images_by_class(folder: Folder, tree: FileTree, notes: list[str]) -> ImagesByClass:
    """The images in each class folder of `folder`; empty classes are left out.

    Everything is sorted, so that labels do not depend on the order of the file system.
    """
    found: ImagesByClass = {}
    ignored: Counter[str] = Counter()
    for file in folder.files:
        ignored[_extension(file) or "no extension"] += not is_junk_file(file.rpartition("/")[2])
    for name, entry in folder.folders.items():
        if is_junk_folder(name):
            notes.append(f"{_shown(entry, tree)} is ignored: it is a hidden or system folder and not a class")
            continue
        found[name] = []
        for file in _visible_files(entry):
            if (extension := _extension(file)) in EXTENSIONS:
                found[name].append(file)
            else:
                ignored[extension or "no extension"] += 1
    where = _shown(folder, tree)
    if empty := [name for name, images in found.items() if not images]:
        notes.append(f"warning: {len(empty)} class folder{'s' * (len(empty) > 1)} in {where} without images left "
                     f"out: {', '.join(empty[:5])}")
    if ignored := +ignored:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in ignored.most_common(5))
        notes.append(f"{ignored.total():,} files in {where} are ignored: they are not images of a class ({kinds})")
    return {name: images for name, images in found.items() if images}


def _visible_files(folder: Folder) -> list[str]:
    """All files of a class, at any depth, but hidden ones and those of system folders."""
    found = [file for file in folder.files if not is_junk_file(file.rpartition("/")[2])]
    for name, below in folder.folders.items():
        if not is_junk_folder(name):
            found += _visible_files(below)
    return found


def is_image(file: str) -> bool:
    """Whether a file counts as an image by its name."""
    return _extension(file) in EXTENSIONS


def _extension(file: str) -> str:
    """In lower case, with the dot; "" if there is none."""
    stem, dot, extension = file.rpartition("/")[2].rpartition(".")
    return f"{dot}{extension.lower()}" if stem else ""


def _shown(folder: Folder, tree: FileTree) -> str:
    """The folder as the user knows it."""
    return f"{tree.source}/{folder.path}" if folder.path else tree.source


def _too_few_classes(folder: Folder, tree: FileTree, found: ImagesByClass) -> UserError:
    """The error for fewer than two classes, with the folder that was probably meant."""
    where = _shown(folder, tree)
    for below in folder.folders.values():
        if any(_count_class_folders(entry) >= 2 for entry in (below, *below.folders.values())):
            return UserError(f"{where} holds no class folders of its own, but {_shown(below, tree)} does",
                             f"did you mean {_shown(below, tree)}?")
    loose = _count_images(folder)
    if loose and not found:
        return UserError(f"{where} holds {loose:,} images and no class folders",
                         "put the images of each class into a folder with the class's name")
    holds = f"one class, {next(iter(found))!r}" if found else "no class folders with images"
    return UserError(f"{where} holds {holds}, and a classifier needs two or more", "give each class its own folder")


def _count_class_folders(folder: Folder) -> int:
    """How many of the folders in `folder` hold images."""
    return sum(not is_junk_folder(name) and _count_images(entry) > 0 for name, entry in folder.folders.items())


def _count_images(folder: Folder) -> int:
    return sum(is_image(file) for file in folder.files)
