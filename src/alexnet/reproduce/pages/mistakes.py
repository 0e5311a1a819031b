"""The page of mistakes (`alexnet evaluate --html`): misclassified images, grouped by true and predicted class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime.html_page import render_page, write_page
from alexnet._runtime.image_encoding import thumbnail
from alexnet.data.class_names import printable
from alexnet.inference.classifier import probability_text
from alexnet.inference.validation import ValidationPredictions

_TEMPLATE = Path(__file__).parent / "mistakes.html"

MOST_IMAGES = 2000
"""Images on the page at most: about 10 MB. The most confident mistakes are shown."""

_BATCH_SIZE = 64


@dataclass(frozen=True)
class MistakenImage:
    """A misclassified image."""

    image: str
    """A data: URI."""
    file: str
    confidence: float
    """Probability of the predicted class."""
    truth_probability: float
    """Probability of the true class."""


@dataclass(frozen=True)
class ConfusedPair:
    """The images of one class that were classified as another one."""

    truth: str
    predicted: str
    count: int
    images: Sequence[MistakenImage]
    """The most confident first; fewer than `count` if the page has no room for all."""


def write_mistakes_page(
    path: Path, predictions: ValidationPredictions, *, title: str, most_images: int = MOST_IMAGES,
) -> int:
    """Write the page, and return how many mistakes it shows.

    Args:
        path: file to write.
        predictions: of the network.
        title: names the network and the data.
        most_images: images that the page shows at most.
    """
    pairs = confused_pairs(predictions, most_images)
    shown = sum(len(pair.images) for pair in pairs)
    write_page(path, render_page(
        _TEMPLATE, title=title, measured=predictions.selection.describe(), pairs=pairs, shown=shown,
        wrong=len(predictions.mistakes), images=len(predictions.indices_M),
        probability_text=probability_text))
    return shown


def confused_pairs(predictions: ValidationPredictions, most_images: int = MOST_IMAGES) -> list[ConfusedPair]:
    """The pairs of true and predicted class with mistakes, the most frequent first, and their images."""
    labels_M, predicted_M, classes = predictions.labels_M, predictions.predicted_M, predictions.classes
    rows = predictions.mistakes
    counts: dict[tuple[int, int], int] = {}
    images: dict[tuple[int, int], list[MistakenImage]] = {}
    for row in rows.tolist():
        pair = int(labels_M[row]), int(predicted_M[row])
        counts[pair] = counts.get(pair, 0) + 1
    for begin in range(0, min(len(rows), most_images), _BATCH_SIZE):
        batch = rows[begin : min(begin + _BATCH_SIZE, most_images)]
        for row, image in zip(batch.tolist(), _mistaken_images(predictions, batch), strict=True):
            images.setdefault((int(labels_M[row]), int(predicted_M[row])), []).append(image)
    ordered = sorted(counts, key=lambda pair: (-counts[pair], pair))
    return [ConfusedPair(classes[true], classes[predicted], counts[true, predicted], images.get((true, predicted), []))
            for true, predicted in ordered]


def _mistaken_images(predictions: ValidationPredictions, rows: NDArray[np.int64]) -> list[MistakenImage]:
    indices = predictions.indices_M[rows]
    probabilities_mK = predictions.probabilities_MK[rows]
    return [MistakenImage(thumbnail(pixels_HWC), printable(predictions.split.names[index]),
                          float(probabilities_K[predicted]), float(probabilities_K[label]))
            for index, pixels_HWC, probabilities_K, predicted, label in zip(
                indices.tolist(), predictions.split.read(indices), probabilities_mK, predictions.predicted_M[rows],
                predictions.labels_M[rows], strict=True)]
