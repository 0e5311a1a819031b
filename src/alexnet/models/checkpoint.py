"""Checkpoints: save and load weights, preprocessing, classes and training state, atomically and with checksums.

A checkpoint is a folder. `checkpoint.json` holds everything that is not a tensor, and names the safetensors files with
their SHA-256. A tensor file's name contains its step and checksum, so a save never overwrites a file that the current
checkpoint.json names; replacing that one is the moment at which the new state is valid. If the process is killed at any
point, the folder holds the old state or the new one, complete. Loading executes nothing: the files are JSON and
safetensors.

A folder that training resumes from keeps the state before as well, under `checkpoint.previous.json`: if the latest
files are damaged, only the steps since then are lost.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from alexnet._runtime.atomic_files import replace_durably
from alexnet._runtime.software import software_versions
from alexnet.architecture.overrides import from_json, to_json
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.data.preprocessing import Preprocess
from alexnet.errors import UserError, reason_of
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint_files import (
    CHECKPOINT_FORMAT,
    JSON_FILE,
    OTHER_CHECKPOINT,
    PREVIOUS_JSON_FILE,
    CheckpointJson,
    DamagedCheckpointError,
    TensorFile,
    locate,
    read_checkpoint_json,
    read_verified,
    written_by,
)
from alexnet.models.checkpoint_json import CalibrationJson, ErrorsJson, StateJson, calibration_from_json
from alexnet.models.provenance import Provenance, WeightsDescription, notes_on_weights
from alexnet.models.seen import SeenImages


@dataclass
class Checkpoint:
    """Everything that a checkpoint saves. Only resuming a run needs `training`, `velocity` and `raw_weights`."""

    arch: Arch
    classes: tuple[str, ...]
    """Names of the outputs; "output 0", "output 1", ... if they are unknown."""
    weights: dict[str, Tensor]
    mean_HWC: Tensor
    recipe: Recipe | None = None
    velocity: dict[str, Tensor] = field(default_factory=dict)
    """The optimizer's momentum buffers."""
    raw_weights: dict[str, Tensor] = field(default_factory=dict)
    """With `Recipe.ema_decay`: what the optimizer updates, since `weights` are its moving average; else empty."""
    training: StateJson = field(default_factory=StateJson)
    """Empty if the weights were not trained here."""
    errors: ErrorsJson = field(default_factory=ErrorsJson)
    """Validation errors at the time of saving; empty within an epoch."""
    provenance: Provenance = field(default_factory=Provenance)
    seen: SeenImages = field(default_factory=SeenImages.not_recorded)
    """The images that the weights were trained on."""
    class_names_known: bool = True
    """False: the weights came without class names, so no output can be matched with a class of a data set."""
    calibration: CalibrationJson = field(default_factory=CalibrationJson)
    """The temperatures that the predictions use, which leave the weights as they are."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of the software that wrote the file that this was loaded from, as far as it says: alexnet, its commit, torch.
    Saving writes those of the software that saves."""
    path: Path | None = None
    """The folder that it was loaded from; the file, if that was `checkpoint.previous.json`."""

    def network(self, *, calibrated: bool = True) -> AlexNet:
        """Build the network with these weights, in evaluation mode, on the CPU.

        Args:
            calibrated: divide the logits by the temperature of `calibration`, if there is one; for the mean over ten
                views, by its own. False: the network as it was trained.
        """
        found = self.calibration if calibrated else CalibrationJson()
        network = AlexNet(self.arch, seed=None, temperature=found.get("temperature", 1.0),
                          ten_view_temperature=found.get("ten_views", {}).get("temperature"))
        network.load_state_dict(self.weights)
        return network.eval()

    def preprocess(self) -> Preprocess:
        """Build the preprocessing that belongs to the network."""
        return Preprocess(self.arch.input, self.mean_HWC)

    @property
    def parameter_count(self) -> int:
        """Number of trained weights and biases: `weights` without the running statistics of batch normalization."""
        statistics = (".running_mean", ".running_var", ".num_batches_tracked")
        return sum(tensor.numel() for key, tensor in self.weights.items() if not key.endswith(statistics))

    @property
    def notes(self) -> tuple[str, ...]:
        """As `provenance.notes_on_weights`."""
        return notes_on_weights(self.provenance, self.classes, self.class_names_known)

    @property
    def seen_in_roles(self) -> SeenImages:
        """`seen` with what its images of `selected_on` decided.

        `calibrate` adds the images that it fits on, so if there are more, others chose the epoch or steered training.
        """
        steered = self.path is not None and self.path.name == "last" and self.recipe is not None and (
            self.recipe.schedule == "plateau" or self.recipe.early_stop_epochs > 0)
        others = len(self.seen.selected_on) > self.calibration.get("fitted_images", 0)
        roles = [("schedule" if steered else "epoch", others), ("temperature", bool(self.calibration))]
        return replace(self.seen, roles=tuple(role for role, holds in roles if holds))

    def describe(self) -> WeightsDescription:
        """Say which weights these are: the network's name, a SHA-256 of the weights, and where they came from."""
        description: WeightsDescription = {
            "arch": self.arch.name, "classes": len(self.classes), "sha256": weights_sha256(self.weights)}
        if self.provenance:
            description["provenance"] = self.provenance
        return description


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """The SHA-256 of the names and values of all weights, in hexadecimal digits."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        digest.update(key.encode() + weights[key].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


# --- Save -------------------------------------------------------------------------------------------------------------


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint durably: afterwards `folder` holds it, or, after any failure, what it held before.

    A checkpoint with velocity also keeps the state before.

    Raises:
        OSError: the disk is full or read-only; the error names the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    step = checkpoint.training.get("step", 0)
    files: dict[str, TensorFile] = {}
    written: list[Path] = []
    try:
        roles = {"weights": checkpoint.weights | {"preprocess.mean": checkpoint.mean_HWC},
                 "velocity": checkpoint.velocity}
        if checkpoint.raw_weights:
            roles["raw_weights"] = checkpoint.raw_weights
        for role, tensors in roles.items():
            data = safetensors.torch.save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
            digest = hashlib.sha256(data).hexdigest()
            path = folder / f"{role}-{step:08d}-{digest[:8]}.safetensors"
            written.append(path)
            replace_durably(path, data)
            files[role] = {"file": path.name, "bytes": len(data), "sha256": digest}
        files["seen"] = _save_seen(checkpoint.seen, folder, written)
        if checkpoint.velocity:
            _keep_previous(folder, step)
        replace_durably(folder / JSON_FILE, _json_bytes(checkpoint, files))
    except OSError:
        _delete_unnamed(folder, written)
        raise
    _sync_folder(folder)
    _delete_unnamed(folder, [*folder.glob("*.safetensors"), *folder.glob("*.new")])


def _save_seen(seen: SeenImages, folder: Path, written: list[Path]) -> TensorFile:
    """Write the hashes of the seen images, unless the folder has them: a run's are the same at each of its saves."""
    data = safetensors.torch.save(seen.to_tensors())
    digest = hashlib.sha256(data).hexdigest()
    path = folder / f"seen-{digest[:8]}.safetensors"
    if not (path.is_file() and path.read_bytes() == data):  # a damaged file is written again
        written.append(path)
        replace_durably(path, data)
    return {"file": path.name, "bytes": len(data), "sha256": digest}


def _json_bytes(checkpoint: Checkpoint, files: dict[str, TensorFile]) -> bytes:
    tree: CheckpointJson = {
        "format": CHECKPOINT_FORMAT, "arch": to_json(checkpoint.arch), "classes": list(checkpoint.classes),
        "class_names_known": checkpoint.class_names_known,
        "recipe": to_json(checkpoint.recipe) if checkpoint.recipe else None,
        "training": checkpoint.training, "errors": checkpoint.errors, "provenance": checkpoint.provenance,
        "calibration": checkpoint.calibration, "trained_on_unknown": list(checkpoint.seen.unknown), "files": files,
        "versions": {**software_versions(), "torch": torch.__version__}}
    # The file holds its own checksum, so that a flipped bit in one of its numbers is detected as well.
    digest = hashlib.sha256(json.dumps(tree, indent=1).encode()).hexdigest()
    return json.dumps({**tree, "sha256": digest}, indent=1).encode()


def _keep_previous(folder: Path, step: int) -> None:
    """Copy checkpoint.json to `PREVIOUS_JSON_FILE`, unless it is damaged or is not of an earlier step."""
    with suppress(UserError):
        if int(read_checkpoint_json(folder / JSON_FILE)["training"].get("step", 0)) < step:
            replace_durably(folder / PREVIOUS_JSON_FILE, (folder / JSON_FILE).read_bytes())


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # Windows cannot open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _delete_unnamed(folder: Path, candidates: list[Path]) -> None:
    """Delete those files that no JSON file of the folder names."""
    named: set[str] = set()
    for name in (JSON_FILE, PREVIOUS_JSON_FILE):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            named |= {entry["file"] for entry in json.loads((folder / name).read_text())["files"].values()}
    for path in candidates:
        if path.name not in named:
            path.unlink(missing_ok=True)


# --- Load -------------------------------------------------------------------------------------------------------------


def load(path: Path, *, with_velocity: bool = False, fall_back: bool = True) -> Checkpoint:
    """Load and verify a checkpoint; if it is damaged, the state before or the run's other one, with a warning.

    Args:
        path: a checkpoint's folder, or a run's: its best/, else its last/.
        with_velocity: load what only resuming a run needs, too.
        fall_back: False: raise for a damaged checkpoint, and load no other one.

    Raises:
        UserError: a file is missing, damaged, or of another version's format; the error names it.
    """
    folder = locate(path)
    candidates = [folder / JSON_FILE, *([folder / PREVIOUS_JSON_FILE] if fall_back else [])]
    if folder == path / "best" and fall_back:
        candidates += [path / "last" / JSON_FILE, path / "last" / PREVIOUS_JSON_FILE]
    damage: DamagedCheckpointError | None = None
    for file in candidates:
        if damage and not file.is_file():
            continue
        try:
            loaded = _read(file, with_velocity)
        except DamagedCheckpointError as error:
            damage = damage or error
            continue
        if damage:
            warnings.warn(f"{damage.problem}; {file} is used instead, of step {loaded.training.get('step', 0):,}",
                          stacklevel=1)
        elif fall_back and folder == path / "last" and math.isfinite(loaded.training.get("best_error", math.inf)):
            warnings.warn(f"{path} has no best/, although an epoch of the run was validated; {folder} is used instead, "
                          f"of step {loaded.training.get('step', 0):,}", stacklevel=1)
        return loaded
    assert damage
    raise damage


def _read(path: Path, with_velocity: bool) -> Checkpoint:
    """The checkpoint that one JSON file describes."""
    tree = read_checkpoint_json(path)
    try:
        weights = _read_tensors(path.parent, tree["files"]["weights"])
        return Checkpoint(
            arch=from_json(Arch, tree["arch"]), classes=tuple(map(str, tree["classes"])),
            class_names_known=bool(tree["class_names_known"]),
            mean_HWC=weights.pop("preprocess.mean"), weights=weights,
            recipe=from_json(Recipe, tree["recipe"]) if tree["recipe"] else None,
            velocity=_read_tensors(path.parent, tree["files"]["velocity"]) if with_velocity else {},
            raw_weights=_read_tensors(path.parent, tree["files"]["raw_weights"])
            if with_velocity and "raw_weights" in tree["files"] else {},
            training=StateJson(**tree["training"]), errors=ErrorsJson(**tree["errors"]), provenance=tree["provenance"],
            calibration=calibration_from_json(tree["calibration"]), seen=_read_seen(path.parent, tree),
            versions=written_by(tree), path=path.parent if path.name == JSON_FILE else path)
    except (KeyError, TypeError, AttributeError) as error:  # its checksum is right, but its content is not ours
        raise DamagedCheckpointError(f"{path} does not describe a checkpoint ({reason_of(error)})",
                                     OTHER_CHECKPOINT) from error


def read_calibration(folder: Path) -> CalibrationJson:
    """The calibration of the checkpoint in a folder, without reading its weights. Raises UserError if it is damaged."""
    return calibration_from_json(read_checkpoint_json(folder / JSON_FILE)["calibration"])


def _read_seen(folder: Path, tree: CheckpointJson) -> SeenImages:
    """The seen images; not recorded, with a warning, if their file is damaged: the checkpoint before may have the same.
    """
    try:
        tensors = _read_tensors(folder, tree["files"]["seen"])
    except DamagedCheckpointError as error:
        warnings.warn(f"{error.problem}; so it is not known which images the network was trained on", stacklevel=1)
        return SeenImages.not_recorded(f"the weights in {folder}")
    return SeenImages.from_tensors(tensors, tuple(map(str, tree["trained_on_unknown"])))


def _read_tensors(folder: Path, entry: TensorFile) -> dict[str, Tensor]:
    data, name = read_verified(folder, entry), Path(entry["file"]).name
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # more kinds than SafetensorError: the checksum is right, so the file was written so
        raise DamagedCheckpointError(f"{folder / name} is not a safetensors file", OTHER_CHECKPOINT) from error
