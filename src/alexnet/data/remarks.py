"""What a user should know of images that were decoded: further pages, unused bits, bytes left over, little to see.

`images.decode` finds it image by image; a pack counts it in its manifest, and a scan for each image. Of single images
`Classifier.pixels` also finds what says little to a network. Such an image is used: it may well be right, and only the
user can tell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alexnet.data.perceptual_hash import is_blank, perceptual_hash
from alexnet.errors import Finding, such_as

Kind = Literal["further_images", "unused_bits", "leftover_bytes", "small_images", "elongated", "blank"]

ELONGATED = 3
"""An image with a longer side of more than so many shorter ones: the central square is less than a third of it. Images
of cameras, phones and screens have up to 21:9 (2.3)."""

_SENTENCES: dict[str, tuple[str, str, str, str]] = {
    "further_images": (
        "file holds", "files hold", "several images or pages, and the first one alone is used",
        "to use the others, save each as a file of its own"),
    "unused_bits": (
        "image has", "images have", "16 bits and no value above 16,383, which may be 14-bit data that was not scaled "
        "and is shown at least 4 times too dark", "if so, scale the values, or save them with 8 bits"),
    "leftover_bytes": (
        "JPEG has", "JPEGs have", "data left after the last pixel, which can mean a damaged file",
        "look at these images, and replace those of which a part is shifted or has wrong colors"),
    "small_images": (
        "image is", "images are", "smaller than the square that the network's input is cut from, and enlarged, so that "
        "the prediction may mean little", "use a larger version"),
    "elongated": (
        "image has", "images have", f"one side more than {ELONGATED} times as long as the other, and the network sees "
        "the central square alone", "cut out the part that matters"),
    "blank": (
        "image shows", "images show", "the network one color and nothing else (transparent parts become white), so "
        "that the prediction means nothing", "leave it out, or save it without transparency"),
}
"""For each kind: the beginning of the sentence for one image and for several, the problem, and the remedy."""


@dataclass(frozen=True)
class Remark:
    """The images of which one thing should be known."""

    kind: str
    """A `Kind`."""
    images: int
    example: str
    """The name of the first one."""


def add_remarks(known: Iterable[Remark], found: Iterable[tuple[str, Collection[str]]]) -> tuple[Remark, ...]:
    """The remarks with those of more images, given as pairs of the image's name and its kinds of remarks."""
    merged = {remark.kind: remark for remark in known}
    for name, kinds in found:
        for kind in sorted(kinds):
            remark = merged.get(kind, Remark(kind, 0, name))
            merged[kind] = Remark(kind, remark.images + 1, remark.example)
    return tuple(merged[kind] for kind in _SENTENCES if kind in merged)


def remark_findings(by_split: Mapping[str, Iterable[Remark]]) -> list[Finding]:
    """A finding for each kind of remark, over all splits."""
    found = []
    for kind, (one, several, problem, remedy) in _SENTENCES.items():
        remarks = [remark for split in by_split.values() for remark in split if remark.kind == kind]
        if remarks:
            count = sum(remark.images for remark in remarks)
            found.append(Finding(kind, "", f"{count:,} {one if count == 1 else several} {problem}"
                                           f"{such_as(count, remarks[0].example)}", remedy))
    return found


def view_remarks(size: Sequence[int], stored_HWC: NDArray[np.uint8]) -> set[Kind]:
    """Why a network can hardly classify an image, as `check` finds it in a data set, and whether it sees little of it.

    Args:
        size: height and width of the image.
        stored_HWC: the square that it becomes (square.py), uint8 [side, side, 3].
    """
    shorter, longer = sorted(size)
    tests: dict[Kind, bool] = {
        "small_images": shorter < len(stored_HWC), "elongated": longer > ELONGATED * shorter,
        "blank": bool(is_blank(perceptual_hash(stored_HWC)[None])[0])}
    return {kind for kind, holds in tests.items() if holds}
