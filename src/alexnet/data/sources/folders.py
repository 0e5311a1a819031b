"""Class folders -> a data set: `train/` and `val/` with one folder a class, or the class folders alone."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from alexnet.data.dataset import Dataset, FileImage, distinct
from alexnet.data.imagenet_classes import NAMES
from alexnet.errors import did_you_mean

VALIDATION = ("val", "valid", "validation", "test")
"""Names of the validation folder, the first that is there."""

EXTENSIONS = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
"""What counts as an image. The decoder looks at the contents, so a PNG called .JPEG is read all the same."""

WNID = re.compile(r"n\d{8}")

_WORDS = ("LOC_synset_mapping.txt", "synset_words.txt")
"""Files of lines such as `n01440764 tench, Tinca tinca`, beside or above the class folders."""


def open_folders(root: Path, held_out: float = 0.1, seed: int = 0) -> Dataset:
    """The images under `root`. held_out: share of each class for validation where there is no validation folder.

    Classes are folders, in sorted order, matched between the splits by name; images in folders within them count.
    Folders whose names begin with a dot or `__` are passed over and named in the notes, and so are empty classes.
    Raises ValueError for fewer than two classes, with a guess at the right level, and for a class that only the
    validation folder has.
    """
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out {held_out} must lie in 0 <= share < 1")
    notes: list[str] = []
    validation = [root / name for name in VALIDATION if (root / name).is_dir()]
    # A folder `train` of images and no folders is a class, of trains.
    split = (root / "train").is_dir() and (validation or any(entry.is_dir() for entry in (root / "train").iterdir()))
    train, validation = (root / "train", validation) if split else (root, [])
    found = _class_photos(train, notes)
    if len(found) < 2:
        raise ValueError(_guess_level(train, found))
    if train == root and (stray := set(found) & set(VALIDATION)):
        raise ValueError(f"{root} has {sorted(stray)[0]}/ but no train/; name the training folder train")
    labels = {name: label for label, name in enumerate(found)}
    splits = {"train": _photos(train, found, labels, root)}
    if validation and validation[0].name == "test" and not any(entry.is_dir() for entry in validation[0].iterdir()):
        notes.append("test/ is not used: it has no class folders, so nothing says what its images show")
        validation = []
    if validation:
        notes += [f"{other.name}/ is not used: {validation[0].name}/ is the validation set" for other in validation[1:]]
        measured = _class_photos(validation[0], notes)
        if not measured:
            raise ValueError(f"{validation[0]} has no class folders with images; sort its images into "
                             f"folders named as those in {train}, or move it away to hold out a share of {train}")
        strangers = [name for name in measured if name not in labels]
        if strangers:
            raise ValueError(f"{validation[0]} has class {strangers[0]!r} and {train} has not "
                             f"({did_you_mean(strangers[0], labels)}); classes must have the same names in both")
        missing = [name for name in labels if name not in measured]
        if missing:
            notes.append(f"{len(missing)} of {len(labels)} classes have no validation images, such as "
                         f"{missing[0]!r}")
        splits["val"] = _photos(validation[0], measured, labels, root)
    elif held_out:
        splits = _hold_out(splits["train"], held_out, seed)
        notes.append(f"there is no validation folder, so {held_out:.0%} of each class was held out "
                     f"({len(splits['val']):,} images, chosen by name and seed {seed})")
    names = tuple(found)
    wnids = names if all(WNID.fullmatch(name) for name in names) else None
    words = {**NAMES, **_words(root)} if wnids else {}
    classes = distinct([words.get(name, name) for name in names], names)
    return Dataset(root.resolve().name, classes, splits, str(root.resolve()), wnids, tuple(notes),
                   held_out=0.0 if validation else held_out)


def _class_photos(folder: Path, notes: list[str]) -> dict[str, list[str]]:
    """The images of each class folder, by their paths from `folder`; empty classes are left out.

    Sorted, so that labels do not depend on the disk.
    """
    found: dict[str, list[str]] = {}
    other: Counter[str] = Counter()
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        if not entry.is_dir():
            other[entry.suffix.lower() or "no ending"] += not entry.name.startswith(".")
        elif entry.name.startswith((".", "__")):
            notes.append(f"{entry} is passed over: a folder whose name begins with {entry.name[0]} is no class")
        else:
            found[entry.name] = []
            for name in _files(folder, entry.name):
                ending = os.path.splitext(name)[1].lower()  # noqa: PTH122  # a million times
                if ending in EXTENSIONS:
                    found[entry.name].append(name)
                else:
                    other[ending or "no ending"] += 1
    empty = [name for name, photos in found.items() if not photos]
    if empty:
        notes.append(f"warning: {len(empty)} class folder{'s' * (len(empty) > 1)} in {folder} without images left "
                     f"out: {', '.join(empty[:5])}")
    if other := +other:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in other.most_common(5))
        notes.append(f"{sum(other.values()):,} files in {folder} are passed over: no images of a class ({kinds})")
    return {name: photos for name, photos in found.items() if photos}


def _files(folder: Path, class_name: str) -> Iterator[str]:
    """All files of a class, links followed, hidden ones left out; a loop of links is entered once."""
    seen = set()
    for where, folders, files in os.walk(folder / class_name, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        below = Path(where).relative_to(folder).as_posix()
        yield from (f"{below}/{name}" for name in sorted(files) if not name.startswith("."))


def _photos(folder: Path, found: dict[str, list[str]], labels: dict[str, int], root: Path) -> list[FileImage]:
    split = "" if folder == root else f"{folder.name}/"
    return [FileImage(f"{split}{path}", labels[name], root) for name, paths in found.items() for path in paths]


def _hold_out(photos: Iterable[FileImage], share: float, seed: int) -> dict[str, list[FileImage]]:
    """A share of each class, chosen by a hash of the names: other classes or images do not change who is chosen.

    At least one image of a class that has two, and never all of them.
    """
    by_class: dict[int, list[FileImage]] = {}
    for photo in photos:
        by_class.setdefault(photo.label, []).append(photo)
    held: set[str] = set()
    for members in by_class.values():
        count = min(len(members) - 1, max(1, round(share * len(members))))
        ranked = sorted(members, key=lambda photo: hashlib.sha256(
            f"{seed}\0{photo.name}".encode("utf-8", "surrogateescape")).digest())
        held |= {photo.name for photo in ranked[:count]}
    global_indices = [photo for members in by_class.values() for photo in members]
    return {"train": [photo for photo in global_indices if photo.name not in held],
            "val": [photo for photo in global_indices if photo.name in held]}


def _guess_level(folder: Path, found: dict[str, list[str]]) -> str:
    """A sentence on why there are not two classes, with the folder that was probably meant."""
    def classes_in(place: Path) -> int:
        return sum(entry.is_dir() and not entry.name.startswith((".", "__")) and
                   any(path.suffix.lower() in EXTENSIONS for path in entry.iterdir()) for entry in place.iterdir())

    for below in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        splits = [entry for entry in (below, *below.iterdir()) if entry.is_dir() and classes_in(entry) >= 2]
        if splits:
            return f"{folder} holds no class folders of its own, but {below} does; did you mean {below}?"
    loose = sum(entry.suffix.lower() in EXTENSIONS for entry in folder.iterdir())
    if loose and folder.parent != folder and classes_in(folder.parent) >= 2:
        return f"{folder} is one class among several in {folder.parent}; did you mean {folder.parent}?"
    if loose and not found:
        return (f"{folder} holds {loose:,} images and no class folders; put the images of each class into a "
                "folder with the class's name")
    only = f"one class, {next(iter(found))!r}" if found else "no class folders with images"
    return f"{folder} holds {only}, and it takes two or more to tell apart; give each class a folder of its own"


def _words(root: Path) -> dict[str, str]:
    """Readable names of WordNet's numbers, from a words file beside or above the class folders."""
    for path in (place / name for place in (root, root.parent) for name in _WORDS):
        if path.is_file():
            lines = [line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines()]
            return {line[0]: line[1].split(",")[0] for line in lines if len(line) == 2 and WNID.fullmatch(line[0])}
    return {}
