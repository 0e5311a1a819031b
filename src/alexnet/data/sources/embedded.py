"""The embedded data set: patches of the package's photographs; the class of a patch is the image it was cut from.

A checkerboard is laid over each image. Training patches lie in its black tiles and test patches in the white ones, so
no pixel is in both. The task is texture recognition; it needs no download.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet.data import images
from alexnet.data.dataset import ArrayImage, Dataset


@dataclass(frozen=True)
class EmbeddedImage:
    """An image in `PHOTOGRAPHS`, and its author and license as CREDITS.md there states them."""

    file: str
    title: str
    author: str
    license: str


IMAGES = (
    EmbeddedImage("astronaut.png", "astronaut", "NASA Great Images", "public domain"),
    EmbeddedImage("brick.png", "brick wall", "CC0Textures, Bricks25", "CC0"),
    EmbeddedImage("camera.png", "photographer", "Lav Varshney", "CC0"),
    EmbeddedImage("chelsea.png", "Chelsea the cat", "Stefan van der Walt", "CC0"),
    EmbeddedImage("clock_motion.png", "clock in motion", "Stefan van der Walt", "public domain"),
    EmbeddedImage("coffee.png", "cup of coffee", "Rachel Michetti, Pikolo Espresso Bar", "CC0"),
    EmbeddedImage("coins.png", "Greek coins", "Brooklyn Museum Collection", "no known copyright restrictions"),
    EmbeddedImage("grass.png", "grass", "linolafett", "CC0"),
    EmbeddedImage("gravel.png", "gravel", "CC0Textures, Gravel04", "CC0"),
    EmbeddedImage("hubble_deep_field.jpg", "Hubble deep field", "NASA, HubbleSite", "public domain"),
    EmbeddedImage("ihc.png", "stained tissue", "Center for Microscopy and Molecular Imaging",
                  "no known copyright restrictions"),
    EmbeddedImage("retina.jpg", "retina", "Mikael Häggström", "CC0"),
    EmbeddedImage("rocket.jpg", "rocket launch", "SpaceX", "public domain"),
    EmbeddedImage("text.png", "printed text", "Wikipedia, Corner.png", "public domain"),
)

PHOTOGRAPHS = Path(__file__).parents[1] / "photographs"
"""The folder of the images. They are those of scikit-image, unchanged."""

SIDE = 64
"""Of a patch, in pixels."""
MIN_CONTRAST = 16
"""Least difference between a patch's darkest and brightest value, in gray levels."""
TILE = 96
"""Approximate side of a checkerboard's tile, in pixels: larger than a patch, so that patches have many positions."""


SOURCE = "photographs that come with the package, cut into patches"
"""What the data and their packed folders say of their source."""


def open_embedded(train: int = 240, test: int = 60, seed: int = 0) -> Dataset:
    """`train` and `test` patches of each image, drawn with `seed`."""
    splits: dict[str, list[ArrayImage]] = {"train": [], "val": []}
    for label, image in enumerate(IMAGES):
        pixels_HWC = images.read(PHOTOGRAPHS / image.file)
        for split, color, count in (("train", 0, train), ("val", 1, test)):
            rng = random.Random(f"{seed}/{image.title}/{split}")  # Python's own generator: the same on any machine
            splits[split] += [ArrayImage(f"{split}/{image.title}/{number:04}", label, patch)
                              for number, patch in enumerate(_patches(pixels_HWC, color, count, rng))]
    credits = "; ".join(f"{image.title}: {image.author} ({image.license})" for image in IMAGES)
    return Dataset("embedded", tuple(image.title for image in IMAGES), splits,
                   SOURCE, credits=credits)


def _patches(
    pixels_HWC: NDArray[np.uint8], color: int, count: int, rng: random.Random,
) -> list[NDArray[np.uint8]]:
    """Patches in the checkerboard's tiles of one color, each at another position. They may overlap.

    Patches of little contrast, such as the black corners around the retina, have no texture and are left out.
    """
    height, width, _ = pixels_HWC.shape
    positions = [(y, x) for top, bottom, left, right in checkerboard(height, width, color)
                 for y in range(top, bottom - SIDE + 1) for x in range(left, right - SIDE + 1)]
    drawn = (pixels_HWC[y : y + SIDE, x : x + SIDE] for y, x in rng.sample(positions, len(positions)))
    return list(islice((patch for patch in drawn if np.ptp(patch) >= MIN_CONTRAST), count))


def checkerboard(height: int, width: int, color: int) -> list[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of the tiles of one color, 0 black or 1 white. A patch fits into each of them."""
    rows, columns = (
        np.linspace(0, side, 1 + max(2, min(round(side / TILE), side // SIDE))).astype(int) for side in (height, width))
    return [(int(top), int(bottom), int(left), int(right))
            for row, (top, bottom) in enumerate(pairwise(rows))
            for column, (left, right) in enumerate(pairwise(columns)) if (row + column) % 2 == color]
