"""What a checkpoint stores as JSON beside its tensors: errors, calibration, and the state of training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class IntervalJson(TypedDict):
    """95% confidence intervals (`inference.metrics.wilson`), as fractions: lower and upper end."""

    top1_error: Sequence[float]
    top5_error: Sequence[float]


class DesignEffectJson(TypedDict):
    """By how much the groups of the images widen the variance of the errors (`inference.grouped.design_effect`)."""

    top1_error: float
    top5_error: float


class GroupsJson(TypedDict, total=False):
    """The groups of evaluated images (`--group`); absent for images without groups."""

    groups: int
    """Number of groups, which the intervals are over."""
    design_effect: DesignEffectJson


class ErrorsJson(GroupsJson, total=False):
    """Errors on a set of images, as `inference.metrics.Errors.to_json` makes them; empty if they were not measured."""

    images: int
    """Number of images."""
    loss: float
    """Mean, in nats."""
    top1_error: float
    """A fraction."""
    top5_error: float
    """A fraction."""
    interval: IntervalJson
    validation_copies: int
    """How many of the images are copies of training images. Stored only by training, and only where there are any."""
    validation_look_alikes: int
    """How many others look like a training image."""
    training_look_alikes: float
    """The fraction of the training images that look like another one."""


class CalibrationJson(TypedDict, total=False):
    """The result of `alexnet calibrate` that a checkpoint keeps; empty if it was not calibrated."""

    temperature: float
    """Divides the logits before the softmax."""
    fitted_images: int
    """Images that the temperature was fitted on."""
    measured_images: int
    """Other images, on which the expected calibration error (ECE) was measured."""
    ece_before: float
    """A fraction, at temperature 1."""
    ece_after: float
    """A fraction, at this temperature."""


def calibration_from_json(tree: Mapping[str, Any]) -> CalibrationJson:
    """A calibration that a file holds, empty or with every field.

    Raises:
        KeyError, TypeError: a field is missing, or the temperature is no positive number.
    """
    if not tree:
        return {}
    if not 0 < tree["temperature"] < math.inf:
        raise TypeError(f"the temperature is {tree['temperature']}")
    return {"temperature": tree["temperature"], "fitted_images": int(tree["fitted_images"]),
            "measured_images": int(tree["measured_images"]), "ece_before": float(tree["ece_before"]),
            "ece_after": float(tree["ece_after"])}


class PlateauJson(TypedDict):
    """`training.schedule.Plateau`."""

    best: float
    waited: int
    drops: int


class StateJson(TypedDict, total=False):
    """`training.state.State`, which documents the fields."""

    seed: int
    data: str
    precision: str
    transform: str
    step: int
    epoch: int
    lanes: int
    plateau: PlateauJson
    best_error: float
    best_loss: float
    epochs_without_gain: int
    epoch_images: int
    epoch_loss_sum: float
    epoch_wrong: int
    recent_losses: list[float]
    loss_scale: float
    steps_since_overflow: int
