"""A stored network without its tensors: architecture, classes, calibration, provenance, mean, from JSON. No torch."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.architecture.overrides import from_json
from alexnet.architecture.spec import Arch
from alexnet.data.class_names import require_count, require_distinct
from alexnet.models.checkpoint_json import CalibrationJson, calibration_from_json
from alexnet.models.provenance import Provenance, notes_on_weights

FORMAT = 3
"""Of the facts in exported files."""

METADATA_KEY = "alexnet"
"""Where an exported file has the facts: a key of its metadata, or the stem of an extra file's name."""


@dataclass(frozen=True)
class NetworkFacts:
    """What a checkpoint's head and an exported file's metadata both say of the network."""

    arch: Arch
    classes: tuple[str, ...]
    class_names_known: bool
    calibration: CalibrationJson
    provenance: Provenance

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> NetworkFacts:
        """Of the head of a checkpoint, or of what `parse_facts` takes.

        Raises:
            KeyError, TypeError, ValueError: these are no such facts; a UserError is a ValueError.
        """
        arch, classes = from_json(Arch, tree["arch"]), tuple(map(str, tree["classes"]))
        require_count(classes, arch.classes)
        require_distinct(classes)
        return cls(arch, classes, bool(tree["class_names_known"]), calibration_from_json(tree["calibration"]),
                   Provenance(**tree["provenance"]))

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Checkpoint.notes`."""
        return notes_on_weights(self.provenance, self.classes, self.class_names_known)


def parse_facts(tree: Mapping[str, Any]) -> NetworkFacts:
    """The facts in an exported file's metadata, or in the head of the packaged network.

    Raises:
        KeyError, TypeError, ValueError: these are no such facts, or of another version.
    """
    if tree["format"] != FORMAT:
        raise ValueError(f"it has format {tree['format']}, and this version of alexnet reads format {FORMAT}")
    return NetworkFacts.from_json(tree)


def parse_mean(tree: Mapping[str, Any]) -> NDArray[np.float32]:
    """The mean in an exported file's metadata: float32 [side, side, 3] or [1, 1, 3].

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    values = np.frombuffer(base64.b64decode(tree["float32"], validate=True), "<f4")
    return values.astype(np.float32).reshape(tree["shape"])


def is_mean(mean_HWC: NDArray[Any], side: int) -> bool:
    """Whether an array can be the mean of images of this side."""
    return (mean_HWC.shape in ((1, 1, 3), (side, side, 3)) and mean_HWC.dtype == np.float32
            and bool(np.isfinite(mean_HWC).all()))
