"""Images that ship inside scikit-image, cut into a task: which image is this patch from?

A checkerboard is laid over each image. Training patches lie within its black tiles and test patches within the
white ones, so that no pixel is in both. It is texture recognition, a stand-in for images of the user's own.
"""

from __future__ import annotations

import importlib.util
import random
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet.data import images
from alexnet.data.dataset import ArrayImage, Dataset


@dataclass(frozen=True)
class Credit:
    """One image and its terms, as scikit-image's documentation states them."""

    file: str
    title: str
    credit: str
    terms: str


IMAGES = (
    Credit("astronaut.png", "astronaut", "NASA Great Images", "public domain"),
    Credit("brick.png", "brick wall", "CC0Textures, Bricks25", "CC0"),
    Credit("camera.png", "photographer", "Lav Varshney", "CC0"),
    Credit("chelsea.png", "Chelsea the cat", "Stefan van der Walt", "CC0"),
    Credit("clock_motion.png", "clock in motion", "Stefan van der Walt", "public domain"),
    Credit("coffee.png", "cup of coffee", "Rachel Michetti, Pikolo Espresso Bar", "CC0"),
    Credit("coins.png", "Greek coins", "Brooklyn Museum Collection", "no known copyright restrictions"),
    Credit("grass.png", "grass", "linolafett", "CC0"),
    Credit("gravel.png", "gravel", "CC0Textures, Gravel04", "CC0"),
    Credit("hubble_deep_field.jpg", "Hubble deep field", "NASA, HubbleSite", "public domain"),
    Credit("ihc.png", "stained tissue", "Center for Microscopy and Molecular Imaging",
           "no known copyright restrictions"),
    Credit("retina.jpg", "retina", "Mikael Häggström", "CC0"),
    Credit("rocket.jpg", "rocket launch", "SpaceX", "public domain"),
    Credit("text.png", "printed text", "Wikipedia, Corner.png", "public domain"),
)

SIDE = 64
"""Pixels of a patch."""
LEAST_CONTRAST = 16
"""Gray levels between a patch's darkest and brightest value."""
TILE = 96
"""Pixels of a checkerboard's tile, about: as many as fit go into an image, so that patches have room to move."""


def open_embedded(train: int = 240, test: int = 60, seed: int = 0) -> Dataset:
    """`train` and `test` patches of each image, drawn from `seed`.

    Raises ValueError where scikit-image is not installed.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError('the embedded images come with scikit-image: pip install "alexnet[demo]"')
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    splits: dict[str, list[ArrayImage]] = {"train": [], "val": []}
    for label, sample in enumerate(IMAGES):
        pixels_HWC = images.read(folder / sample.file)
        for split, color, count in (("train", 0, train), ("val", 1, test)):
            rng = random.Random(f"{seed}/{sample.title}/{split}")  # the same on any machine and NumPy
            splits[split] += [ArrayImage(f"{split}/{sample.title}/{number:04}", label, patch)
                              for number, patch in enumerate(_patches(pixels_HWC, color, count, rng))]
    credit = "; ".join(f"{each.title}: {each.credit} ({each.terms})" for each in IMAGES)
    return Dataset("embedded", tuple(each.title for each in IMAGES), splits,
                   "images that ship inside scikit-image, cut into patches", credits=credit)


def _patches(
    pixels_HWC: NDArray[np.uint8], color: int, count: int, rng: random.Random,
) -> list[NDArray[np.uint8]]:
    """Patches within the checkerboard's tiles of one color, each from another place. They may overlap.

    What is all of one gray, such as the black corners around the retina, is no texture, and is passed over.
    """
    height, width, _ = pixels_HWC.shape
    places = [(y, x) for top, bottom, left, right in checkerboard(height, width, color)
              for y in range(top, bottom - SIDE + 1) for x in range(left, right - SIDE + 1)]
    drawn = (pixels_HWC[y : y + SIDE, x : x + SIDE] for y, x in rng.sample(places, len(places)))
    return list(islice((patch for patch in drawn if np.ptp(patch) >= LEAST_CONTRAST), count))


def checkerboard(height: int, width: int, color: int) -> list[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of the tiles of a color, 0 black or 1 white; every tile has room for a patch."""
    rows, columns = (
        np.linspace(0, side, 1 + max(2, min(round(side / TILE), side // SIDE))).astype(int) for side in (height, width))
    return [(int(top), int(bottom), int(left), int(right))
            for row, (top, bottom) in enumerate(pairwise(rows))
            for column, (left, right) in enumerate(pairwise(columns)) if (row + column) % 2 == color]
