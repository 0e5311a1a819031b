"""What errors were measured of: checkpoints with epoch and SHA-256, data, splits, version, for `alexnet.evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TypedDict

from alexnet.data.packed import PackedDataset
from alexnet.inference.metrics import Errors
from alexnet.inference.predictor import Model
from alexnet.models.checkpoint import weights_sha256


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
    version: str
    """Of this package."""


@dataclass(frozen=True)
class MeasuredErrors(Errors):
    """Errors, and what they were measured of; a sum with other errors is `Errors` alone."""

    measurement: MeasurementJson | None = None

    def __add__(self, other: Errors) -> Errors:
        return Errors(self.images, self.loss_sum, self.top1_wrong, self.top5_wrong, self.sample) + other


def measurement_of(models: Sequence[Model], packed: PackedDataset, split: str | None) -> MeasurementJson:
    """Say what was measured; it reads all weights for their SHA-256.

    Args:
        models: that were measured, or averaged.
        packed: the data.
        split: that was asked for; None: the test splits of the data.
    """
    return {"models": [{"checkpoint": str(model.path) if model.path else None, "epoch": model.epoch,
                        "sha256": weights_sha256(model.network.state_dict())} for model in models],
            "data": str(packed.source), "fingerprint": packed.manifest.fingerprint(),
            "splits": [split] if split else list(packed.test_splits),
            "version": version("alexnet")}

