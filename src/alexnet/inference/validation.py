"""Predictions for validation images: confusion matrix, the most confident correct predictions, and the mistakes.

Shapes: M validation images, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet.data.class_names import printable
from alexnet.data.order import evenly_spaced
from alexnet.data.packed import PackedDataset, PackedSplit
from alexnet.errors import require
from alexnet.inference.classes import map_labels
from alexnet.inference.evaluate import probabilities
from alexnet.models.checkpoint import Checkpoint

MAX_IMAGES = 2000
"""Validation images used at most: enough for a report, in a minute or two on a CPU."""

EXAMPLES = 8
"""Examples, and mistakes, that a report shows."""

_BATCH_SIZE = 64


@dataclass(frozen=True)
class ValidationPredictions:
    """A network's predictions for the center crops of validation images."""

    split: PackedSplit
    classes: tuple[str, ...]
    indices_M: NDArray[np.int64]
    """The images, as indices in the split."""
    labels_M: NDArray[np.int64]
    """True classes, in the network's numbering."""
    probabilities_MK: NDArray[np.float32]

    @cached_property
    def predicted_M(self) -> NDArray[np.int64]:
        """The likeliest class of each image."""
        return self.probabilities_MK.argmax(axis=1)

    @cached_property
    def confusion_KK(self) -> NDArray[np.int64]:
        """The confusion matrix: how many images of each class (row) were classified as each class (column)."""
        matrix = np.zeros((len(self.classes),) * 2, np.int64)
        np.add.at(matrix, (self.labels_M, self.predicted_M), 1)
        return matrix

    @property
    def examples(self) -> NDArray[np.int64]:
        """EXAMPLES rows, evenly spaced, so that no one selected them."""
        return evenly_spaced(len(self.indices_M), EXAMPLES)

    @property
    def correct(self) -> NDArray[np.int64]:
        """Rows with a correct prediction, most confident first."""
        return self._most_confident_first(np.flatnonzero(self.predicted_M == self.labels_M))

    @property
    def mistakes(self) -> NDArray[np.int64]:
        """Rows with a wrong prediction, most confident first."""
        return self._most_confident_first(np.flatnonzero(self.predicted_M != self.labels_M))

    def _most_confident_first(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows[np.argsort(-self.probabilities_MK[rows].max(axis=1, initial=0), kind="stable")]


def predict_validation(
    checkpoint: Checkpoint, packed: PackedDataset, at_most: int = MAX_IMAGES,
) -> ValidationPredictions | None:
    """Predict the classes of validation images; None if the data has none.

    Args:
        checkpoint: the network.
        packed: the data.
        at_most: number of images, evenly spaced in the split.

    Raises:
        UserError: the data has another side, or classes that the network lacks.
    """
    if "val" not in packed.splits:
        return None
    side = checkpoint.arch.input.side
    require(packed.side == side, f"the data is packed at {packed.side} pixels and the network takes {side}",
            f"give the data it was trained on, or pack it again with --side {side}")
    split, model = packed.split("val"), (checkpoint.network(), checkpoint.preprocess())
    indices = split.sample(at_most)
    with torch.inference_mode():
        outputs = [probabilities([model], torch.from_numpy(split.read(batch))).numpy()
                   for batch in np.array_split(indices, -(-len(indices) // _BATCH_SIZE))]
    network_labels = map_labels(checkpoint, packed.classes).numpy()
    return ValidationPredictions(split, tuple(map(printable, checkpoint.classes)), indices,
                                 network_labels[split.labels[indices]], np.concatenate(outputs))
