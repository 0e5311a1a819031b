"""What a checkpoint stores as JSON beside its tensors: errors, calibration, and the state of training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class IntervalJson(TypedDict):
    """95% confidence intervals (`inference.statistics.wilson`), as fractions: lower and upper end."""

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


def has_top5(classes: int) -> bool:
    """Whether the top-5 error says anything: of five classes or fewer, it is zero by definition."""
    return classes > 5


class TemperatureJson(TypedDict, total=False):
    """A fitted temperature, and what it changes."""

    temperature: float
    """Divides the logits before the softmax."""
    fitted_images: int
    """Images that the temperature was fitted on."""
    measured_images: int
    """Other images, on which the expected calibration error (ECE) was measured."""
    ece_before: float
    """A fraction, at temperature 1; for ten views, at the temperature of one view."""
    ece_after: float
    """A fraction, at this temperature."""


class CalibrationJson(TemperatureJson, total=False):
    """The result of `alexnet calibrate` that a checkpoint keeps; empty if it was not calibrated."""

    ten_views: TemperatureJson
    """Of the mean over ten views: this temperature divides each view's logits, instead of the one above. Absent if none
    was stored: ten views then have the temperature of one view."""


def calibration_from_json(tree: Mapping[str, Any]) -> CalibrationJson:
    """A calibration that a file holds, empty or with every field; `ten_views` may be absent.

    Raises:
        KeyError, TypeError: a field is missing, or a temperature is no positive number.
    """
    if not tree:
        return {}
    found = CalibrationJson(**_temperature_from_json(tree))
    if "ten_views" in tree:
        found["ten_views"] = _temperature_from_json(tree["ten_views"])
    return found


def _temperature_from_json(tree: Mapping[str, Any]) -> TemperatureJson:
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
