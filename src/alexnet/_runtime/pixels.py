"""A batch of uint8 images for the kernels, in a tensor or still in a memory map, behind one interface (`Pixels`).

torch is imported when it is needed: packing reads and writes shards without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Pixels(Protocol):
    """A batch of square RGB images, uint8 [B, side, side, 3], wherever they are."""

    @property
    def side(self) -> int:
        """Of each image, in pixels."""

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice) -> Pixels: ...

    def tensor(self) -> Tensor:
        """The images in a tensor; those in a memory map are copied out of it."""

    def contiguous(self) -> Pixels:
        """The same images, each without gaps in memory."""

    def addresses(self) -> NDArray[np.uintp]:
        """[B], the address of each image's first byte. On a CPU and contiguous only, and valid while `self` exists."""


@dataclass(frozen=True)
class TensorPixels:
    """Images in a tensor, on any device."""

    pixels_NHWC: Tensor

    @property
    def side(self) -> int:
        return self.pixels_NHWC.shape[1]

    @property
    def device(self) -> torch.device:
        return self.pixels_NHWC.device

    @property
    def dtype(self) -> torch.dtype:
        return self.pixels_NHWC.dtype

    def __len__(self) -> int:
        return len(self.pixels_NHWC)

    def __getitem__(self, part: slice) -> TensorPixels:
        return TensorPixels(self.pixels_NHWC[part])

    def tensor(self) -> Tensor:
        return self.pixels_NHWC

    def contiguous(self) -> TensorPixels:
        return TensorPixels(self.pixels_NHWC.contiguous())

    def addresses(self) -> NDArray[np.uintp]:
        image_bytes = np.uintp(self.pixels_NHWC[0].numel() if len(self) else 0)
        return np.uintp(self.pixels_NHWC.data_ptr()) + np.arange(len(self), dtype=np.uintp) * image_bytes


AnyPixels: TypeAlias = "Tensor | Pixels"
"""What functions take that callers may give a plain tensor uint8 [B, side, side, 3]; `as_pixels` wraps it."""


class ImageStore(Protocol):
    """The owner of a memory map of images, such as `data.packed.PackedSplit`."""

    side: int
    """Of each image, in pixels."""

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Copy the images with these indices: int64 [B] -> uint8 [B, side, side, 3]."""


@dataclass(frozen=True)
class MmapBatch:
    """Images that have not been copied out of the memory map: the native kernels read them there."""

    image_addresses: NDArray[np.uintp]
    """[B], the address of each image's first byte."""
    indices: NDArray[np.int64]
    """[B], of the images in the store."""
    store: ImageStore
    """Keeps the memory map open as long as the batch is used."""

    @property
    def side(self) -> int:
        return self.store.side

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        import torch

        return torch.uint8

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, part: slice) -> MmapBatch:
        return MmapBatch(self.image_addresses[part], self.indices[part], self.store)

    def tensor(self) -> Tensor:
        import torch

        return torch.from_numpy(self.store.read(self.indices))

    def contiguous(self) -> MmapBatch:
        return self

    def addresses(self) -> NDArray[np.uintp]:
        return self.image_addresses


def as_pixels(pixels: AnyPixels) -> Pixels:
    """The batch behind the interface; a tensor uint8 [B, side, side, 3] is wrapped."""
    import torch

    return TensorPixels(pixels) if isinstance(pixels, torch.Tensor) else pixels
