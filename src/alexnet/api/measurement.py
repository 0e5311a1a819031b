"""What errors were measured of, and how: what `evaluate --json` and `alexnet.evaluate` say beside them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alexnet._runtime.software import own_version
from alexnet.data.packed import PackedDataset, PackedSplit
from alexnet.inference.class_metrics import baselines, classes_without_images
from alexnet.inference.metrics import Errors
from alexnet.inference.predictor import Model
from alexnet.inference.selection import Selection, SelectionJson
from alexnet.inference.validation import ValidationPredictions
from alexnet.models.checkpoint import weights_sha256
from alexnet.models.checkpoint_json import ErrorsJson


@dataclass(frozen=True)
class EvaluationSet:
    """Images to evaluate networks on, and how their classes map to those of the networks."""

    packed: PackedDataset
    images: PackedSplit
    """Those to measure only."""
    label_map: Tensor
    """int64 [classes of the data] -> class of the networks."""
    selection: Selection
    """How the images were chosen: without those that a network was trained on, by default."""
    look_alikes: PackedSplit | None = None
    """The images that were left out because they look like training images, if that was asked for."""

    @property
    def labels_N(self) -> NDArray[np.int64]:
        """int64 [images]: the true class of each, as the networks number it."""
        return self.label_map[self.images.labels].numpy()


@dataclass(frozen=True)
class Evaluation:
    """Errors of networks, averaged if they are several, and what they were measured on."""

    errors: Errors
    """Sums and counts over all images, on every rank."""
    models: list[Model]
    measured: EvaluationSet
    views: int
    """1 or 10."""
    split: str | None
    """That was asked for; None: the test splits of the data."""
    predictions: ValidationPredictions | None
    """For each image, if they were collected."""
    look_alike_errors: Errors | None = None
    """Those of `EvaluationSet.look_alikes`, which `errors` does not contain."""


class MeasuredModelJson(TypedDict):
    """A network that was measured."""

    checkpoint: str | None
    """Its path; None for the packaged network, which `sha256` tells. `evaluate --json` has the packaged one's name."""
    epoch: int | None
    """Epochs of training behind its weights; None where it is not recorded."""
    sha256: str
    """Of the names and values of its weights, as a file of `alexnet features` has it."""


class MeasurementJson(TypedDict):
    """What errors were measured of, on what, and by which version."""

    models: list[MeasuredModelJson]
    data: str
    """What the user called it, or where the packed folder was made from."""
    fingerprint: str
    """Of the data's files and labels."""
    splits: list[str]
    classes_without_images: list[str]
    """The networks' classes of which no image was measured, of which the errors say nothing."""
    version: str
    """Of this package."""
    views: int
    networks: int
    """How many were averaged."""
    measured: SelectionJson
    """Which images were measured, and which were left out."""
    temperatures: list[float]
    """What divided the logits of each network; 1: it is not calibrated."""
    baselines: dict[str, Any]
    """The errors of guessing, on the same images."""
    look_alikes: NotRequired[ErrorsJson]
    """The errors of the images that were left out because they look like training images, if there are any."""
    with_look_alikes: NotRequired[ErrorsJson]
    """Those of both together."""


@dataclass(frozen=True)
class MeasuredErrors(Errors):
    """Errors, and what they were measured of; a sum with other errors is `Errors` alone."""

    measurement: MeasurementJson | None = None

    def __add__(self, other: Errors) -> Errors:
        return Errors(self.images, self.loss_sum, self.top1_wrong, self.top5_wrong, self.sample) + other


def measurement_of(evaluation: Evaluation) -> MeasurementJson:
    """Say what was measured; it reads all weights for their SHA-256."""
    measured, models, alike = evaluation.measured, evaluation.models, evaluation.look_alike_errors
    classes = models[0].classes
    tree: MeasurementJson = {
        "models": [{"checkpoint": str(model.path) if model.path else None, "epoch": model.epoch,
                    "sha256": weights_sha256(model.plain_network.state_dict())} for model in models],
        "data": str(measured.packed.source), "fingerprint": measured.packed.manifest.fingerprint(),
        "splits": [evaluation.split] if evaluation.split else list(measured.packed.test_splits),
        "classes_without_images": classes_without_images(measured.labels_N, classes), "version": own_version(),
        "views": evaluation.views, "networks": len(models), "measured": measured.selection.to_json(),
        "temperatures": [model.temperature(evaluation.views) for model in models],
        "baselines": asdict(baselines(measured.labels_N, classes))}
    if alike:
        tree["look_alikes"], tree["with_look_alikes"] = alike.to_json(), (evaluation.errors + alike).to_json()
    return tree
