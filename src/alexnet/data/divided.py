"""`DividedDataset`: a packed data set that trains on some of its images, with the mean and colors of these alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime import native
from alexnet.data.packed import PackedDataset

CHUNK = 64
"""Images that are read at a time for the mean and the covariance."""


@dataclass(frozen=True)
class DividedDataset(PackedDataset):
    """A packed folder whose images are divided anew. Subclasses say how, by overriding `split`."""

    @cached_property
    def _statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Mean of every pixel, and covariance of the colors, over the training images of this division alone."""
        train = self.split("train")
        sum_HWC, products_CC = np.zeros((self.side, self.side, 3)), np.zeros((3, 3))
        for begin in range(0, len(train), CHUNK):
            pixels_NHWC = train.read(np.arange(begin, min(begin + CHUNK, len(train))))
            sum_HWC += pixels_NHWC.sum(0, dtype=np.float64)
            products_CC += native.color_products(pixels_NHWC)
        pixels_count = len(train) * self.side**2
        mean_C = sum_HWC.sum((0, 1)) / pixels_count
        return (sum_HWC / len(train)).astype(np.float32), products_CC / pixels_count - np.outer(mean_C, mean_C)

    @property
    def mean_HWC(self) -> NDArray[np.float32]:
        """The training set's mean of every pixel, [side, side, 3], RGB on 0..255."""
        return self._statistics[0]

    @property
    def rgb_mean(self) -> NDArray[np.float64]:
        """The training set's mean color, [3] on 0..255."""
        return self._statistics[0].mean((0, 1), dtype=np.float64)

    @property
    def rgb_covariance(self) -> NDArray[np.float64]:
        """Covariance of red, green and blue over all training pixels, [3, 3] on 0..255."""
        return self._statistics[1]
