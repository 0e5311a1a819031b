"""Understand a folder of images: training and validation folder, class folders, hold-out, files that are ignored.

`read_layout` lists files and opens none. sources/folders.py makes a data set of its result.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

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

    root: Path
    class_folders: tuple[str, ...]
    """Their names, sorted; a label is an index into them."""
    splits: Mapping[str, ImagesByClass]
    """`train`, and `val` if there is a validation folder or images were held out."""
    held_out: float
    """The fraction of each class that was held out as `val`; 0 if there is a validation folder."""
    notes: tuple[str, ...]
    """What was assumed or ignored, a sentence each."""


def read_layout(root: Path, held_out: float = 0.1, seed: int = 0) -> Layout:
    """Find the splits, the classes and their images under `root`.

    Classes are folders, in sorted order, matched between the splits by name. Images in folders below a class folder
    belong to that class. Folders whose names begin with a dot or `__` are ignored, and so are empty classes.

    Args:
        held_out: the fraction of each class that becomes `val` if there is no validation folder.
        seed: of the choice of these images.

    Raises:
        UserError: there are fewer than two classes (the message names the right folder if it can be guessed), or the
            validation folder has a class that the training folder does not have.
    """
    require(0 <= held_out < 1, f"held_out {held_out} must lie in 0 <= fraction < 1")
    notes: list[str] = []
    train, validation_folders = _split_folders(root)
    training = _images_by_class(train, root, notes)
    if len(training) < 2:
        raise _too_few_classes(train, training)
    if train == root and (stray := set(training) & set(VALIDATION)):
        raise UserError(f"{root} has {sorted(stray)[0]}/ but no train/", "name the training folder train")
    if validation := _used_validation_folder(validation_folders, notes):
        splits = {"train": training, "val": _validation_images(validation, train, root, training, notes)}
        held_out = 0.0
    elif held_out:
        splits = _hold_out(training, held_out, seed)
        notes.append(f"there is no validation folder, so {held_out:.0%} of each class was held out "
                     f"({_count(splits['val']):,} images, chosen by name and seed {seed})")
    else:
        splits = {"train": training}
    return Layout(root, tuple(training), splits, held_out, tuple(notes))


# --- Splits -----------------------------------------------------------------------------------------------------------


def _split_folders(root: Path) -> tuple[Path, list[Path]]:
    """The folder with the training classes, and the folders that may be the validation set."""
    train, validation = root / TRAIN, [root / name for name in VALIDATION if (root / name).is_dir()]
    # A folder `train` that holds images and no folders is a class, of trains.
    has_splits = train.is_dir() and (validation or any(entry.is_dir() for entry in train.iterdir()))
    return (train, validation) if has_splits else (root, [])


def _used_validation_folder(folders: list[Path], notes: list[str]) -> Path | None:
    """The first of the folders, unless it is a test set without labels."""
    if not folders:
        return None
    used, *others = folders
    if used.name == "test" and not any(entry.is_dir() for entry in used.iterdir()):
        notes.append("test/ is not used: it has no class folders, so its images have no labels")
        return None
    notes += [f"{folder.name}/ is not used: {used.name}/ is the validation set" for folder in others]
    return used


def _validation_images(
    folder: Path, train: Path, root: Path, training: ImagesByClass, notes: list[str],
) -> ImagesByClass:
    """The validation images. Raises UserError for a class that the training folder does not have."""
    images = _images_by_class(folder, root, notes)
    require(bool(images), f"{folder} has no class folders with images",
            f"sort its images into folders named as those in {train}, or move it away to hold out a part of {train}")
    unknown = [name for name in images if name not in training]
    if unknown:
        raise UserError(f"{folder} has class {unknown[0]!r} and {train} has not ({did_you_mean(unknown[0], training)})",
                        "classes must have the same names in both")
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


def _images_by_class(folder: Path, root: Path, notes: list[str]) -> ImagesByClass:
    """The images in each class folder of `folder`; empty classes are left out.

    Everything is sorted, so that labels do not depend on the order of the file system.
    """
    found: ImagesByClass = {}
    ignored: Counter[str] = Counter()
    prefix = "" if folder == root else f"{folder.name}/"
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        if not entry.is_dir():
            ignored[entry.suffix.lower() or "no extension"] += not entry.name.startswith(".")
        elif _is_hidden(entry.name):
            notes.append(f"{entry} is ignored: a folder whose name begins with {entry.name[0]} is not a class")
        else:
            found[entry.name] = []
            for name in _files(folder, entry.name):
                extension = os.path.splitext(name)[1].lower()  # noqa: PTH122  # called a million times
                if extension in EXTENSIONS:
                    found[entry.name].append(f"{prefix}{name}")
                else:
                    ignored[extension or "no extension"] += 1
    if empty := [name for name, images in found.items() if not images]:
        notes.append(f"warning: {len(empty)} class folder{'s' * (len(empty) > 1)} in {folder} without images left "
                     f"out: {', '.join(empty[:5])}")
    if ignored := +ignored:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in ignored.most_common(5))
        notes.append(f"{ignored.total():,} files in {folder} are ignored: they are not images of a class ({kinds})")
    return {name: images for name, images in found.items() if images}


def _files(folder: Path, class_folder: str) -> Iterator[str]:
    """All files of a class but hidden ones, as paths relative to `folder`. Links are followed, a loop of them once."""
    visited = set()
    for where, folders, files in os.walk(folder / class_folder, followlinks=True):
        real = os.path.realpath(where)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        relative = Path(where).relative_to(folder).as_posix()
        yield from (f"{relative}/{name}" for name in sorted(files) if not name.startswith("."))


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__"))


def _too_few_classes(folder: Path, found: ImagesByClass) -> UserError:
    """The error for fewer than two classes, with the folder that was probably meant."""
    for below in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        if any(entry.is_dir() and _count_class_folders(entry) >= 2 for entry in (below, *below.iterdir())):
            return UserError(f"{folder} holds no class folders of its own, but {below} does", f"did you mean {below}?")
    loose = sum(entry.suffix.lower() in EXTENSIONS for entry in folder.iterdir())
    if loose and folder.parent != folder and _count_class_folders(folder.parent) >= 2:
        return UserError(f"{folder} is one class among several in {folder.parent}", f"did you mean {folder.parent}?")
    if loose and not found:
        return UserError(f"{folder} holds {loose:,} images and no class folders",
                         "put the images of each class into a folder with the class's name")
    holds = f"one class, {next(iter(found))!r}" if found else "no class folders with images"
    return UserError(f"{folder} holds {holds}, and a classifier needs two or more", "give each class its own folder")


def _count_class_folders(folder: Path) -> int:
    """How many of the folders in `folder` hold images."""
    return sum(entry.is_dir() and not _is_hidden(entry.name)
               and any(path.suffix.lower() in EXTENSIONS for path in entry.iterdir()) for entry in folder.iterdir())
