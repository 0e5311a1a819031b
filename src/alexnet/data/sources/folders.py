"""Class folders -> a data set: one folder for each class, in train/ and val/ or alone; class names from folder names.

layout.py finds the splits, classes and images. Folders that are named by WordNet IDs get readable class names, from a
words file beside them or from imagenet_classes.py.
"""

from __future__ import annotations

import re
from pathlib import Path

from alexnet.data.dataset import Dataset, FileImage, distinct
from alexnet.data.imagenet_classes import NAMES
from alexnet.data.layout import Layout, read_layout

WNID = re.compile(r"n\d{8}")

_WORDS_FILES = ("LOC_synset_mapping.txt", "synset_words.txt")
"""Files of lines such as `n01440764 tench, Tinca tinca`, in the root or above it."""


def open_folders(root: Path, held_out: float = 0.1, seed: int = 0) -> Dataset:
    """The images under `root`, as `layout.read_layout` understands it."""
    layout = read_layout(root, held_out, seed)
    labels = {name: label for label, name in enumerate(layout.class_folders)}
    splits = {split: [FileImage(name, labels[class_folder], root)
                      for class_folder, names in images.items() for name in names]
              for split, images in layout.splits.items()}
    wnids = layout.class_folders if all(map(WNID.fullmatch, layout.class_folders)) else None
    return Dataset(root.resolve().name, _class_names(layout, wnids), splits, str(root.resolve()), wnids, layout.notes,
                   held_out=layout.held_out)


def _class_names(layout: Layout, wnids: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of the class folders; readable names if these are WordNet IDs."""
    if wnids is None:
        return layout.class_folders
    words = {**NAMES, **_read_words(layout.root)}
    return distinct([words.get(wnid, wnid) for wnid in wnids], wnids)


def _read_words(root: Path) -> dict[str, str]:
    """Readable names of WordNet IDs, from a words file in the root or above it; empty if there is none."""
    for path in (folder / name for folder in (root, root.parent) for name in _WORDS_FILES):
        if path.is_file():
            lines = [line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines()]
            return {line[0]: line[1].split(",")[0] for line in lines if len(line) == 2 and WNID.fullmatch(line[0])}
    return {}
