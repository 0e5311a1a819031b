"""Near duplicates: a perceptual hash (pHash) of each image, and groups of images that look the same.

Two images are near duplicates if their 64-bit hashes differ in at most DISTANCE bits, and their gray thumbnails
correlate by at least CORRELATION. Measured on Imagenette (13,394 images, 89.7 million pairs): no pair is accepted that
shows two different scenes. Of 400 copies each, those accepted: saved again as JPEG of quality 20, at half the size, at
1.5 times the size, or without color 100%; 1.2 times as bright 99%; with 2% cut off every edge 86%, with 5% 15%.
A mirrored or rotated copy is not recognized.

Shapes: N images.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from alexnet.data import images

DISTANCE = 6
"""Largest number of bits in which the hashes of two near duplicates differ. With 8, 16 and 64 images of Imagenette in
place of 9 have a partner with another scene before the thumbnails are compared."""

CORRELATION = 0.9
"""Least correlation of the gray thumbnails. The largest of two different scenes of Imagenette within 8 bits is 0.88."""

BLANK = 2.0
"""An image whose gray levels have a smaller standard deviation shows nothing that could be compared."""

GRAY_SIDE = 16
"""Side of the thumbnails, in pixels."""

WINDOW = 4_096
"""Images with which each image is compared in a band. In a band, ImageNet has 2,500 on average."""

THUMBNAIL_PAIRS = 100
"""Pairs of thumbnails that are compared at most, for each image: a second for 10,000 images."""

_PAIRS = 65_536
"""Pairs of thumbnails that are compared at a time: 134 MB."""

_SIDE = 32
_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)
"""Luma of ITU-R BT.601."""


def _dct_matrix() -> NDArray[np.float32]:
    """The orthonormal DCT-II of 32 samples, its 9 lowest frequencies: [9, 32]."""
    frequency, sample = np.mgrid[:9, :_SIDE]
    matrix = np.cos(np.pi * frequency * (2 * sample + 1) / (2 * _SIDE)) * np.sqrt(2 / _SIDE)
    matrix[0] *= np.sqrt(0.5)
    return matrix.astype(np.float32)


_DCT = _dct_matrix()

_LOWEST = sorted(((row, column) for row in range(9) for column in range(9)),
                 key=lambda place: (place[0] ** 2 + place[1] ** 2, place))[1:65]
"""The 64 lowest frequencies except the mean, by their distance from it."""

_ROWS, _COLUMNS = np.array(_LOWEST).T
_BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)


def perceptual_hash(pixels_HWC: NDArray[np.uint8]) -> tuple[int, NDArray[np.uint8]]:
    """Hash what an image looks like: 64 bits, and its gray thumbnail, uint8 [16, 16].

    The central square is scaled to 32 x 32 gray pixels; a bit says whether a coefficient of its cosine transform
    exceeds the median of the 64 lowest. The hash of an image of one color is 0, which is no hash.
    """
    gray_HW = images.square(pixels_HWC, _SIDE).astype(np.float32) @ _WEIGHTS
    thumbnail = gray_HW.reshape(GRAY_SIDE, 2, GRAY_SIDE, 2).mean((1, 3)).round().astype(np.uint8)
    if gray_HW.std() < BLANK:
        return 0, thumbnail
    coefficients = (_DCT @ gray_HW @ _DCT.T)[_ROWS, _COLUMNS]
    return int(_BITS[coefficients > np.median(coefficients)].sum()), thumbnail


def near_duplicate_groups(
    hashes_N: NDArray[np.uint64], grays_N: NDArray[np.uint8],
) -> tuple[NDArray[np.int64], bool]:
    """Group near duplicates: images that are connected by pairs.

    Hashes that differ in at most DISTANCE bits are equal in one of DISTANCE + 1 bands of bits. So images are sorted by
    each band in turn, and compared with those that have the same band: for 100,000 images about 70 million comparisons
    instead of 5 billion. WINDOW and THUMBNAIL_PAIRS bound the work where most
    images look alike.

    Args:
        hashes_N: hashes; images with hash 0 are not compared.
        grays_N: thumbnails, uint8 [N, 16, 16].

    Returns:
        For each image the lowest index in its group, int64 [N]; and whether no comparison was left out.
    """
    parents_N, complete, compared = np.arange(len(hashes_N)), True, 0
    hashed = np.flatnonzero(hashes_N)
    for first, width in _bands():
        # With the band rotated to the top, one sort brings equal bands together, and similar hashes within a band.
        rotated = _rotate(hashes_N[hashed], (first + width) % 64)
        order = np.argsort(rotated, kind="stable")
        bands, sorted_rows = rotated[order] >> np.uint64(64 - width), hashed[order]
        candidates = np.arange(len(hashed))
        for offset in range(1, WINDOW + 1):
            candidates = candidates[candidates + offset < len(hashed)]
            candidates = candidates[bands[candidates] == bands[candidates + offset]]
            if not len(candidates):
                break
            if compared > THUMBNAIL_PAIRS * len(hashed):
                complete = False
                break
            compared += _join(
                parents_N, sorted_rows[candidates], sorted_rows[candidates + offset], hashes_N, grays_N)
        else:
            complete = False
    return _roots(parents_N, np.arange(len(hashes_N))), complete


def _bands() -> list[tuple[int, int]]:
    """Lowest bit and width of each band; together they have all 64 bits."""
    bounds = np.arange(DISTANCE + 2) * 64 // (DISTANCE + 1)
    return [(int(low), int(high - low)) for low, high in pairwise(bounds)]


def _rotate(hashes: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    """Rotate to the right."""
    return hashes if bits == 0 else (hashes >> np.uint64(bits)) | (hashes << np.uint64(64 - bits))


def _join(
    parents_N: NDArray[np.int64], ones: NDArray[np.int64], others: NDArray[np.int64], hashes_N: NDArray[np.uint64],
    grays_N: NDArray[np.uint8],
) -> int:
    """Connect each pair (ones[i], others[i]) that are near duplicates, in the forest `parents_N` (union-find).

    Returns:
        The number of pairs whose thumbnails were compared.
    """
    close = np.bitwise_count(hashes_N[ones] ^ hashes_N[others]) <= DISTANCE
    ones, others = ones[close], others[close]
    apart = _roots(parents_N, ones) != _roots(parents_N, others)
    ones, others = ones[apart], others[apart]
    for begin in range(0, len(ones), _PAIRS):
        pairs = ones[begin : begin + _PAIRS], others[begin : begin + _PAIRS]
        alike = _correlation(grays_N[pairs[0]], grays_N[pairs[1]]) >= CORRELATION
        for one, other in np.stack(pairs, 1)[alike]:
            low, high = sorted(_roots(parents_N, np.array([one, other])).tolist())
            parents_N[high] = low
    return len(ones)


def _roots(parents_N: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The root of each row's tree, which becomes its parent (path compression)."""
    roots = parents_N[rows]
    while ((above := parents_N[roots]) != roots).any():
        roots = above
    parents_N[rows] = roots
    return roots


def _correlation(ones: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pearson's correlation of pairs of thumbnails: uint8 [P, 16, 16] twice -> [P]."""
    centered = []
    for grays in (ones, others):
        values = grays.reshape(len(grays), -1).astype(np.float32)
        values -= values.mean(1, keepdims=True)
        centered.append(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6))
    return (centered[0] * centered[1]).sum(1)
