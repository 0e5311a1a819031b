"""Content hashes: an image is identified by the bytes of its file, never by its path, its date or its position.

A hash is XXH3 with 64 bits (xxhash.com), which reads a file of 110 KB in 2 microseconds. It is no cryptographic hash: a
collision can be made on purpose, but an attacker gains nothing by one here. Among ImageNet's 1.3 million images, two
different ones have the same hash by chance with a probability of 5e-8.
"""

from __future__ import annotations

import numpy as np
import xxhash
from numpy.typing import NDArray

from alexnet.data import images
from alexnet.data.remarks import Kind

Content = bytes | memoryview | NDArray[np.uint8]
"""An encoded image, as its file holds it; or pixels, uint8 [height, width, 3], if it exists as an array only."""


def content_hash(content: Content) -> int:
    """A hash of the bytes of a file, or of an array's pixels in row-major order: 0 to 2**64 - 1."""
    data = np.ascontiguousarray(content).data if isinstance(content, np.ndarray) else content
    return xxhash.xxh3_64_intdigest(data)


def decode_content(content: Content, name: str, remarks: set[Kind] | None = None) -> NDArray[np.uint8]:
    """The pixels: uint8 [height, width, 3], RGB. Raises BadImage naming the image if it cannot be decoded.

    What a user should know of the image is added to `remarks`.
    """
    if isinstance(content, np.ndarray):
        return np.ascontiguousarray(content)
    return images.decode(content, name, remarks=remarks)


def distinct_hashes(*hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The hashes, sorted, each once. `numpy.unique` takes 40 times as long for those of ImageNet."""
    sorted_M = np.concatenate([np.empty(0, np.uint64), *hashes])
    if (sorted_M[1:] < sorted_M[:-1]).any():  # those of a file are sorted already
        sorted_M.sort()
    return sorted_M[np.append(True, sorted_M[1:] != sorted_M[:-1])[: len(sorted_M)]]


def contained(hashes_N: NDArray[np.uint64], sorted_M: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of the hashes are in `sorted_M`, as `distinct_hashes` gives it: [N]."""
    places_N = np.searchsorted(sorted_M, hashes_N)
    return np.append(sorted_M, np.uint64(0))[places_N] == hashes_N if len(sorted_M) else np.zeros(len(hashes_N), bool)
