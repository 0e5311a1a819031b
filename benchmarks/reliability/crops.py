"""Any number of images, cropped from those of a data set when they are needed: a large data set without its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from alexnet.data.dataset import ArrayImage, Dataset
from alexnet.data.order import evenly_spaced
from alexnet.data.sources.detect import open_dataset
from alexnet.data.square import square

TRAINING, VALIDATION, CLASSES = 1_281_167, 50_000, 1_000
"""ImageNet's (ILSVRC-2012)."""

SIDE, LARGE, MOST_LARGE = 64, 128, 2_000
"""Pixels of a crop, and of the images that it is cut from; how many of these are held in memory (100 MB)."""


class Crops(Sequence[ArrayImage]):
    """Crops of larger images, made when they are asked for.

    Args:
        split: its name.
        large: uint8 [n, LARGE, LARGE, 3], the images that are cropped.
        numbers: of the crops. No two splits share one.
        classes: number of classes; they take turns.
    """

    def __init__(self, split: str, large: NDArray[np.uint8], numbers: range, classes: int) -> None:
        self.split, self.large, self.numbers, self.classes = split, large, numbers, classes

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> ArrayImage: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ArrayImage]: ...
    def __getitem__(self, index: int | slice) -> ArrayImage | Sequence[ArrayImage]:
        if isinstance(index, slice):
            return Crops(self.split, self.large, self.numbers[index], self.classes)
        number = self.numbers[index]
        name = f"{self.split}/{number % self.classes:04}/{number:07}"
        return NumberedCrop(name, number % self.classes, self.large[number % len(self.large)], number)


@dataclass(frozen=True, slots=True, eq=False)
class NumberedCrop(ArrayImage):
    """A crop, mirrored or not, with its number in its first pixel; `pixels_HWC` is the image that it is cut from."""

    number: int

    def content(self) -> NDArray[np.uint8]:
        places = LARGE - SIDE + 1
        place = self.number * 7919 % (2 * places * places)  # neighbors in number are apart in the image
        row, column = place // 2 // places, place // 2 % places
        crop_HWC = self.pixels_HWC[row : row + SIDE, column : column + SIDE, :].copy()
        if place % 2:
            crop_HWC = np.ascontiguousarray(crop_HWC[:, ::-1])
        crop_HWC[0, 0] = list(self.number.to_bytes(3, "big"))
        return crop_HWC

    def pixels(self) -> NDArray[np.uint8]:
        return self.content()

    def stamp(self) -> str:
        return str(self.number)


def large_images(data: str) -> NDArray[np.uint8]:
    """At most MOST_LARGE images of a data set, evenly spaced, as squares: uint8 [n, LARGE, LARGE, 3]."""
    source = open_dataset(data).splits["train"]
    return np.stack([square(source[index].pixels(), LARGE)
                     for index in evenly_spaced(len(source), MOST_LARGE).tolist()])


def crops(folder: Path, count: int) -> Dataset:
    """The data set of `count` training images, and as many validation images as ImageNet has to so many."""
    large, classes, validation = np.load(folder / "large.npy"), *sizes(count)
    numbers = {"train": range(count), "val": range(count, count + validation)}
    return Dataset("crops", tuple(f"class {label}" for label in range(classes)), {
        split: Crops(split, large, of_split, classes) for split, of_split in numbers.items()}, "crops in memory")


def sizes(count: int) -> tuple[int, int]:
    """Classes and validation images to so many training images: ImageNet's, or fewer."""
    classes = min(CLASSES, max(2, count // 8))
    return classes, max(classes, count * VALIDATION // TRAINING)
