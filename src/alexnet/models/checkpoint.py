"""Checkpoints: save and load weights, preprocessing, classes and training state, atomically and with checksums.

A checkpoint is a folder. `checkpoint.json`, the head, holds everything that is not a tensor, and names the safetensors
files with their SHA-256. A tensor file's name contains its step and checksum, so a save never overwrites a file that
the current head names; replacing the head is the moment at which the new state is valid. If the process is killed at
any point, the folder holds the old state or the new one, complete. Loading executes nothing: the files are JSON and
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import safetensors.torch
import torch
from torch import Tensor

from alexnet._runtime.atomic_files import replace_durably
from alexnet._runtime.local_files import require_no_url
from alexnet.architecture.overrides import Json, from_json, to_json
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.data.preprocessing import Preprocess
from alexnet.errors import UserError
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint_json import CalibrationJson, ErrorsJson, StateJson, calibration_from_json
from alexnet.models.provenance import Provenance, WeightsDescription
from alexnet.models.seen import SeenImages

FORMAT = 5
HEAD, PREVIOUS_HEAD = "checkpoint.json", "checkpoint.previous.json"

_REMEDY = "use the run's other checkpoint (best/ or last/)"


class DamagedCheckpointError(UserError):
    """A file of a checkpoint is missing, or its checksum is wrong."""


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
    """The temperature that the predictions use, which leaves the weights as they are."""
    path: Path | None = None
    """The folder that it was loaded from; the file, if that was `checkpoint.previous.json`."""

    def network(self, *, calibrated: bool = True) -> AlexNet:
        """Build the network with these weights, in evaluation mode, on the CPU.

        Args:
            calibrated: divide the logits by the temperature of `calibration`, if there is one. False: the network as it
                was trained.
        """
        temperature = self.calibration.get("temperature", 1.0) if calibrated else 1.0
        network = AlexNet(self.arch, seed=None, temperature=temperature)
        network.load_state_dict(self.weights)
        return network.eval()

    def preprocess(self) -> Preprocess:
        """Build the preprocessing that belongs to the network."""
        return Preprocess(self.arch.input, self.mean_HWC)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the weights before trusting a result: what was assumed, and what is unknown."""
        unnamed = (f"the weights have no class names, so their {len(self.classes):,} outputs are called output 0 to "
                   f"output {len(self.classes) - 1}; give names with --classes FILE, to predict, evaluate or import",)
        return (*self.provenance.get("assumed", ()), *(() if self.class_names_known else unnamed))

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


class _TensorFile(TypedDict):
    file: str
    bytes: int
    sha256: str


class _Head(TypedDict):
    """checkpoint.json, without the SHA-256 of itself that the file also has."""

    format: int
    arch: Json
    classes: list[str]
    class_names_known: bool
    recipe: Json
    training: StateJson
    errors: ErrorsJson
    provenance: Provenance
    calibration: CalibrationJson
    trained_on_unknown: list[str]
    """`SeenImages.unknown`; its hashes are in the tensor file `seen`."""
    files: dict[str, _TensorFile]
    versions: dict[str, str]


# --- Save -------------------------------------------------------------------------------------------------------------


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint durably: afterwards `folder` holds it, or, after any failure, what it held before.

    A checkpoint with velocity also keeps the state before.

    Raises:
        OSError: the disk is full or read-only; the error names the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    step = checkpoint.training.get("step", 0)
    files: dict[str, _TensorFile] = {}
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
        replace_durably(folder / HEAD, _head_bytes(checkpoint, files))
    except OSError:
        _delete_unnamed(folder, written)
        raise
    _sync_folder(folder)
    _delete_unnamed(folder, [*folder.glob("*.safetensors"), *folder.glob("*.new")])


def _save_seen(seen: SeenImages, folder: Path, written: list[Path]) -> _TensorFile:
    """Write the hashes of the seen images, unless the folder has them: a run's are the same at each of its saves."""
    data = safetensors.torch.save(seen.to_tensors())
    digest = hashlib.sha256(data).hexdigest()
    path = folder / f"seen-{digest[:8]}.safetensors"
    if not (path.is_file() and path.read_bytes() == data):  # a damaged file is written again
        written.append(path)
        replace_durably(path, data)
    return {"file": path.name, "bytes": len(data), "sha256": digest}


def _head_bytes(checkpoint: Checkpoint, files: dict[str, _TensorFile]) -> bytes:
    head: _Head = {
        "format": FORMAT, "arch": to_json(checkpoint.arch), "classes": list(checkpoint.classes),
        "class_names_known": checkpoint.class_names_known,
        "recipe": to_json(checkpoint.recipe) if checkpoint.recipe else None,
        "training": checkpoint.training, "errors": checkpoint.errors, "provenance": checkpoint.provenance,
        "calibration": checkpoint.calibration, "trained_on_unknown": list(checkpoint.seen.unknown), "files": files,
        "versions": {"torch": torch.__version__}}
    # The head holds its own checksum, so that a flipped bit in one of its numbers is detected as well.
    digest = hashlib.sha256(json.dumps(head, indent=1).encode()).hexdigest()
    return json.dumps({**head, "sha256": digest}, indent=1).encode()


def _keep_previous(folder: Path, step: int) -> None:
    """Copy the current head to `PREVIOUS_HEAD`, unless it is damaged or is not of an earlier step."""
    with suppress(UserError):
        if int(_read_head(folder / HEAD)["training"].get("step", 0)) < step:
            replace_durably(folder / PREVIOUS_HEAD, (folder / HEAD).read_bytes())


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # Windows cannot open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _delete_unnamed(folder: Path, candidates: list[Path]) -> None:
    """Delete those files that neither head names."""
    named: set[str] = set()
    for head in (HEAD, PREVIOUS_HEAD):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            named |= {entry["file"] for entry in json.loads((folder / head).read_text())["files"].values()}
    for path in candidates:
        if path.name not in named:
            path.unlink(missing_ok=True)


# --- Load -------------------------------------------------------------------------------------------------------------


def locate(path: Path) -> Path:
    """Find the checkpoint's folder: `path` itself, or a run's `best`, else its `last`.

    Raises:
        UserError: there is none.
    """
    for candidate in (path, path / "best", path / "last"):
        if (candidate / HEAD).is_file():
            return candidate
    if path.name == HEAD and path.is_file():
        return path.parent
    require_no_url(path, "checkpoints")
    require_single_run(path)
    raise UserError(f"{path} {'is not a checkpoint' if path.exists() else 'does not exist'}",
                    f"give a run's folder or its best/ or last/, which hold a {HEAD}")


def require_single_run(path: Path) -> None:
    """Raise UserError, which names the runs, for a folder of several runs such as that of `train --folds`."""
    runs = runs_in(path)
    if not runs:
        return
    series = {"fold": " of `alexnet train --folds`", "seed": " of `alexnet train --seeds`"}
    kinds = {run.name.rpartition("-")[0] for run in runs}
    more = f" and {len(runs) - 5} more" if len(runs) > 5 else ""
    raise UserError(f"{path} is not a run itself: it holds {len(runs)} run{'s' * (len(runs) > 1)}"
                    f"{series.get(kinds.pop(), '') if len(kinds) == 1 else ''}",
                    f"name one of them: {', '.join(map(str, runs[:5]))}{more}")


def runs_in(path: Path) -> list[Path]:
    """The runs directly in a folder, such as those of `train --seeds`; none in a run's own folder."""
    return sorted({head.parents[1] for name in ("best", "last") for head in path.glob(f"*/{name}/{HEAD}")})


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
    heads = [folder / HEAD, *([folder / PREVIOUS_HEAD] if fall_back else [])]
    if folder == path / "best" and fall_back:
        heads += [path / "last" / HEAD, path / "last" / PREVIOUS_HEAD]
    damage: DamagedCheckpointError | None = None
    for head in heads:
        if damage and not head.is_file():
            continue
        try:
            loaded = _read(head, with_velocity)
        except DamagedCheckpointError as error:
            damage = damage or error
            continue
        if damage:
            warnings.warn(f"{damage.problem}; {head} is used instead, of step {loaded.training.get('step', 0):,}",
                          stacklevel=1)
        elif fall_back and folder == path / "last" and math.isfinite(loaded.training.get("best_error", math.inf)):
            warnings.warn(f"{path} has no best/, although an epoch of the run was validated; {folder} is used instead, "
                          f"of step {loaded.training.get('step', 0):,}", stacklevel=1)
        return loaded
    assert damage
    raise damage


def _read(path: Path, with_velocity: bool) -> Checkpoint:
    """The checkpoint of one head."""
    head = _read_head(path)
    try:
        weights = _read_tensors(path.parent, head["files"]["weights"])
        return Checkpoint(
            arch=from_json(Arch, head["arch"]), classes=tuple(map(str, head["classes"])),
            class_names_known=bool(head["class_names_known"]),
            mean_HWC=weights.pop("preprocess.mean"), weights=weights,
            recipe=from_json(Recipe, head["recipe"]) if head["recipe"] else None,
            velocity=_read_tensors(path.parent, head["files"]["velocity"]) if with_velocity else {},
            raw_weights=_read_tensors(path.parent, head["files"]["raw_weights"])
            if with_velocity and "raw_weights" in head["files"] else {},
            training=StateJson(**head["training"]), errors=ErrorsJson(**head["errors"]), provenance=head["provenance"],
            calibration=calibration_from_json(head["calibration"]), seen=_read_seen(path.parent, head),
            path=path.parent if path.name == HEAD else path)
    except (KeyError, TypeError, AttributeError) as error:  # its checksum is right, but its content is not ours
        raise DamagedCheckpointError(f"{path} does not describe a checkpoint ({error!r})", _REMEDY) from error


def read_calibration(folder: Path) -> CalibrationJson:
    """The calibration of the checkpoint in a folder, without reading its weights. Raises UserError if it is damaged."""
    return calibration_from_json(_read_head(folder / HEAD)["calibration"])


def _read_seen(folder: Path, head: _Head) -> SeenImages:
    """The seen images; not recorded, with a warning, if their file is damaged, which both heads may share."""
    try:
        tensors = _read_tensors(folder, head["files"]["seen"])
    except DamagedCheckpointError as error:
        warnings.warn(f"{error.problem}; so it is not known which images the network was trained on", stacklevel=1)
        return SeenImages.not_recorded(f"the weights in {folder}")
    return SeenImages.from_tensors(tensors, tuple(map(str, head["trained_on_unknown"])))


def _read_head(path: Path) -> _Head:
    damaged = DamagedCheckpointError(f"{path} is damaged", _REMEDY)
    try:
        head = json.loads(path.read_bytes())
        digest, version = head.pop("sha256"), int(head["format"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise damaged from error
    if hashlib.sha256(json.dumps(head, indent=1).encode()).hexdigest() != digest:
        raise damaged
    if version != FORMAT:
        raise UserError(f"{path} has format {version}, and this version of alexnet reads format {FORMAT}",
                        "upgrade alexnet" if version > FORMAT else "load it with the version that wrote it")
    return head


def _read_tensors(folder: Path, entry: _TensorFile) -> dict[str, Tensor]:
    path = folder / Path(entry["file"]).name
    if not path.is_file():
        raise DamagedCheckpointError(f"{path} is missing from the checkpoint", _REMEDY)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise DamagedCheckpointError(
            f"{path} is damaged: {len(data)} bytes of {entry['bytes']}, and the checksum differs", _REMEDY)
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # more kinds than SafetensorError: the checksum is right, so the file was written so
        raise DamagedCheckpointError(f"{path} is no safetensors file", _REMEDY) from error
