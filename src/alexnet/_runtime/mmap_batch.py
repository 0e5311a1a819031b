"""A batch of images inside a memory map, which the native kernels read without a copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class ImageStore(Protocol):
    """The owner of the memory map: `data.packed.PackedSplit`."""

    side: int
    """Side of each stored square, in pixels."""

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Copy the images with these indices: int64 [B] -> uint8 [B, side, side, 3]."""


@dataclass(frozen=True)
class MmapBatch:
    """A batch of uint8 images [B, side, side, 3] that has not been copied out of the memory map."""

    addresses: NDArray[np.uintp]
    """[B], the address of each image's first byte."""
    indices: NDArray[np.int64]
    store: ImageStore
    """Keeps the memory map open as long as the batch is used."""

    def __len__(self) -> int:
        return len(self.addresses)

    def __getitem__(self, part: slice) -> MmapBatch:
        return MmapBatch(self.addresses[part], self.indices[part], self.store)

    def read(self) -> NDArray[np.uint8]:
        """Copy the images: uint8 [B, side, side, 3]."""
        return self.store.read(self.indices)
