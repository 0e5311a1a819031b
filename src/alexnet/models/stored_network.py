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
from alexnet.models.checkpoint_files import JSON_FILE, read_checkpoint_json, written_by
from alexnet.models.checkpoint_json import CalibrationJson, ErrorsJson, StateJson, calibration_from_json
from alexnet.models.provenance import Provenance, notes_on_weights

EXPORT_FORMAT = 4
"""Of the description of the network in exported files (`checkpoint_metadata.network_json`)."""

METADATA_KEY = "alexnet"
"""Where an exported file has this description: a key of its metadata, or the stem of an extra file's name."""

QUANTIZED_KEY = "quantized"
"""In the metadata of an ONNX file whose weights are rounded, and which is no checkpoint any more: how."""


@dataclass(frozen=True)
class StoredNetwork:
    """What a checkpoint's JSON and an exported file's metadata both say of the network."""

    arch: Arch
    classes: tuple[str, ...]
    class_names_known: bool
    recipe: Recipe | None
    errors: ErrorsJson
    calibration: CalibrationJson
    provenance: Provenance
    training: StateJson
    """Of a run's checkpoint; an exported file has none."""
    versions: dict[str, str]
    """Of the software that wrote the file; empty if it does not say."""

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> StoredNetwork:
        """Of checkpoint.json, or of what `from_export` takes.

        Raises:
            KeyError, TypeError, ValueError: it describes no network; a UserError is a ValueError.
        """
        arch, classes = from_json(Arch, tree["arch"]), tuple(map(str, tree["classes"]))
        require_count(classes, arch.classes)
        require_distinct(classes)
        return cls(arch, classes, bool(tree["class_names_known"]),
                   from_json(Recipe, tree["recipe"]) if tree["recipe"] else None, ErrorsJson(**tree["errors"]),
                   calibration_from_json(tree["calibration"]), Provenance(**tree["provenance"]),
                   StateJson(**tree.get("training", {})), written_by(tree))

    @classmethod
    def from_export(cls, tree: Mapping[str, Any]) -> StoredNetwork:
        """Of an exported file's metadata, or of the JSON of the packaged network.

        Raises:
            KeyError, TypeError, ValueError: it describes no network, or is of another version.
        """
        if tree["format"] != EXPORT_FORMAT:
            raise ValueError(
                f"it has format {tree['format']}, and this version of alexnet reads format {EXPORT_FORMAT}")
        return cls.from_json(tree)

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Checkpoint.notes`."""
        return notes_on_weights(self.provenance, self.classes, self.class_names_known)


def find_json(path_or_name: str) -> Path | None:
    """The JSON file that describes the packaged network or a checkpoint; None for all other weights.

    Args:
        path_or_name: as for `open_weights`. Of a run, its best checkpoint; a run without one gets a warning from
            `checkpoint.load`, and None here.
    """
    path = Path(path_or_name)
    if not path.exists():  # a file or folder of that name comes first, as in `open_weights`
        path = packaged.packaged_path(path_or_name) or path
    if packaged.is_packaged_json(path):
        return path
    return next((file for file in (path / JSON_FILE, path / "best" / JSON_FILE) if file.is_file()), None)


def read_stored_network(json_file: Path) -> StoredNetwork:
    """The network of a file that `find_json` has found.

    Raises:
        KeyError, TypeError, ValueError: it is damaged; a UserError is a ValueError.
    """
    if packaged.is_packaged_json(json_file):
        stored = packaged.read_packaged_json(json_file)
        return StoredNetwork.from_export({**stored["network"], "training": stored["state"]})
    return StoredNetwork.from_json(read_checkpoint_json(json_file))


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
