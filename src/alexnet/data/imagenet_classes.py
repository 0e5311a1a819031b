"""ImageNet's (ILSVRC-2012's) 1,000 classes: WordNet IDs in the order of every trained network, readable names, numbers.

The IDs are sorted, so class 0 is n01440764, tench. The names are WordNet 3.0's first words. Folders of ImageNet images
are named by the IDs, the classes of networks by the names; this table converts between them. The file of the validation
images' labels has the organizers' own numbers, 1 to 1,000 in the order of the devkit's meta.mat.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from alexnet.data.dataset import distinct

_LINES = Path(__file__).with_name("imagenet_classes.txt").read_text().splitlines()

WNIDS: tuple[str, ...] = tuple(line[:9] for line in _LINES)

WNID_OF_ILSVRC_ID: dict[int, str] = {int(line[10:14]): line[:9] for line in _LINES}
"""ILSVRC2012_ID of the devkit -> WordNet ID."""

CLASSES: tuple[str, ...] = distinct([line[15:] for line in _LINES], WNIDS)
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
