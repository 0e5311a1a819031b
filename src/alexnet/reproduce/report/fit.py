"""Underfitting and overfitting: the error on the training images as they are, beside that on the validation images.

The training error of the log is measured while the weights change, and with the augmentation and dropout that the run
has: it is higher than the error that the finished network makes on its training images, so a comparison with it cannot
tell underfitting from overfitting.

Shapes: N training images, D features, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet.inference.classes import map_labels
from alexnet.inference.features import Features
from alexnet.inference.metrics import Errors, count_errors
from alexnet.inference.predictor import Model
from alexnet.models.checkpoint import Checkpoint

UNDERFITTING = 0.25
"""Top-1 error on the training images above which a network underfits: it has not learned what it was shown."""

OVERFITTING = 0.1
"""Validation error minus training error, from which a network overfits if their 95% intervals are apart too."""

Kind = Literal["underfitting", "overfitting", "both", "undecided", "neither"]
"""undecided: it may overfit, for the interval of the validation error reaches OVERFITTING above the training error."""


@dataclass(frozen=True)
class Fit:
    """Errors of one checkpoint with one view, the center crop."""

    training: Errors
    """On training images, evenly spaced if they are not all."""
    validation: Errors
    all_training_images: int

    @property
    def training_interval(self) -> tuple[float, float]:
        return self.training.top1_interval

    @property
    def validation_interval(self) -> tuple[float, float]:
        return self.validation.top1_interval

    @property
    def kind(self) -> Kind:
        """By UNDERFITTING and OVERFITTING."""
        under = self.training.top1_error > UNDERFITTING
        over = (self.validation.top1_error - self.training.top1_error >= OVERFITTING
                and self.training_interval[1] < self.validation_interval[0])
        if under or over:
            return "both" if under and over else "underfitting" if under else "overfitting"
        may_overfit = self.validation_interval[1] - self.training.top1_error >= OVERFITTING
        return "undecided" if may_overfit else "neither"


def training_errors(saved: Checkpoint, model: Model, features_ND: Features, labels_N: torch.Tensor,
                    classes: tuple[str, ...], groups_N: NDArray[np.uint64] | None = None) -> Errors | None:
    """The errors on training images whose features are known; None if convolutions follow the features.

    Args:
        saved: the checkpoint, which knows its classes.
        model: its network.
        features_ND: of `model.feature_layer`, for the center crops.
        labels_N: true classes, in the data's numbering.
        classes: of the data.
        groups_N: equal for images that belong together; None: the images are independent.
    """
    logits_NK = model.network.logits_from(model.feature_layer, torch.from_numpy(features_ND.copy()))
    if logits_NK is None:
        return None
    return count_errors(logits_NK.softmax(1), map_labels(saved, classes)[labels_N], groups_N)
