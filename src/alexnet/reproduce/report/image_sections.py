"""Report sections on images: predictions, nearest training images, mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from alexnet._runtime.image_encoding import jpeg_uri
from alexnet.data.class_names import printable
from alexnet.inference.metrics import fraction_interval
from alexnet.inference.selection import Selection
from alexnet.inference.validation import EXAMPLES, ValidationPredictions
from alexnet.reproduce.figures.confusion import confusion
from alexnet.reproduce.figures.figure4 import QUERIES, neighbor_rows, prediction_tiles
from alexnet.reproduce.figures.image_grids import NeighborRow, RankedClass
from alexnet.reproduce.figures.svg import svg
from alexnet.reproduce.report.run_data import RunData, searched_images

MATRIX_CLASSES = 40
"""Most classes for which a confusion matrix is legible."""

WORST_CLASSES = 20
"""Classes whose errors are listed if there are too many for a matrix."""


CONFUSIONS = 3
"""Pairs of classes, confused most often, that are named and shown."""

CONFUSED_IMAGES = 4
"""Images of each of them, the most confident first."""


@dataclass(frozen=True)
class ImageEntry:
    """A validation image with its true class and its predicted class."""

    image: str
    """A data: URI."""
    file: str
    truth: str
    predicted: str
    confidence: float
    """Probability of the predicted class."""
    truth_probability: float


def _entries(predictions: ValidationPredictions, rows: NDArray[np.int64]) -> list[ImageEntry]:
    indices = predictions.indices_M[rows]
    return [ImageEntry(
        jpeg_uri(pixels_HWC), printable(predictions.split.names[index]), predictions.classes[predictions.labels_M[row]],
        predictions.classes[predictions.predicted_M[row]], float(predictions.probabilities_MK[row].max()),
        float(predictions.probabilities_MK[row, predictions.labels_M[row]]))
        for row, index, pixels_HWC in zip(rows, indices, predictions.split.read(indices), strict=True)]


@dataclass(frozen=True)
class PredictedImage:
    """An image and its likeliest classes."""

    image: str
    truth: str
    ranked: Sequence[RankedClass]


def predictions(run: RunData) -> list[PredictedImage] | None:
    """Images with their five likeliest classes (Figure 4, left); None without validation images."""
    if not run.predictions:
        return None
    return [PredictedImage(jpeg_uri(tile.pixels_HWC), tile.truth, tile.ranked)
            for tile in prediction_tiles(run.predictions, run.predictions.examples)]


@dataclass(frozen=True)
class Nearest:
    """Validation images with their nearest training images."""

    searched: int
    training_images: int
    rows: Sequence[tuple[ImageEntry, Sequence[tuple[str, str, str, bool]]]]
    """A validation image, and of each neighbor: image, class, distance, whether it is of the true class."""


def nearest(run: RunData) -> Nearest | None:
    """The training images nearest to some validation images in the last hidden layer (Figure 4, right)."""
    if not run.predictions or not run.nearest:
        return None
    assert run.training is not None
    queries = _entries(run.predictions, run.predictions.examples[:QUERIES])
    return Nearest(min(len(run.training), searched_images(run.checkpoint.arch)), len(run.training), [
        (query, [(jpeg_uri(tile.pixels_HWC), tile.name, tile.note, tile.is_true) for tile in row.nearest])
        for query, row in zip(queries, nearest_rows(run), strict=True)])


def nearest_rows(run: RunData) -> list[NeighborRow]:
    """The rows of `neighbor_grid` for the run's nearest training images."""
    assert run.predictions is not None
    assert run.training is not None
    tiles = prediction_tiles(run.predictions, run.predictions.examples[:QUERIES])
    return neighbor_rows([tile.pixels_HWC for tile in tiles], [tile.truth for tile in tiles], run.nearest, run.training)


@dataclass(frozen=True)
class ClassError:
    """Errors among the images of one class."""

    name: str
    wrong: int
    images: int
    error: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class ConfusedPair:
    """Images of one class that were classified as another one."""

    truth: str
    predicted: str
    count: int
    shown: Sequence[ImageEntry]


def most_confused(predictions: ValidationPredictions) -> list[tuple[int, int]]:
    """The true and the predicted class of the CONFUSIONS most frequent kinds of mistakes, the most frequent first."""
    matrix_KK = predictions.confusion_KK.copy()
    np.fill_diagonal(matrix_KK, 0)
    largest = np.argsort(-matrix_KK, axis=None, kind="stable")[:CONFUSIONS]
    return [(int(true), int(predicted)) for true, predicted in zip(
        *np.unravel_index(largest, matrix_KK.shape), strict=True) if matrix_KK[true, predicted]]


def _confused_pairs(predictions: ValidationPredictions) -> list[ConfusedPair]:
    pairs, mistakes = [], predictions.mistakes
    for true, predicted in most_confused(predictions):
        rows = mistakes[(predictions.labels_M[mistakes] == true) & (predictions.predicted_M[mistakes] == predicted)]
        pairs.append(ConfusedPair(predictions.classes[true], predictions.classes[predicted], len(rows),
                                  _entries(predictions, rows[:CONFUSED_IMAGES])))
    return pairs


@dataclass(frozen=True)
class Mistakes:
    """Confusions of classes, errors of each class, and the most confident predictions, wrong and right."""

    images: int
    """Images that were predicted."""
    all_images: int
    """Images of the validation split that the network was not trained on."""
    selection: Selection
    """How many it was trained on, which are left out."""
    wrong: int
    confusion: Markup | None
    """None for more than MATRIX_CLASSES classes."""
    classes: Sequence[ClassError]
    """The highest error first."""
    classes_left_out: int
    highest_left_out: float
    """The highest error of those classes."""
    pairs: Sequence[ConfusedPair]
    confident_wrong: Sequence[ImageEntry]
    confident_right: Sequence[ImageEntry]


def mistakes(run: RunData) -> Mistakes | None:
    """None without validation images."""
    if not (predictions := run.predictions):
        return None
    classes, has_matrix = class_errors_of(predictions), len(predictions.classes) <= MATRIX_CLASSES
    shown = classes if has_matrix else classes[:WORST_CLASSES]
    matrix = Markup(svg(confusion(predictions.confusion_KK, predictions.classes))) if has_matrix else None
    return Mistakes(
        len(predictions.indices_M), len(predictions.split), predictions.selection, len(predictions.mistakes), matrix,
        shown, len(classes) - len(shown), max((each.error for each in classes[len(shown):]), default=0.0),
        _confused_pairs(predictions), _entries(predictions, predictions.mistakes[:EXAMPLES]),
        _entries(predictions, predictions.correct[: EXAMPLES // 2]))


def class_errors_of(predictions: ValidationPredictions) -> list[ClassError]:
    """Errors of every class that has images, the highest first."""
    images_K, right_K = predictions.confusion_KK.sum(axis=1), predictions.confusion_KK.diagonal()
    groups_M, wrong_M = predictions.groups_M, predictions.predicted_M != predictions.labels_M
    errors = []
    for number in np.flatnonzero(images_K):
        own_M, images, right = predictions.labels_M == number, int(images_K[number]), int(right_K[number])
        interval = fraction_interval(wrong_M[own_M], None if groups_M is None else groups_M[own_M])
        errors.append(ClassError(predictions.classes[number], images - right, images, 1 - right / images, interval))
    return sorted(errors, key=lambda each: -each.error)
