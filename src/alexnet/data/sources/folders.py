"""Class folders -> a data set: one folder for each class, in train/ and val/ or alone; class names from folder names.

layout.py finds the splits, classes and images. Folders that are named by WordNet IDs get readable class names, from a
words file beside them or from imagenet_classes.py.
"""

from __future__ import annotations

import re

from alexnet.data.dataset import Dataset, distinct
from alexnet.data.imagenet_classes import NAMES
from alexnet.data.layout import Layout, is_image, read_layout
from alexnet.data.tree import FileTree, FolderTree, is_junk_folder
from alexnet.errors import UserError

WNID = re.compile(r"n\d{8}")

_WORDS_FILES = ("LOC_synset_mapping.txt", "synset_words.txt")
"""Files of lines such as `n01440764 tench, Tinca tinca`, in the root or above it."""


def open_folders(tree: FileTree, held_out: float = 0.1, seed: int = 0) -> Dataset:
    """The images in the tree, as `layout.read_layout` understands it."""
    try:
        layout = read_layout(tree, held_out, seed)
    except UserError:
        _require_not_one_class(tree)
        raise
    labels = {name: label for label, name in enumerate(layout.class_folders)}
    splits = {split: [tree.image(name, labels[class_folder])
                      for class_folder, names in images.items() for name in names]
              for split, images in layout.splits.items()}
    wnids = layout.class_folders if all(map(WNID.fullmatch, layout.class_folders)) else None
    return Dataset(tree.name, _class_names(layout, tree, wnids), splits, tree.source, wnids, layout.notes,
                   held_out=layout.held_out)


def _require_not_one_class(tree: FileTree) -> None:
    """Raise UserError if the folder is one class among others: its images lie beside folders of images."""
    if isinstance(tree, FolderTree) and any(is_image(file) and "/" not in file for file in tree.files):
        above = tree.root.resolve().parent
        beside = [entry for entry in above.iterdir() if entry.is_dir() and not is_junk_folder(entry.name)]
        if sum(any(is_image(file.name) for file in entry.iterdir()) for entry in beside) >= 2:
            raise UserError(f"{tree.root} is one class among several in {above}", f"did you mean {above}?")


def _class_names(layout: Layout, tree: FileTree, wnids: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of the class folders; readable names if these are WordNet IDs."""
    if wnids is None:
        return layout.class_folders
    words = {**NAMES, **_read_words(tree)}
    return distinct([words.get(wnid, wnid) for wnid in wnids], wnids)


def _read_words(tree: FileTree) -> dict[str, str]:
    """Readable names of WordNet IDs, from a words file in the root or above it; empty if there is none."""
    texts = [tree.read(name) for name in _WORDS_FILES if name in tree.files]
    if not texts and isinstance(tree, FolderTree):
        texts = [(tree.root.parent / name).read_bytes() for name in _WORDS_FILES if (tree.root.parent / name).is_file()]
    if not texts:
        return {}
    lines = [line.split(maxsplit=1) for line in texts[0].decode("utf-8").splitlines()]
    return {line[0]: line[1].split(",")[0] for line in lines if len(line) == 2 and WNID.fullmatch(line[0])}
