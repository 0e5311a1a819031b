"""Separate the images in a list of files from everything else: system files, other file types, runs, packed folders.

`gather_images` gives the folders with their images, and names what it leaves out. layout.py finds the classes in
them; `list_image_files` lists them for prediction, so that both read the same files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from alexnet.data.dataset import NO_EXTENSION, SYSTEM_FILE, Ignored
from alexnet.data.image_formats import ImageFormat, supported_extensions, unsupported_extensions
from alexnet.data.manifest import JOURNAL, MANIFEST, MEAN
from alexnet.data.tree import FileTree, Folder, FolderTree, is_junk_file, is_junk_folder, nest
from alexnet.errors import plural, require, some

_OWN_FILES = (({"checkpoint.json"}, "checkpoint of alexnet"), ({"log.jsonl"}, "run of alexnet"),
              ({MANIFEST, MEAN}, "packed data set"), ({JOURNAL}, "unfinished packed data set"))
"""Names of files that alexnet writes, and what a folder with all of them is."""

_OWN_FIGURE = re.compile(r"(figure\d|(top-patches|neighbors|attribute)(-.+)?|learning_curves|architecture|kernels|"
                         r"predictions|mistakes|nearest|confusion|class_errors)\.(png|svg|pdf)")
"""Names of the files that alexnet writes into figures/."""


HERE = "./"
"""The root of a tree, as a path in `Ignored`."""


@dataclass(slots=True)
class ImageFolder:
    """A folder, with the images in it and nothing else."""

    path: str
    """Relative to the root of the tree; "" for the root itself."""
    images: list[str] = field(default_factory=list)
    """Directly inside, as paths relative to the root of the tree, sorted."""
    folders: dict[str, ImageFolder] = field(default_factory=dict)
    """By name, in sorted order; those without images too."""
    image_count: int = 0
    """At any depth."""
    unsupported: Counter[ImageFormat] = field(default_factory=Counter)
    """The image formats that cannot be decoded here, with the number of such files, at any depth."""
    other_files: Counter[str] = field(default_factory=Counter)
    """The types of the files that are neither images nor hidden, such as `.npy`, with their number, at any depth."""

    @property
    def name(self) -> str:
        """Last part of the path; "" for the root."""
        return self.path.rpartition("/")[2]

    @property
    def with_images(self) -> list[ImageFolder]:
        """The folders directly inside that hold an image at any depth."""
        return [folder for folder in self.folders.values() if folder.image_count]

    def all_images(self) -> Iterator[str]:
        """The images at any depth: those directly inside first, then those of each folder."""
        yield from self.images
        for folder in self.folders.values():
            yield from folder.all_images()


def gather_images(tree: FileTree, used: Collection[str] = ()) -> tuple[ImageFolder, list[Ignored]]:
    """The images of the tree, and what is not an image of it. Every file of the tree is in one of the two.

    Args:
        used: files that are no images and yet used, such as a table of labels. They are in neither.
    """
    rest = _Rest(used)
    root = _gather(nest(tree), rest)
    return root, [*(Ignored(path, reason, 0) for path, reason in sorted(tree.skipped.items())), *rest.ignored()]


class _Rest:
    """What is not an image: whole folders, and the number of files of each type."""

    def __init__(self, used: Collection[str]) -> None:
        self._used = used
        self.folders: list[Ignored] = []
        self._types: Counter[str] = Counter()
        self._places: dict[str, str] = {}
        self._first: dict[str, str] = {}

    def add_file(self, file: str, what: str) -> None:
        """Count a file of a type. If a type occurs in several places, only their common first folder is kept."""
        if file in self._used:
            return
        place = f"{file.partition('/')[0]}/" if "/" in file else HERE
        self._places[what] = place if self._places.setdefault(what, place) == place else HERE
        self._types[what] += 1
        self._first.setdefault(what, file)

    def ignored(self) -> list[Ignored]:
        return [*self.folders, *(Ignored(self._first[what] if count == 1 else self._places[what], what, count)
                                 for what, count in self._types.items())]


def _gather(folder: Folder, rest: _Rest) -> ImageFolder:
    """The images in a folder. All else goes into `rest`."""
    gathered = ImageFolder(folder.path)
    for file in folder.files:
        if is_image(file):
            gathered.images.append(file)
            continue
        extension = file_extension(file)
        if is_junk_file(file.rpartition("/")[2]):
            rest.add_file(file, SYSTEM_FILE)
        elif known := unsupported_extensions().get(extension):
            gathered.unsupported[known] += 1
            rest.add_file(file, f"{known.name}, which cannot be decoded")
        else:
            gathered.other_files[extension or NO_EXTENSION] += 1
            rest.add_file(file, extension or NO_EXTENSION)
    for name, below in folder.folders.items():
        if reason := _reason_to_leave_out(below):
            rest.folders.append(Ignored(f"{below.path}/", reason, sum(1 for _ in below.all_files())))
            continue
        inner = gathered.folders[name] = _gather(below, rest)
        gathered.image_count += inner.image_count
        gathered.unsupported += inner.unsupported
        gathered.other_files += inner.other_files
    gathered.image_count += len(gathered.images)
    return gathered


def _reason_to_leave_out(folder: Folder) -> str | None:
    """What a folder is that holds no images of the data set; None for any other folder."""
    if is_junk_folder(folder.name):
        return "hidden or system folder"
    names = {name for file in folder.files if not is_junk_file(name := file.rpartition("/")[2])}
    if not any(map(is_image, names)):
        return next((what for files, what in _OWN_FILES if files <= names), None)
    if folder.name == "figures" and all(map(_OWN_FIGURE.fullmatch, names)):
        return "figures that alexnet drew"
    return None


@dataclass(frozen=True)
class ImageFiles:
    """The image files that a user's paths mean."""

    paths: tuple[Path, ...]
    notes: tuple[str, ...]
    """What was left out of the folders, a sentence for each folder."""


def list_image_files(paths: Iterable[str | Path]) -> ImageFiles:
    """List the image files that paths mean: a folder stands for the images in it, at any depth, sorted.

    Raises:
        UserError: a path does not exist, or a folder has no images.
    """
    found: list[Path] = []
    notes = []
    for path in map(Path, paths):
        require(path.exists(), f"{path} does not exist", "name an image, or a folder of images")
        if not path.is_dir():
            found.append(path)
            continue
        root, ignored = gather_images(FolderTree(path))
        left_out = f"ignored in {path}: {some(map(str, ignored), 10)}" if ignored else ""
        require(root.image_count > 0, f"{path} holds no images{f' ({left_out})' if left_out else ''}",
                "name an image, or a folder of images")
        found += [path / image for image in sorted(root.all_images())]
        notes += [left_out] * bool(left_out)
    return ImageFiles(tuple(found), tuple(notes))


def counted(count: int) -> str:
    """`1 image`, `1,200 images`."""
    return plural(count, "image")


def is_image(file: str) -> bool:
    """Whether a file counts as an image by its name."""
    name = file.rpartition("/")[2]  # called a million times: most files are images, and the rest may take longer
    stem, _, extension = name.rpartition(".")
    return bool(stem) and name[0] != "." and f".{extension.lower()}" in supported_extensions()


def file_extension(file: str) -> str:
    """In lower case, with the dot; "" if there is none."""
    stem, dot, extension = file.rpartition("/")[2].rpartition(".")
    return f"{dot}{extension.lower()}" if stem else ""
