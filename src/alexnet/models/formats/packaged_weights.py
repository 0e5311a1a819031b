"""Write and read the package's weights: int8 with one scale for each output channel, or fp16, in one small file.

Only the weights of convolutions and fully connected layers are stored in this format. Biases, batch normalization and
the mean image are small, and stay in float32. Loading gives float32 weights, so every command and `train --init` can
use them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from alexnet._runtime.atomic_files import replace_durably
from alexnet.data.imagenet_classes import NAMES
from alexnet.errors import UserError
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.checkpoint_json import CalibrationJson, ErrorsJson, StateJson
from alexnet.models.formats.checkpoint_metadata import check_mean, checkpoint_of_json, network_json
from alexnet.models.formats.state_dict import check_state_dict
from alexnet.models.packaged import (
    MEAN,
    PACKAGED_FORMAT,
    SCALE,
    SEEN,
    Measured,
    PackagedJson,
    ProbedImage,
    Storage,
    TrainingRecord,
    dequantize_arrays,
    packaged_json_bytes,
    read_arrays,
    read_packaged_json,
)
from alexnet.models.seen import TENSORS, seen_by_packaged

MAX_BYTES = 8_000_000
"""Of the tensors' file: the wheel should stay small."""

_LEVELS = 127
"""int8 without -128, so that the levels are symmetric."""

_PERCEPTUAL = TENSORS[2]


def quantize(weights: Mapping[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    """The tensors as they are stored.

    Args:
        weights: a network's state dict, in float32.
        storage: int8: a matrix or kernel W of shape [outputs, ...] becomes round(W / s) with the scale
            s = max|W| / 127 of each output, stored as KEY.scale. fp16: W in half precision.
    """
    stored: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        if not tensor.is_floating_point() or tensor.ndim < 2:
            stored[key] = tensor.contiguous()
        elif storage == "fp16":
            stored[key] = tensor.half().contiguous()
        else:
            scale = tensor.flatten(1).abs().amax(1).clamp(min=1e-30) / _LEVELS
            stored[key] = (tensor / _per_output(scale, tensor)).round().to(torch.int8).contiguous()
            stored[key + SCALE] = scale
    return stored


def dequantize(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The float32 weights of what `quantize` made. Raises KeyError for an int8 tensor without its scale."""
    arrays = dequantize_arrays({key: tensor.numpy() for key, tensor in stored.items()})
    return {key: torch.from_numpy(array) for key, array in arrays.items()}


def _per_output(scale: Tensor, tensor: Tensor) -> Tensor:
    """A scale for each output, shaped to divide a tensor [outputs, ...]."""
    return scale.reshape(-1, *[1] * (tensor.ndim - 1))


def write_packaged(
    saved: Checkpoint, folder: Path, name: str, training: TrainingRecord, license_note: str, *,
    storage: Storage | None = None, max_bytes: int = MAX_BYTES,
) -> Path:
    """Write a checkpoint as NAME.json and NAME.safetensors, and return the path of NAME.json.

    Args:
        saved: the checkpoint; its `errors` should be those of the stored weights.
        folder: where to write, such as `packaged.FOLDER`.
        name: of the network, such as tiny-imagenet-200.
        training: how it was trained.
        license_note: what the weights may be used for.
        storage: default: fp16 if that fits, else int8.
        max_bytes: of NAME.safetensors. If int8 does not fit either, the perceptual hashes of the training images are
            left out, and NAME.json says so: copies of training images are then still recognized, look-alikes are not.

    Raises:
        UserError: nothing fits; nothing is written.
    """
    seen = saved.seen.to_tensors()
    without = {key: tensor for key, tensor in seen.items() if key != _PERCEPTUAL}
    kinds: tuple[Storage, ...] = (storage,) if storage else ("fp16", "int8")
    choices = [(kind, hashes) for hashes in (seen, without) for kind in kinds]
    sizes = []
    for kind, hashes in choices:
        tensors = quantize(saved.weights, kind) | {MEAN: saved.mean_HWC.contiguous()} | {
            SEEN + key: tensor for key, tensor in hashes.items()}
        data = safetensors.torch.save(tensors)
        sizes.append(f"{kind}: {len(data):,}")
        if len(data) <= max_bytes:
            break
    else:
        raise UserError(f"the weights of {saved.arch.name} need more than {max_bytes:,} bytes ({', '.join(sizes)})",
                        "package a smaller network")
    wnid_of = {readable: wnid for wnid, readable in NAMES.items()}
    tree: PackagedJson = {
        "format": PACKAGED_FORMAT, "name": name, "network": network_json(saved), "state": {**saved.training},
        "wnids": [wnid_of.get(label, "") for label in saved.classes],
        "trained_on_unknown": list(saved.seen.unknown), "look_alikes_recognized": hashes is seen,
        "training": training, "measured": [], "probe": [], "storage_errors": {},
        "license": license_note,
        "parameters": saved.parameter_count,
        "storage": kind, "file": f"{name}.safetensors", "bytes": len(data),
        "file_sha256": hashlib.sha256(data).hexdigest()}
    replace_durably(folder / tree["file"], data)
    replace_durably(folder / f"{name}.json", packaged_json_bytes(tree))
    return folder / f"{name}.json"


def replace_calibration(path: Path, calibration: CalibrationJson) -> None:
    """Write other temperatures into NAME.json; the file of the tensors stays as it is.

    Args:
        path: of NAME.json.
        calibration: fitted on the images whose hashes the file has.
    """
    tree = read_packaged_json(path)
    network = {**tree["network"], "calibration": calibration}
    replace_durably(path, packaged_json_bytes({**tree, "network": network}))


def add_measured(
    path: Path, measured: list[Measured], probe: list[ProbedImage], storage_errors: dict[str, ErrorsJson],
) -> None:
    """Write into NAME.json what was measured with the stored weights."""
    replace_durably(path, packaged_json_bytes({
        **read_packaged_json(path), "measured": measured, "probe": probe, "storage_errors": storage_errors}))


def read_packaged(path: Path) -> Checkpoint:
    """The checkpoint of a packaged network, verified.

    Args:
        path: of NAME.json.

    Raises:
        UserError: a file is missing or damaged; the error names it.
    """
    tree, arrays = read_arrays(path)
    file = path.with_name(tree["file"])
    stored = {key: torch.from_numpy(array) for key, array in arrays.items() if not key.startswith(SEEN)}
    mean_HWC = stored.pop(MEAN)
    saved = checkpoint_of_json(tree["network"], seen_by_packaged(tree, arrays))
    check_mean(mean_HWC, saved.arch.input.side, file)
    return replace(
        saved, weights=check_state_dict(dequantize(stored), saved.arch, file), mean_HWC=mean_HWC,
        training=StateJson(**tree["state"]),  # type: ignore[typeddict-item]
        provenance={**saved.provenance, "source": "alexnet", "file": tree["file"], "sha256": tree["file_sha256"],
                    "license": tree["license"]})
