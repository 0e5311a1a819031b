"""Class folders -> a data set: one folder for each class, in train/ and val/ or alone; class names from folder names.

layout.py finds the splits, classes and images. Folders that are named by WordNet IDs get readable class names, from a
words file beside them or from imagenet_classes.py.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from alexnet.data.dataset import Dataset, distinct
from alexnet.data.image_tree import is_image
from alexnet.data.imagenet_classes import NAMES
from alexnet.data.layout import Layout, describe_layout, read_layout
from alexnet.data.sources.tables import decode_text
from alexnet.data.tree import FileTree, FolderTree, is_junk_folder
from alexnet.errors import UserError

WNID = re.compile(r"n\d{8}")

_WORDS_FILES = ("LOC_synset_mapping.txt", "synset_words.txt")
"""Files of lines such as `n01440764 tench, Tinca tinca`, in the tree or above it."""


def open_folders(tree: FileTree, held_out: float = 0.1, seed: int = 0, trust_folders: bool = False) -> Dataset:
    """The images in the tree, as `layout.read_layout` understands it."""
    try:
        layout = read_layout(tree, held_out, seed, trust_folders)
    except UserError:
        require_not_one_class(tree)
        raise
    labels = {name: label for label, name in enumerate(layout.classes)}
    splits = {split: [tree.image(file, labels[name]) for name, files in images.items() for file in files]
              for split, images in layout.splits.items()}
    wnids = layout.classes if all(map(WNID.fullmatch, layout.classes)) else None
    names = _class_names(layout, tree, wnids)
    renamed = [f"a folder's name is not UTF-8, so its class is called {name} (Latin-1)"
               for name in sorted(set(names) - set(layout.classes)) if wnids is None]
    notes = (describe_layout(layout, tree.source, names), *layout.notes, *renamed)
    return Dataset(tree.name, names, splits, tree.source, wnids, notes, held_out=layout.held_out,
                   ignored=layout.ignored)


def require_not_one_class(tree: FileTree) -> None:
    """Raise UserError if the folder seems to be one class: its images lie beside folders of images.

    A folder beside it that has class folders is a data set, so what is above is none, but a collection of them.
    """
    places = {file.partition("/")[0] if "/" in file else "" for file in tree.files if is_image(file)}
    if isinstance(tree, FolderTree) and "" in places and len(places) <= 2:
        above = tree.root.resolve().parent
        beside = _entries(above)
        if sum(map(_holds_images, beside)) >= 2 and not any(map(_is_dataset, beside)):
            raise UserError(f"{tree.root} is one class among several in {above}", f"did you mean {above}?")


def _holds_images(folder: Path) -> bool:
    """Whether a folder that is no junk has images directly inside."""
    return not is_junk_folder(folder.name) and any(is_image(file.name) for file in _entries(folder))


def _is_dataset(folder: Path) -> bool:
    """Whether a folder has no images directly inside, and two or more folders that have."""
    return not _holds_images(folder) and sum(map(_holds_images, _entries(folder))) >= 2


def _entries(folder: Path) -> list[Path]:
    """What is in a folder; nothing if it is no folder or cannot be read."""
    with contextlib.suppress(OSError):
        return list(folder.iterdir())
    return []


def _class_names(layout: Layout, tree: FileTree, wnids: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of the class folders; readable names if these are WordNet IDs."""
    if wnids is None:
        return tuple(map(_as_text, layout.classes))
    words = {**NAMES, **_read_words(tree)}
    return distinct([words.get(wnid, wnid) for wnid in wnids], wnids)


def _as_text(name: str) -> str:
    """The name of a folder, which Linux lets be any bytes, as text that every file can hold."""
    with contextlib.suppress(UnicodeEncodeError):
        name.encode()
        return name
    return name.encode("utf-8", "surrogateescape").decode("latin-1")


def _read_words(tree: FileTree) -> dict[str, str]:
    """Readable names of WordNet IDs, from a words file in the tree or above it; empty if there is none."""
    inside = [file for file in tree.files if file.rpartition("/")[2] in _WORDS_FILES]
    if inside:
        text = tree.read(min(inside, key=len))
    elif isinstance(tree, FolderTree):
        above = [tree.root.parent / name for name in _WORDS_FILES if (tree.root.parent / name).is_file()]
        text = above[0].read_bytes() if above else b""
    else:
        return {}
    lines = [line.split(maxsplit=1) for line in decode_text(text)[0].splitlines()]
    return {line[0]: line[1].split(",")[0] for line in lines if len(line) == 2 and WNID.fullmatch(line[0])}
