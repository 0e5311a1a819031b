"""Perceptual hash (pHash): 128 bits that say what an image looks like, and that survive saving it again.

The lowest frequencies of the image's discrete cosine transform (DCT), without the mean, are weighted so that those of
photographs are about equal. Each bit is the sign of their product with a random vector, so the bits of two images
differ as the angle between them does, whether their content is in many frequencies or in few (Charikar 2002). One half
of the bits has the even horizontal frequencies and the other half the odd ones: mirroring the image inverts these.

Two images are near duplicates if their hashes, or one of them mirrored, differ in at most DISTANCE bits. Measured on
Imagenette packed at 64, 224 and 256 pixels (13,394 images, 89.7 million pairs), with 600 images saved again:

  what was done to the copy                                             median  largest  within 13 bits
  JPEG of quality 20 or 50; 1/4, 1/2 or 3/2 of the size; gray; mirrored 1       8        100%
  packed at 64, 128 or 256 pixels as JPEG of quality 90                 1       5        100%
  mirrored, half the size and JPEG of quality 20; JPEG of quality 10    2       16       99.8%
  1.2 times as bright, clipped                                          3       17       99%
  1% cut off every edge                                                 5       20       99%
  2% cut off every edge                                                 10      32       77%
  5% cut off every edge                                                 28      62       2%

No pair of Imagenette is within 13 bits; the closest, two golf balls, differ in 14, and the number of pairs grows by
half with each bit. ImageNet has 700 times as many pairs of a training and a validation image, but 100 times fewer of
one class, so a few of its 50,000 validation images are expected to look like a training image without being one.
Rotated copies and cut-outs are not recognized.

0.9% of CIFAR-10's test images have a near duplicate among the training images; Barz and Denzler found 3.3% by eye,
with weaker likenesses (arXiv 1902.00423). Images with little in them are alike by nature: 32% of handwritten digits
have a near duplicate among 1,500 other digits, and a larger share among MNIST's 70,000
(`near_duplicates.share_of_near_duplicates` tells such data from others). A copy of a plain image with smooth shades may
not be recognized, since JPEG changes more of its content. An image of one color has no hash.

Shapes: N images, S pixels per side of a square.
"""

from __future__ import annotations

import random
from functools import cache

import numpy as np
from numpy.typing import NDArray

from alexnet.data.square import square

BITS = 128

DISTANCE = 13
"""Largest number of bits in which the hashes of two near duplicates differ."""

BLANK = 2.0
"""An image whose low frequencies have a smaller standard deviation, in gray levels, shows nothing to compare."""

_FREQUENCIES = 13
"""Rows and columns of the DCT that hold `_LOWEST`."""

_BY_RADIUS = sorted(((row, column) for row in range(_FREQUENCIES) for column in range(_FREQUENCIES)),
                    key=lambda place: (place[0] ** 2 + place[1] ** 2, place))[1:]
_LOWEST = np.array([[place for place in _BY_RADIUS if place[1] % 2 == parity][:64] for parity in (0, 1)])
"""[2, 64, 2]: vertical and horizontal frequency of 64 even and 64 odd horizontal ones."""
_ROWS, _COLUMNS = _LOWEST[..., 0], _LOWEST[..., 1]

_BANDS = 32
"""Bands of rows, whose sums suffice for 13 frequencies."""

_LARGEST = 8_192
"""Up to this side the sum of the pixels in a band's column fits into 16 bits."""

_AMPLITUDE = 127
_LUMA = np.array([77, 150, 29], np.float64)
"""256 times the luma of ITU-R BT.601, 0.299, 0.587 and 0.114."""

_ROUNDED = 2**20
"""Coefficients are rounded to multiples of this, less than 0.01 gray levels, so that their products are exact."""


def perceptual_hash(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The hash of an image's central square, RGB, uint8 [H, W, 3]: uint64 [2]; zeros for an image of one color.

    All sums are whole numbers below 2**53, which float64 holds, so the hash is the same on every machine. It takes 0.1
    ms for 256 pixels.
    """
    height, width, _ = pixels_HWC.shape
    if height != width or height % _BANDS or height > _LARGEST:
        pixels_HWC = square(pixels_HWC, 2 * _BANDS)
    side = len(pixels_HWC)
    sums = np.add.reduce(pixels_HWC.reshape(_BANDS, side // _BANDS, side * 3), axis=1, dtype=np.uint16)
    gray = sums.reshape(_BANDS, side, 3) @ _LUMA
    lowest = (_cosines(_BANDS) @ gray @ _cosines(side).T)[_ROWS, _COLUMNS]
    if np.sqrt((lowest**2).sum()) * 2 / (side * side * _AMPLITUDE**2 * 256) < BLANK:
        return np.zeros(2, np.uint64)
    products = (_projections() @ np.rint(lowest / _ROUNDED)[:, :, None])[:, :, 0]
    return np.packbits(products > 0).view(np.uint64)


@cache
def _cosines(samples: int) -> NDArray[np.float64]:
    """Basis of the DCT-II, its 13 lowest frequencies in whole numbers: [13, samples]."""
    frequency, sample = np.mgrid[:_FREQUENCIES, :samples]
    return np.rint(_AMPLITUDE * np.cos(np.pi * frequency * (2 * sample + 1) / (2 * samples)))


@cache
def _projections() -> NDArray[np.float64]:
    """For each bit the weights of its 64 coefficients, whole numbers: [2, 64, 64].

    Amplitudes in photographs fall with the frequency, so the weights grow with it. `random.random` has the same
    sequence in every version of Python.
    """
    generator = random.Random(2012)
    weights = np.array([generator.random() - 0.5 for _ in range(2 * 64 * 64)]).reshape(2, 64, 64)
    return np.rint(1000 * weights * np.hypot(_ROWS, _COLUMNS)[:, None, :])


def mirrored(hashes_N2: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The hashes of the mirrored images, none of which is blank: uint64 [N, 2] -> [N, 2]."""
    return hashes_N2 ^ np.array([0, 2**64 - 1], np.uint64)


def is_blank(hashes_N2: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which images have no hash: [N]."""
    return (hashes_N2 == 0).all(1)


def distinct_perceptual_hashes(*hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The hashes of all arrays [N, 2], sorted, each once, without those of blank images: [M, 2]."""
    all_N2 = np.concatenate([np.empty((0, 2), np.uint64), *hashes])
    first_N, second_N = all_N2.T
    in_order = (first_N[:-1] < first_N[1:]) | ((first_N[:-1] == first_N[1:]) & (second_N[:-1] <= second_N[1:]))
    if not in_order.all():  # those of a file are sorted already, and sorting takes 100 times as long as the comparison
        all_N2 = all_N2[np.lexsort((second_N, first_N))]
    is_new = np.append(True, (all_N2[1:] != all_N2[:-1]).any(1))[: len(all_N2)]
    return all_N2[is_new & ~is_blank(all_N2)]
