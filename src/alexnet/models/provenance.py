"""Provenance of weights: the project and file they came from, or the checkpoint that training started from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict


class WeightsDescription(TypedDict):
    """Which weights these are."""

    arch: str
    classes: int
    sha256: str
    """Of all keys and tensors."""
    provenance: NotRequired[Provenance]


class InitialWeights(WeightsDescription):
    """The weights that training started from."""

    taken: list[str]
    """Layers that were copied."""
    drawn: list[str]
    """Layers that were initialized at random."""


class HeadFit(TypedDict):
    """How `train --head` fitted the output layer."""

    features: str
    """The layer below the output, whose outputs were the features."""
    views: int
    """Views of each image: 1, the center crop, or 2, with its mirror image."""
    weight_decay: float
    held_out: int
    """Training images that were held out to choose the weight decay."""
    held_out_errors: dict[str, float]
    """Weight decay -> top-1 error on them."""
    seconds: float


class Provenance(TypedDict, total=False):
    """Where weights came from: another project's file, or the checkpoint that training started from."""

    source: str
    """The project: "torchvision" or "Caffe"."""
    file: str
    sha256: str
    license: str
    """What the weights, and those trained from them, may be used for, as their owner says."""
    assumed: list[str]
    """What the file does not say and was assumed, a sentence each, for the user."""
    init: InitialWeights
    head: HeadFit


def file_provenance(source: str, path: Path) -> Provenance:
    """The provenance of weights from another project's file, with the file's SHA-256."""
    with path.open("rb") as file:
        return {"source": source, "file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def notes_on_weights(provenance: Provenance, classes: Sequence[str], class_names_known: bool) -> tuple[str, ...]:
    """What a user should know about weights before trusting a result: what was assumed, and what is unknown."""
    unnamed = (f"the weights have no class names, so their {len(classes):,} outputs are called output 0 to "
               f"output {len(classes) - 1}; give names with --classes FILE, to "
               "predict, evaluate or import; in Python with alexnet.load(..., classes=[...])",)
    return (*provenance.get("assumed", ()), *(() if class_names_known else unnamed))


def license_note(provenance: Mapping[str, Any]) -> str:
    """The license note of weights, or of the weights that their training started from; "" if none is recorded."""
    note: str = provenance.get("license", "")
    initial = provenance.get("init", {}).get("provenance", {})
    return note or (license_note(initial) if initial else "")
