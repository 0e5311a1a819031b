"""Figure 4 of the paper: images with their five likeliest classes, and their nearest training images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet.data.class_names import printable
from alexnet.data.packed import PackedDataset, PackedSplit
from alexnet.errors import UserError
from alexnet.inference.features import Features
from alexnet.inference.neighbors import Neighbor, Query, find_neighbors, split_features
from alexnet.inference.predictor import Model, model_from_checkpoint
from alexnet.inference.validation import EXAMPLES, ValidationPredictions, predict_validation
from alexnet.models import checkpoint as ckpt
from alexnet.reproduce.figures.drawing import Drawing
from alexnet.reproduce.figures.image_grids import (
    NeighborRow,
    PredictionTile,
    RankedClass,
    Tile,
    draw_neighbor_grid,
    draw_prediction_grid,
    neighbor_grid_size,
    prediction_grid_size,
)
from alexnet.reproduce.figures.style import equal_decimals

NEIGHBORS = 6
"""Nearest training images in a row, as in the paper."""

QUERIES = 5
"""Validation images whose nearest training images are shown, as in the paper."""


def figure4(
    saved: ckpt.Checkpoint, packed: PackedDataset, on_progress: Callable[[int, int], object] | None = None,
) -> Drawing:
    """Draw eight validation images with their likeliest classes, and the nearest training images of five of them.

    The images are evenly spaced in the validation split, not selected.

    Raises:
        UserError: the data has no images that the network was not trained on.
    """
    model = model_from_checkpoint(saved)
    predictions = predict_validation(saved, packed, EXAMPLES, model=(model.network, model.preprocess))
    if predictions is None:
        raise UserError("the data has no images that the network was not trained on", "give data with a val/ folder")
    tiles = prediction_tiles(predictions, predictions.examples)
    queries = tiles[:QUERIES]
    nearest = training_features(model, packed, on_progress=on_progress).nearest(
        model, [tile.pixels_HWC for tile in queries], packed.classes)
    rows = neighbor_rows([tile.pixels_HWC for tile in queries], [tile.truth for tile in queries], nearest,
                         packed.split("train"))
    return _side_by_side(tiles, rows)


def _side_by_side(tiles: Sequence[PredictionTile], rows: Sequence[NeighborRow]) -> Drawing:
    """`prediction_grid` on the left, `neighbor_grid` on the right, both of the same height."""
    left, right = prediction_grid_size(tiles), neighbor_grid_size(rows)
    scale = left[1] / right[1]
    drawing = Drawing(left[0] + 22 + scale * right[0], left[1],
                      f"{len(tiles)} images with their likeliest classes, and the training images nearest to them")
    draw_prediction_grid(drawing, tiles)
    draw_neighbor_grid(drawing, rows, left[0] + 22, scale)
    return drawing


def prediction_tiles(predictions: ValidationPredictions, rows: NDArray[np.int64]) -> list[PredictionTile]:
    """Rows of a validation run as images with their five likeliest classes."""
    tiles = []
    for row, pixels_HWC in zip(rows, predictions.split.read(predictions.indices_M[rows]), strict=True):
        label, probabilities_K = predictions.labels_M[row], predictions.probabilities_MK[row]
        ranked = [RankedClass(predictions.classes[k], float(probabilities_K[k]), bool(k == label))
                  for k in np.argsort(-probabilities_K, kind="stable")[:5]]
        tiles.append(PredictionTile(pixels_HWC, predictions.classes[label], ranked))
    return tiles


def neighbor_rows(
    images: Sequence[NDArray[np.uint8]], classes: Sequence[str], nearest: Sequence[Sequence[Neighbor]],
    split: PackedSplit, files: Sequence[str] = (),
) -> list[NeighborRow]:
    """Rows for `neighbor_grid`: each query image, and its neighbors with their distances, or that it is the same.

    Args:
        images: the query images, uint8 [H, W, 3].
        classes: the true class of each; "" if unknown, and then the file name is its title.
        nearest: the neighbors of each.
        split: the split that the neighbors are in.
        files: the file name of each query image; default: not shown.
    """
    distances = iter(equal_decimals([neighbor.distance for found in nearest for neighbor in found]))
    rows = []
    for pixels_HWC, truth, file, found in zip(images, classes, files or [""] * len(images), nearest, strict=True):
        query = Tile(pixels_HWC, truth or file, file if truth else "")
        tiles = []
        for neighbor in found:
            name = printable(neighbor.label)
            distance = next(distances)
            note = neighbor.note if neighbor.likeness == "same" else distance
            tiles.append(Tile(split.read_one(neighbor.index), name, note, name == truth))
        rows.append(NeighborRow(query, tiles))
    return rows


@dataclass(frozen=True)
class TrainingFeatures:
    """The last hidden layer's activations for training images, among which the nearest ones are searched (§6.1)."""

    split: PackedSplit
    indices_N: NDArray[np.int64]
    """The images, as indices in the split."""
    features_ND: Features

    def nearest(
        self, model: Model, images: Sequence[NDArray[np.uint8]], classes: Sequence[str],
    ) -> list[list[Neighbor]]:
        """The NEIGHBORS nearest to each image, uint8 [H, W, 3]; `classes`: names of the split's classes."""
        return find_neighbors(model.features(list(images)), self.features_ND, self.split, classes, NEIGHBORS,
                              self.indices_N, queries=[Query(pixels_HWC) for pixels_HWC in images])


def training_features(
    model: Model, packed: PackedDataset, at_most: int | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> TrainingFeatures:
    """Compute the features of training images.

    Args:
        model: the network.
        packed: the data.
        at_most: images, evenly spaced in the split. The features of a smaller sample than all are not cached. Default:
            every training image.
        on_progress: called with (images done, images in all).
    """
    split = packed.split("train")
    indices = split.sample(at_most or len(split))
    # Of every image: the features that `alexnet neighbors` finds in the cache, too.
    key = f"{packed.fingerprint} train" if len(indices) == len(split) else ""
    return TrainingFeatures(split, indices, split_features(
        model, split, cache_key=key, indices=indices, on_progress=on_progress))
