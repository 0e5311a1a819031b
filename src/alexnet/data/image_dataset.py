"""`alexnet.ImageDataset`: images as a PyTorch Dataset, for a DataLoader and a training loop of your own.

It reads packed folders. Other data is packed once into the user's cache, as for `alexnet.train`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, SupportsIndex

import torch
from torch import Tensor
from torch.utils.data import Dataset

from alexnet._runtime.arguments import data_name, optional_text, whole_number
from alexnet._runtime.notes import say, silent
from alexnet.data.open import image_notes, open_or_pack
from alexnet.data.packed import PackedSplit, is_packed, open_packed
from alexnet.data.packing import choose_side
from alexnet.data.sources.detect import open_dataset
from alexnet.data.url_images import is_url
from alexnet.errors import require


class ImageDataset(Dataset[tuple[Any, int]]):
    """The images of one split: `dataset[i]` is the pixels, uint8 [3, side, side], RGB on 0..255, and the class number.

    The pixels are those that the package itself trains on, before random crops and subtraction of the mean. The object
    can be pickled, and each worker of a DataLoader opens the files for itself.

    Attributes:
        packed: The packed data set, with `mean_HWC`, `rgb_mean`, `notes` and others.
        classes: Names of the classes. A class number is an index into them.
        transform: What `dataset[i]` applies to the pixels.
    """

    def __init__(
        self, data: str | PathLike[str], split: str = "train", *, side: int | None = None,
        transform: Callable[[Tensor], Any] | None = None, labels: str | PathLike[str] | None = None,
        group: str | PathLike[str] | None = None, progress: bool = True,
    ) -> None:
        """Open a split, and pack data that is not packed yet.

        Args:
            data: A folder or archive of images, a packed folder, or `cifar10`, `cifar100` or `embedded`.
            split: `train`, `val` or another split of the data. Without a validation split, a tenth of each class is
                held out as `val`, the same images as for `alexnet.train`.
            side: Side of the images in pixels. Default: that of a packed folder; of other data 256, or the images' own
                side if that is 128 or less.
            transform: A function of one image's pixels, such as a transform of torchvision. Default: none.
            labels, group: As for `alexnet.train`. With another `group` than a run had, `val` has other images.
            progress: Print notes and a progress bar on standard error.

        Raises:
            UserError: The data does not exist, is not understood, has no such split, or is packed with another side.
        """
        data, split = data_name(data), optional_text("split", split) or ""
        labels, group = optional_text("labels", labels), optional_text("group", group)
        require(bool(split), "split is empty", "give train, val or another split of the data")
        require(transform is None or callable(transform), f"the transform {str(transform)[:100]!r} cannot be called",
                "give a function that takes one image's pixels, uint8 [3, side, side]")
        require(not is_url(data), f"{data} is a URL, and ImageDataset needs random access to the images",
                "copy the packed folder to this machine, or train with alexnet.train, which streams it")
        if side is None:
            path = Path(data)
            side = open_packed(path).side if is_packed(path) else choose_side(
                open_dataset(data, labels=labels, group=group))
        side = whole_number("side", side)
        note = say if progress else silent
        self.packed = open_or_pack(data, side, say=note, progress=progress, labels=labels, splits=(split,),
                                   group=group)
        for line in image_notes(self.packed):
            note(f"note: {line}")
        self.split, self.classes, self.transform = split, self.packed.classes, transform
        self._length = len(self._images)

    @cached_property
    def _images(self) -> PackedSplit:
        return self.packed.split(self.split)

    def __getstate__(self) -> dict[str, Any]:
        """All but the open files, and what is read from them."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_images", "targets")}

    @cached_property
    def targets(self) -> Tensor:
        """The class numbers of all images, a copy: int64 [N]."""
        return torch.tensor(self._images.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each image in its source: [N]."""
        return self._images.names

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: SupportsIndex) -> tuple[Any, int]:
        """One image and its class number. Raises BadImage, naming the image, if its pixels are damaged."""
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"there is no image {number}: {self.split} has {len(self):,}")
        number %= len(self)
        pixels_CHW = torch.from_numpy(self._images.read_one(number)).permute(2, 0, 1).contiguous()
        return (pixels_CHW if self.transform is None else self.transform(pixels_CHW)), int(self._images.labels[number])

    def __repr__(self) -> str:
        return (f"ImageDataset({str(self.packed.source)!r}, {self.split!r}, side={self.packed.side}, "
                f"images={len(self)}, classes={len(self.classes)})")
