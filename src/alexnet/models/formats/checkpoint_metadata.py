"""Metadata of exported weights: network, input, classes, training images, in one JSON text, for a lossless import.

.pth, ONNX and torch.export files carry `to_text`; the config.json of a Hugging Face folder has the same values.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alexnet.architecture.overrides import to_json
from alexnet.errors import UserError, reason_of, require
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.state_dict import check_state_dict, dtype_of, shape_of
from alexnet.models.provenance import license_note
from alexnet.models.seen import SeenImages
from alexnet.models.stored_network import EXPORT_FORMAT, StoredNetwork, parse_mean

_BUFFERS = (".neighbors",)
"""Endings of constants that a layer computes and does not store."""


def network_json(saved: Checkpoint) -> dict[str, Any]:
    """Everything but the tensors and the hashes of the training images, as JSON values."""
    return {
        "format": EXPORT_FORMAT, "arch": to_json(saved.arch), "classes": list(saved.classes),
        "class_names_known": saved.class_names_known, "recipe": to_json(saved.recipe) if saved.recipe else None,
        "errors": saved.errors, "provenance": saved.provenance, "calibration": saved.calibration}


def checkpoint_of_json(tree: Mapping[str, Any], seen: SeenImages) -> Checkpoint:
    """A checkpoint of `network_json`, without weights and mean.

    Raises:
        KeyError, TypeError, ValueError: it describes no network of this version.
    """
    return Checkpoint(**vars(StoredNetwork.from_export(tree)), weights={}, mean_HWC=torch.empty(0), seen=seen)


def license_metadata(saved: Checkpoint) -> dict[str, str]:
    """The license note under a key of its own, for readers that do not parse `to_text`; empty without a note."""
    note = license_note(saved.provenance)
    return {"license": note} if note else {}


def to_text(saved: Checkpoint) -> str:
    """Everything but the weights, as ASCII."""
    mean = {"shape": list(saved.mean_HWC.shape),
            "float32": base64.b64encode(saved.mean_HWC.cpu().numpy().astype("<f4").tobytes()).decode()}
    return json.dumps({**network_json(saved), "mean": mean, "seen": saved.seen.to_text()})


def restore(text: str, state: Mapping[str, Tensor], path: Path) -> Checkpoint:
    """The checkpoint of an exported file.

    Args:
        text: what `to_text` wrote.
        state: the weights in the file, under the network's own keys.
        path: the file, for the errors.

    Raises:
        UserError: the text is damaged or of another version, or the weights are another network's.
    """
    try:
        tree = json.loads(text)
        saved = checkpoint_of_json(tree, SeenImages.from_text(tree["seen"]))
        mean_HWC = torch.from_numpy(parse_mean(tree["mean"]))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} does not describe a network of this package ({reason_of(error)})",
                        "export it again with this version of alexnet") from error
    check_mean(mean_HWC, saved.arch.input.side, path)
    return replace(saved, weights=check_state_dict(state, saved.arch, path), mean_HWC=mean_HWC)


def own_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's tensors among those of an exported program, under their own keys.

    A program with preprocessing is a sequence of two: its second part is the network. Programs lack the number of
    batches that batch normalization has seen, which no prediction needs.
    """
    own = {key.removeprefix("1."): tensor for key, tensor in state.items()
           if key.removeprefix("1.").startswith(("features.", "classifier."))}
    counters = {f"{key.rpartition('.')[0]}.num_batches_tracked": torch.tensor(0)
                for key in own if key.endswith(".running_mean")}
    return counters | {key: tensor for key, tensor in own.items() if not key.endswith(_BUFFERS)}


def check_mean(mean_HWC: Tensor, side: int, path: Path) -> None:
    """Raise UserError if a tensor is no mean of images of this side."""
    require(mean_HWC.shape in ((1, 1, 3), (side, side, 3)) and mean_HWC.dtype == torch.float32
            and bool(mean_HWC.isfinite().all()), f"{path}: mean_HWC is {shape_of(mean_HWC)} {dtype_of(mean_HWC)}, and "
            f"images of {side} pixels need finite float32 of {side}x{side}x3 or 1x1x3")
