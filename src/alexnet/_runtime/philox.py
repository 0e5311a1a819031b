"""Philox4x32-10, a counter-based random number generator: the same numbers here, in the C kernel and in Triton.

A counter of four words and a key of two give four words, with no state: any process draws its own part of a stream.
J. K. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (2011), section 3.3. Shapes: N images, D units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_ROUNDS, _WORD, _BITS = 10, np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(counter: tuple[NDArray[np.uint64], ...], key: tuple[int, int]) -> tuple[NDArray[np.uint64], ...]:
    """Four random words of 32 bits for each counter.

    Args:
        counter: four arrays that broadcast, each below 2**32.
        key: two words of 32 bits.
    """
    c0, c1, c2, c3 = counter
    for number in range(_ROUNDS):
        k0, k1 = (np.uint64((word + number * step) & 0xFFFFFFFF) for word, step in zip(key, _KEY_STEPS, strict=True))
        product0, product1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = ((product1 >> _BITS) ^ c1 ^ k0, product1 & _WORD,
                          (product0 >> _BITS) ^ c3 ^ k1, product0 & _WORD)
    return c0, c1, c2, c3


@dataclass(frozen=True)
class Draw:
    """What a dropout layer draws by in one step, beside image and unit."""

    p: float
    """Probability of dropping a unit."""
    seed: int
    """Of the run, below 2**64."""
    step: int
    """Of the run."""
    layer: int
    """Number of the dropout layer in its network."""

    @property
    def words(self) -> tuple[int, int, int]:
        """Philox's key of 64 bits, and the third and the fourth word of its counter."""
        return (self.step & 0xFFFFFFFF) << 32 | self.seed & 0xFFFFFFFF, self.layer, self.seed >> 32 & 0xFFFFFFFF

    @classmethod
    def from_counter(cls, p: float, counter: Sequence[int], layer: int) -> Draw:
        """From `counter_words`."""
        low, high, step = counter[:3]
        return cls(p, high << 32 | low, step, layer)

    @property
    def threshold(self) -> int:
        """A unit is dropped if its random word is below this."""
        return min(round(self.p * 2**32), 2**32 - 1)

    @property
    def scale(self) -> float:
        """By which the units that are kept are multiplied."""
        return 1 / (1 - self.p)


def counter_words(seed: int, step: int, rows_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """What the draws of all dropout layers in a step have in common, for kernels that read it there: int64 [3 + N].

    The seed's low and high word of 32 bits, the step, and each image's position in the global batch.
    """
    return np.concatenate([np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, step & 0xFFFFFFFF]), rows_N])


def keep_mask(rows_N: NDArray[np.int64], units: range, draw: Draw) -> NDArray[np.bool_]:
    """Which units dropout keeps: bool [N, D].

    Philox's counter is (unit // 4, position, layer, high word of the seed), its key (low word of the seed, step); the
    unit's word is that of number unit % 4.

    Args:
        rows_N: position of each image in the global batch.
        units: which of the layer's units.
    """
    group_D, word_D = np.divmod(np.arange(units.start, units.stop), 4)
    first = units.start // 4
    groups = np.arange(first, -(-units.stop // 4), dtype=np.uint64)
    key, *rest = draw.words
    words = philox((groups, rows_N.astype(np.uint64)[:, None], *(np.full(1, number, np.uint64) for number in rest)),
                   (key & 0xFFFFFFFF, key >> 32))
    word_ND = np.stack(words)[word_D, :, group_D - first].T
    return word_ND >= draw.threshold
