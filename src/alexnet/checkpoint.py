"""Atomic save and verified load of everything a network is: weights, preprocessing, classes, and how to go on training.

A checkpoint is a folder. `checkpoint.json` says all that is not a tensor and names the tensor files with their SHA-256;
the files' own names carry step and content, and each gets its name when it is whole, so that a save never touches what
the present `checkpoint.json` points to, and replacing that one file is the moment at which the new state counts. Kill
the process anywhere: the folder holds the old state or the new one, whole. safetensors and JSON only; nothing in it can
run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from alexnet.augment import Preprocess
from alexnet.config import Arch, Recipe
from alexnet.model import AlexNet
from alexnet.settings import from_json, to_json

FORMAT = 1
HEAD = "checkpoint.json"


@dataclass
class Checkpoint:
    """What is saved. `training` and `velocity` are what resuming needs, and may be absent."""

    arch: Arch
    classes: tuple[str, ...]
    weights: dict[str, Tensor]
    mean_HWC: Tensor
    recipe: Recipe | None = None
    velocity: dict[str, Tensor] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    """Plain values: step, epoch, seed, the plateau's memory, sums of the running epoch, the data's fingerprint."""
    errors: dict[str, Any] = field(default_factory=dict)
    """Validation errors at the time of saving."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where weights of another project came from: `source`, `file`, `sha256`; or `init`, what training began from."""

    def network(self) -> AlexNet:
        """The network with these weights, in evaluation mode, on the CPU."""
        network = AlexNet(self.arch)
        network.load_state_dict(self.weights)
        return network.eval()

    def describe(self) -> dict[str, Any]:
        """Which weights these are: the network's name, a SHA-256 of the weights, and where they came from."""
        digest = hashlib.sha256()
        for key in sorted(self.weights):
            digest.update(key.encode() + self.weights[key].cpu().contiguous().numpy().tobytes())
        return {"arch": self.arch.name, "classes": len(self.classes), "sha256": digest.hexdigest(),
                **({"provenance": self.provenance} if self.provenance else {})}

    def preprocess(self) -> Preprocess:
        """The way from stored pixels to the network's input."""
        return Preprocess(self.arch.input, self.mean_HWC)


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """Write it, durably, so that `folder` holds either what it held or all of this.

    Raises OSError (disk full, read-only) with the former state intact.
    """
    folder.mkdir(parents=True, exist_ok=True)
    step = int(checkpoint.training.get("step", 0))
    files: dict[str, dict[str, Any]] = {}
    new: list[Path] = []
    try:
        for role, tensors in {
            "weights": checkpoint.weights | {"preprocess.mean": checkpoint.mean_HWC}, "velocity": checkpoint.velocity,
        }.items():
            data = safetensors.torch.save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
            digest = hashlib.sha256(data).hexdigest()
            path = folder / f"{role}-{step:08d}-{digest[:8]}.safetensors"
            new.append(path)
            _write(path, data)
            files[role] = {"file": path.name, "bytes": len(data), "sha256": digest}
        head = {
            "format": FORMAT, "arch": to_json(checkpoint.arch), "classes": list(checkpoint.classes),
            "recipe": to_json(checkpoint.recipe) if checkpoint.recipe else None,
            "training": checkpoint.training, "errors": checkpoint.errors, "provenance": checkpoint.provenance,
            "files": files,
            "versions": {"torch": torch.__version__},
        }
        # The head carries its own checksum, so that a flipped bit in a number is noticed too.
        text = json.dumps(head, indent=1)
        head["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        _write(folder / HEAD, json.dumps(head, indent=1).encode())
    except OSError:
        kept = _named_files(folder)
        for path in (*new, *folder.glob("*.new")):
            if path.name not in kept:
                path.unlink(missing_ok=True)
        raise
    _sync_folder(folder)
    for path in (*folder.glob("*.safetensors"), *folder.glob("*.new")):
        if path.name not in {entry["file"] for entry in files.values()}:
            path.unlink(missing_ok=True)


class Saver:
    """Saves in a thread of its own, so that a step waits for a copy of the tensors and not for the disk.

    What went wrong with a save is raised by the next `save`, or by `wait`.
    """

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="saver")
        self.under_way: deque[Future[None]] = deque()

    def save(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Begin to save what its tensors are now."""
        while self.under_way and (len(self.under_way) > 1 or self.under_way[0].done()):
            self.under_way.popleft().result()

        def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {key: tensor.detach().to("cpu", copy=True) for key, tensor in tensors.items()}

        still = replace(checkpoint, weights=copied(checkpoint.weights), velocity=copied(checkpoint.velocity))
        self.under_way.append(self.thread.submit(save, still, folder))

    def wait(self) -> None:
        """Until all of it is on the disk."""
        while self.under_way:
            self.under_way.popleft().result()


def _write(path: Path, data: bytes) -> None:
    """In one step: a second save of a step has the names of the first, and they must stay whole until it is done."""
    draft = path.with_name(f"{path.name}.new")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # Windows cannot open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _named_files(folder: Path) -> set[str]:
    """The tensor files that the present head points to; none where there is no readable head."""
    try:
        return {entry["file"] for entry in json.loads((folder / HEAD).read_text())["files"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def locate(path: Path) -> Path:
    """The checkpoint folder meant by a path: itself, or a run's `best`, else its `last`.

    Raises ValueError where there is none.
    """
    for candidate in (path, path / "best", path / "last"):
        if (candidate / HEAD).is_file():
            return candidate
    if path.name == HEAD and path.is_file():
        return path.parent
    what = "is not a checkpoint" if path.exists() else "does not exist"
    raise ValueError(f"{path} {what}; give a run's folder or its best/ or last/, which hold a {HEAD}")


def load(path: Path, *, with_velocity: bool = False) -> Checkpoint:
    """Read and verify. Raises ValueError naming the file that is missing, damaged, or from a newer version."""
    folder = locate(path)
    head = _read_head(folder / HEAD)
    tensors: dict[str, dict[str, Tensor]] = {"weights": {}, "velocity": {}}
    for role in ("weights", "velocity") if with_velocity else ("weights",):
        tensors[role] = _read_tensors(folder, head["files"][role])
    mean_HWC = tensors["weights"].pop("preprocess.mean")
    return Checkpoint(
        arch=from_json(Arch, head["arch"]), classes=tuple(head["classes"]),
        recipe=from_json(Recipe, head["recipe"]) if head["recipe"] else None, mean_HWC=mean_HWC,
        training=head["training"], errors=head["errors"], provenance=head.get("provenance", {}), **tensors)


def _read_head(path: Path) -> dict[str, Any]:
    damaged = ValueError(f"{path} is damaged; use the run's other checkpoint (best/ or last/)")
    try:
        head = json.loads(path.read_bytes())
        digest = head.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise damaged from error
    if hashlib.sha256(json.dumps(head, indent=1).encode()).hexdigest() != digest:
        raise damaged
    if head["format"] > FORMAT:
        raise ValueError(f"{path} has format {head['format']}, and this version reads up to {FORMAT}; upgrade alexnet")
    return head


def _read_tensors(folder: Path, entry: dict[str, Any]) -> dict[str, Tensor]:
    path = folder / Path(entry["file"]).name
    if not path.is_file():
        raise ValueError(f"{path} is missing from the checkpoint; use the run's other one (best/ or last/)")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise ValueError(f"{path} is damaged: {len(data)} bytes of {entry['bytes']}, and the checksum differs; "
                         "use the run's other checkpoint (best/ or last/)")
    return safetensors.torch.load(data)
