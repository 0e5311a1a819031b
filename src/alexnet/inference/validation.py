"""Predictions for validation images: confusion matrix, the most confident correct predictions, and the mistakes.

Shapes: M validation images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
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
from alexnet.inference.evaluate import ModelWithInput, probabilities
from alexnet.inference.metrics import Errors, count_errors, predicted_classes
from alexnet.inference.selection import Selection, choose_images
from alexnet.models.checkpoint import Checkpoint

MAX_IMAGES = 2000
"""Validation images used at most: enough for a report, in a minute or two on a CPU."""

EXAMPLES = 8
"""Examples, and mistakes, that a report shows."""

_BATCH_SIZE = 64

_ROWS = 4096
"""Images whose probabilities ranks exchange at a time."""


@dataclass(frozen=True)
class ValidationPredictions:
    """A network's predictions for the center crops of validation images."""

    split: PackedSplit
    """Images that the network was not trained on: the validation split, or of data without one, what was held out."""
    selection: Selection
    """How these images were chosen."""
    classes: tuple[str, ...]
    indices_M: NDArray[np.int64]
    """The images, as indices in the split."""
    labels_M: NDArray[np.int64]
    """True classes, in the network's numbering."""
    probabilities_MK: NDArray[np.float32]

    @cached_property
    def predicted_M(self) -> NDArray[np.int64]:
        """The likeliest class of each image; where the true class ties with another, the other, as the errors count."""
        return predicted_classes(self.probabilities_MK, self.labels_M)

    @cached_property
    def confusion_KK(self) -> NDArray[np.int64]:
        """The confusion matrix: how many images of each class (row) were classified as each class (column)."""
        matrix = np.zeros((len(self.classes),) * 2, np.int64)
        np.add.at(matrix, (self.labels_M, self.predicted_M), 1)
        return matrix

    @property
    def errors(self) -> Errors:
        """Loss and errors of these images, as `alexnet evaluate` counts them."""
        return count_errors(torch.from_numpy(self.probabilities_MK), torch.from_numpy(self.labels_M), self.groups_M)

    @property
    def groups_M(self) -> NDArray[np.uint64] | None:
        """Equal for images that belong together (--group); None if that was not stated."""
        return None if self.split.groups is None else self.split.groups[self.indices_M]

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


class PredictionCollector:
    """Keeps the probabilities that `evaluate.evaluate` passes on, batch by batch, for all images of a split."""

    def __init__(self, split: PackedSplit, classes: tuple[str, ...]) -> None:
        self._split, self._classes = split, classes
        self._outputs_NK = np.zeros((len(split), len(classes)), np.float32)

    def __call__(self, outputs_nK: NDArray[np.float32], indices: NDArray[np.int64]) -> None:
        self._outputs_NK[indices] = outputs_nK

    def add_up(self, all_reduce_sum: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Complete the probabilities on every rank, where each has those of its own images, and zeros.

        Args:
            all_reduce_sum: the sum of a tensor over the ranks.
        """
        for begin in range(0, len(self._outputs_NK), _ROWS):
            rows = slice(begin, begin + _ROWS)
            self._outputs_NK[rows] = all_reduce_sum(torch.from_numpy(self._outputs_NK[rows])).numpy()

    def predictions(self, selection: Selection, label_map: torch.Tensor) -> ValidationPredictions:
        """After the last batch: the predictions for all images, whose labels `label_map` maps to the network's."""
        return ValidationPredictions(
            self._split, selection, tuple(map(printable, self._classes)), np.arange(len(self._split)),
            label_map[self._split.labels].numpy(), self._outputs_NK)


def predict_validation(
    checkpoint: Checkpoint, packed: PackedDataset, at_most: int = MAX_IMAGES, *, model: ModelWithInput | None = None,
) -> ValidationPredictions | None:
    """Predict the classes of images that the network was not trained on; None if the data has none.

    Args:
        checkpoint: the network.
        packed: the data.
        at_most: number of images, evenly spaced in the split.
        model: the checkpoint's network and preprocessing, if the caller has built them.

    Raises:
        UserError: the data has another side, or classes that the network lacks.
    """
    split, selection = choose_images(packed, [checkpoint.seen_in_roles])
    if not len(split):
        return None
    side = checkpoint.arch.input.side
    require(packed.side == side, f"the data is packed at {packed.side} pixels and the network takes {side}",
            f"give the data it was trained on, or pack it again with --side {side}")
    model = model or (checkpoint.network(), checkpoint.preprocess())
    indices = split.sample(at_most)
    with torch.inference_mode():
        outputs = [probabilities([model], torch.from_numpy(split.read(batch))).numpy()
                   for batch in np.array_split(indices, -(-len(indices) // _BATCH_SIZE))]
    network_labels = map_labels(checkpoint, packed.classes).numpy()
    return ValidationPredictions(split, selection, tuple(map(printable, checkpoint.classes)), indices,
                                 network_labels[split.labels[indices]], np.concatenate(outputs))
