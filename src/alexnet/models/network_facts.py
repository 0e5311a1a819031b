"""A stored network without its tensors: architecture, classes, mean, ... from JSON; the format of exports. No torch."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.architecture.overrides import from_json
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.data.class_names import require_count, require_distinct
from alexnet.models import packaged
from alexnet.models.checkpoint_files import HEAD, read_head, written_by
from alexnet.models.checkpoint_json import CalibrationJson, ErrorsJson, StateJson, calibration_from_json
from alexnet.models.provenance import Provenance, notes_on_weights

EXPORT_FORMAT = 4
"""Of the facts in exported files."""

METADATA_KEY = "alexnet"
"""Where an exported file has the facts: a key of its metadata, or the stem of an extra file's name."""

QUANTIZED_KEY = "quantized"
"""In the metadata of an ONNX file whose weights are rounded, and which is no checkpoint any more: how."""


@dataclass(frozen=True)
class NetworkFacts:
    """What a checkpoint's head and an exported file's metadata both say of the network."""

    arch: Arch
    classes: tuple[str, ...]
    class_names_known: bool
    recipe: Recipe | None
    errors: ErrorsJson
    calibration: CalibrationJson
    provenance: Provenance
    training: StateJson
    """Of the head of a run's checkpoint; an exported file has none."""
    versions: dict[str, str]
    """Of the software that wrote the file; empty if it does not say."""

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> NetworkFacts:
        """Of the head of a checkpoint, or of what `parse_facts` takes.

        Raises:
            KeyError, TypeError, ValueError: these are no such facts; a UserError is a ValueError.
        """
        arch, classes = from_json(Arch, tree["arch"]), tuple(map(str, tree["classes"]))
        require_count(classes, arch.classes)
        require_distinct(classes)
        return cls(arch, classes, bool(tree["class_names_known"]),
                   from_json(Recipe, tree["recipe"]) if tree["recipe"] else None, ErrorsJson(**tree["errors"]),
                   calibration_from_json(tree["calibration"]), Provenance(**tree["provenance"]),
                   StateJson(**tree.get("training", {})), written_by(tree))

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Checkpoint.notes`."""
        return notes_on_weights(self.provenance, self.classes, self.class_names_known)


def parse_facts(tree: Mapping[str, Any]) -> NetworkFacts:
    """The facts in an exported file's metadata, or in the head of the packaged network.

    Raises:
        KeyError, TypeError, ValueError: these are no such facts, or of another version.
    """
    if tree["format"] != EXPORT_FORMAT:
        raise ValueError(f"it has format {tree['format']}, and this version of alexnet reads format {EXPORT_FORMAT}")
    return NetworkFacts.from_json(tree)


def find_head(path_or_name: str) -> Path | None:
    """The JSON file that describes the packaged network or a checkpoint; None for all other weights.

    Args:
        path_or_name: as for `open_weights`. Of a run, its best checkpoint; a run without one gets a warning from
            `checkpoint.load`, and None here.
    """
    path = Path(path_or_name)
    if not path.exists():  # a file or folder of that name comes first, as in `open_weights`
        path = packaged.packaged_path(path_or_name) or path
    if packaged.is_packaged_head(path):
        return path
    return next((head for head in (path / HEAD, path / "best" / HEAD) if head.is_file()), None)


def read_facts(head: Path) -> NetworkFacts:
    """What a file that `find_head` has found says.

    Raises:
        KeyError, TypeError, ValueError: it is damaged; a UserError is a ValueError.
    """
    if packaged.is_packaged_head(head):
        stored = packaged.read_head(head)
        return parse_facts({**stored["network"], "training": stored["state"]})
    return NetworkFacts.from_json(read_head(head))


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
