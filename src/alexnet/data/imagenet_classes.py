"""ImageNet's (ILSVRC-2012's) 1,000 class names: WordNet IDs in the order of every trained network, and readable names.

The IDs are sorted, so class 0 is n01440764, tench. The names are WordNet 3.0's first words. Folders of ImageNet images
are named by the IDs, the classes of networks by the names; this table converts between them.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from alexnet.data.dataset import distinct

_LINES = Path(__file__).with_name("imagenet_classes.txt").read_text().splitlines()

WNIDS: tuple[str, ...] = tuple(line[:9] for line in _LINES)

CLASSES: tuple[str, ...] = distinct([line[10:] for line in _LINES], WNIDS)
"""The same classes by name. The two cranes and the two maillots have their IDs appended."""

NAMES: dict[str, str] = dict(zip(WNIDS, CLASSES, strict=True))


def readable(name: str) -> str:
    """The readable name of a class that is given by its WordNet ID; any other name unchanged."""
    return NAMES.get(name, name)


def comparable(name: str) -> str:
    """The form in which class names are compared: readable, and accents as one character (Unicode NFC).

    macOS stores the names of folders with accents as characters of their own (NFD).
    """
    return unicodedata.normalize("NFC", readable(name))
