"""What a network says to validation images, with the places of what it is right, wrong and surest about.

Shapes: M images that were asked about, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet.data.packed import PackedDataset, PackedSplit
from alexnet.inference.evaluate import match_classes, probabilities
from alexnet.models import checkpoint as ckpt

ASKED = 2000
"""At most so many validation images are asked about: enough for a page, and a minute or two on a CPU."""

SHOWN = 8
"""Images in Figure 4's manner, and mistakes."""


@dataclass(frozen=True)
class ValidationPredictions:
    """What the network says to validation images, one central view of each."""

    split: PackedSplit
    classes: tuple[str, ...]
    indices_M: NDArray[np.int64]
    """Places in the split."""
    labels_M: NDArray[np.int64]
    """True classes, by the network's numbering."""
    probabilities_MK: NDArray[np.float32]

    @cached_property
    def guesses_M(self) -> NDArray[np.int64]:
        """The likeliest class of each."""
        return self.probabilities_MK.argmax(axis=1)

    @cached_property
    def matrix_KK(self) -> NDArray[np.int64]:
        """How many images of each class (row) were taken for each (column)."""
        matrix = np.zeros((len(self.classes),) * 2, np.int64)
        np.add.at(matrix, (self.labels_M, self.guesses_M), 1)
        return matrix

    @property
    def spread(self) -> NDArray[np.int64]:
        """Rows of eight images, evenly spaced: nobody picked them."""
        return np.unique(np.linspace(0, len(self.indices_M) - 1, min(SHOWN, len(self.indices_M))).astype(np.int64))

    @property
    def best(self) -> NDArray[np.int64]:
        """Rows that the network is right about, the surest first."""
        right = np.flatnonzero(self.guesses_M == self.labels_M)
        return right[np.argsort(-self.probabilities_MK[right].max(axis=1, initial=0), kind="stable")]

    @property
    def mistakes(self) -> NDArray[np.int64]:
        """Rows that the network is wrong about, the surest first."""
        wrong = np.flatnonzero(self.guesses_M != self.labels_M)
        return wrong[np.argsort(-self.probabilities_MK[wrong].max(axis=1, initial=0), kind="stable")]


def ask(checkpoint: ckpt.Checkpoint, packed: PackedDataset, at_most: int | None = None) -> ValidationPredictions | None:
    """The network's answers to validation images, ASKED or `at_most` of them, evenly spaced, where there are more.

    None where there are none. Raises ValueError for data of another side, or of classes that the network does not know.
    """
    if "val" not in packed.splits:
        return None
    if packed.side != (side := checkpoint.arch.input.side):
        raise ValueError(f"the data is packed at {packed.side} pixels and the network takes {side}; "
                         f"give the data it was trained on, or pack it again with --side {side}")
    split, member = packed.split("val"), (checkpoint.network(), checkpoint.preprocess())
    indices = np.unique(np.linspace(0, len(split) - 1, min(len(split), at_most or ASKED)).astype(np.int64))
    with torch.inference_mode():
        outputs = [probabilities([member], torch.from_numpy(split.read(share))).numpy()
                   for share in np.array_split(indices, -(-len(indices) // 64))]
    to_network = match_classes(checkpoint.classes, packed.classes).numpy()
    return ValidationPredictions(split, tuple(map(plain, checkpoint.classes)), indices, to_network[split.labels[indices]],
                   np.concatenate(outputs))


def plain(name: str) -> str:
    """A name from a user's disk as text that UTF-8 can hold, on one line: file names may be any bytes."""
    return " ".join(name.encode("utf-8", "replace").decode().split())
