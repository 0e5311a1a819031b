"""Perceptual hash (pHash): 128 bits that say what an image looks like, and that survive saving it again.

The bits are the signs of the 128 lowest frequencies of the image's discrete cosine transform (DCT), without the mean.
They are computed from the packed square, so any two packs of an image have nearly the same hash. A mirrored image has
the same coefficients with the sign of every odd horizontal frequency changed: its hash is the hash XOR a constant.

Two images are near duplicates if their hashes, or one of them mirrored, differ in at most DISTANCE bits. Measured on
Imagenette packed at 64, 224 and 256 pixels (13,394 images, 89.7 million pairs), with 600 images saved again:

  what was done to the copy                                           median  largest   within 15 bits
  JPEG of quality 50; half the size; 1.5 times the size; gray         0       8         100%
  packed at 64, 128 or 256 pixels as JPEG of quality 90               0       5         100%
  JPEG of quality 20; a quarter of the size; mirrored                 1       9         100%
  mirrored, half the size and JPEG of quality 20                      2       15        100%
  JPEG of quality 10; 1% cut off every edge                           2, 5    17, 18    99.8%
  1.2 times as bright, clipped                                        3       22        99.8%
  2% cut off every edge; 5%                                           10, 28  25, 51    90%; 2%

The closest pair of Imagenette differs in 20 bits, mirrored ones included; 10 of its pairs in 24 or less, all of one
class. The number of pairs falls by a third or more with each bit. So within 15 bits less than one false pair is
expected among the pairs of a class of Imagenette's size, and a few among the 64 billion pairs of ImageNet's training
and validation images, of which 0.1% are of one class. Rotated copies and cut-outs are not recognized.

Small or plain images are more alike. At 32 pixels, 2.2% of CIFAR-10's test images have a near duplicate among the
training images, in accord with the 3.3% that Barz and Denzler found by eye (arXiv 1902.00423); of 300 handwritten
digits, 1.7% have one among 1,500 others, and more among the 60,000 of MNIST. An image of one color has no hash.

Shapes: N images, S pixels per side of a square.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

BITS = 128

DISTANCE = 15
"""Largest number of bits in which the hashes of two near duplicates differ."""

BLANK = 2.0
"""An image whose low frequencies have a smaller standard deviation, in gray levels, shows nothing to compare."""

_FREQUENCIES = 13
"""Rows and columns of the DCT that hold the 128 lowest frequencies."""

_LOWEST = sorted(((row, column) for row in range(_FREQUENCIES) for column in range(_FREQUENCIES)),
                 key=lambda place: (place[0] ** 2 + place[1] ** 2, place))[1 : BITS + 1]
"""Vertical and horizontal frequency, by their distance from the mean."""

# Every eighth frequency is in the same 16 bits, so that each band of near_duplicates.py has low and high ones.
_ROWS, _COLUMNS = np.array([_LOWEST[number] for band in range(8) for number in range(band, BITS, 8)]).T

_MIRROR = np.packbits(_COLUMNS % 2 == 1).view(np.uint64)
"""[2]: the bits that change if the image is mirrored."""

_AMPLITUDE = 127
_LUMA = np.array([77, 150, 29], np.float64)
"""256 times the luma of ITU-R BT.601, 0.299, 0.587 and 0.114."""

_EXACT_SIDE = 512
"""Up to this side all sums of float32 products stay below 2**24, so they are exact on every machine."""


def perceptual_hash(square_SSC: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The hash of a square image, RGB, uint8 [S, S, 3]: uint64 [2]; zeros for an image of one color.

    All sums are exact integers, so the hash is the same on every machine. It takes 0.1 ms for 256 pixels.
    """
    side = len(square_SSC)
    rows_of_band = side // 32 if side % 32 == 0 else 1  # 32 sums of rows suffice for 13 frequencies, and are faster
    sums = np.add.reduce(square_SSC.reshape(side // rows_of_band, rows_of_band, side * 3), axis=1, dtype=np.uint16)
    precision = np.float32 if side <= _EXACT_SIDE else np.float64
    vertical = _cosines(side // rows_of_band).astype(precision) @ sums.astype(precision)
    gray = vertical.reshape(_FREQUENCIES, side, 3).astype(np.float64) @ _LUMA
    lowest = (gray @ _cosines(side).T)[_ROWS, _COLUMNS]
    deviation = np.sqrt(lowest @ lowest) * 2 / (side * side * _AMPLITUDE**2 * 256)
    return np.packbits(lowest > 0).view(np.uint64) if deviation >= BLANK else np.zeros(2, np.uint64)


@cache
def _cosines(samples: int) -> NDArray[np.float64]:
    """Basis of the DCT-II, its 13 lowest frequencies in whole numbers: [13, samples]."""
    frequency, sample = np.mgrid[:_FREQUENCIES, :samples]
    return np.rint(_AMPLITUDE * np.cos(np.pi * frequency * (2 * sample + 1) / (2 * samples)))


def mirrored(hashes_N2: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The hashes of the mirrored images: uint64 [N, 2] -> [N, 2]. The arrays are not blank."""
    return hashes_N2 ^ _MIRROR


def is_blank(hashes_N2: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which images have no hash: [N]."""
    return (hashes_N2 == 0).all(1)


def distinct_perceptual_hashes(*hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The hashes of all arrays [N, 2], sorted, each once, without those of blank images: [M, 2]."""
    all_N2 = np.concatenate([np.empty((0, 2), np.uint64), *hashes])
    all_N2 = all_N2[np.lexsort((all_N2[:, 1], all_N2[:, 0]))]
    is_new = np.append(True, (all_N2[1:] != all_N2[:-1]).any(1))[: len(all_N2)]
    return all_N2[is_new & ~is_blank(all_N2)]
