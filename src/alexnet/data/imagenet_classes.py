"""ILSVRC-2012's 1,000 classes: WordNet's numbers, in the order that every trained network has, and readable names.

The numbers are those of the challenge, sorted, so that place 0 is n01440764, tench; the names are WordNet 3.0's first
words for them. Folders of ImageNet images bear the numbers, networks the names, and both find each other here.
"""

from __future__ import annotations

from pathlib import Path

from alexnet.data.dataset import distinct

_LINES = [line.split(" ", 1) for line in Path(__file__).with_name("imagenet_classes.txt").read_text().splitlines()]

WNIDS: tuple[str, ...] = tuple(wnid for wnid, _ in _LINES)

#: The same classes by name; the two cranes and the two maillots bear their numbers too.
CLASSES: tuple[str, ...] = distinct([name for _, name in _LINES], WNIDS)

NAMES: dict[str, str] = dict(zip(WNIDS, CLASSES, strict=True))


def readable(name: str) -> str:
    """The class's name where WordNet's number of one is given; anything else as it is."""
    return NAMES.get(name, name)
