"""Atomic save and verified load of everything a network is: weights, preprocessing, classes, and how to go on training.

A checkpoint is a folder. `checkpoint.json` says all that is not a tensor and names the tensor files with their SHA-256;
the files' own names carry step and content, and each gets its name when it is whole, so that a save never touches what
the present `checkpoint.json` points to, and replacing that one file is the moment at which the new state counts. Kill
the process anywhere: the folder holds the old state or the new one, whole. safetensors and JSON only; nothing in it can
run.

Of what a run goes on from, the state before is kept too, as `checkpoint.previous.json`: a disk that spoils the latest
costs the steps since.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from alexnet._runtime.atomic_files import replace_file
from alexnet.architecture.overrides import from_json, to_json
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.data.preprocessing import Preprocess
from alexnet.models.alexnet import AlexNet

FORMAT = 1
HEAD, FORMER = "checkpoint.json", "checkpoint.previous.json"


class Damaged(ValueError):
    """A checkpoint, or a part of it, that is missing or not as it was written."""


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
    place: Path | None = None
    """Where it was read from."""

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
    """Write it, durably, so that `folder` holds either what it held or all of this; with velocity, both.

    Raises OSError (disk full, read-only), naming the file, with the former state intact.
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
        if checkpoint.velocity:
            _keep_former(folder, step)
        _write(folder / HEAD, json.dumps(head, indent=1).encode())
    except OSError:
        kept = _named_files(folder)
        for path in new:
            if path.name not in kept:
                path.unlink(missing_ok=True)
        raise
    _sync_folder(folder)
    kept = _named_files(folder)
    for path in (*folder.glob("*.safetensors"), *folder.glob("*.new")):
        if path.name not in kept:
            path.unlink(missing_ok=True)


def _keep_former(folder: Path, step: int) -> None:
    """Let the present head stand for the state before, unless it is damaged or was gone back from."""
    with suppress(Damaged):
        if int(_read_head(folder / HEAD)["training"].get("step", 0)) < step:
            _write(folder / FORMER, (folder / HEAD).read_bytes())


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
    """All of it or nothing, and on the disk: what is there may be what the head points to."""
    def durably(unfinished: Path) -> None:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    replace_file(path, durably)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # Windows cannot open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _named_files(folder: Path) -> set[str]:
    """The tensor files that the heads there point to, as far as they are readable."""
    named: set[str] = set()
    for head in (HEAD, FORMER):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            named |= {entry["file"] for entry in json.loads((folder / head).read_text())["files"].values()}
    return named


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
    """Read and verify; where it is damaged, the state before, or the run's other checkpoint, with a warning.

    Raises ValueError naming the file that is missing, damaged, or from a newer version.
    """
    folder = locate(path)
    heads = [folder / HEAD, folder / FORMER]
    if folder == path / "best":
        heads += [path / "last" / HEAD, path / "last" / FORMER]
    damage: Damaged | None = None
    for head in heads:
        if damage and not head.is_file():
            continue
        try:
            found = _read(head, with_velocity)
        except Damaged as error:
            damage = damage or error
            continue
        if damage:
            warnings.warn(f"{str(damage).partition(';')[0]}; {head} is used instead, of step "
                          f"{found.training.get('step', 0):,}", stacklevel=1)
        return found
    assert damage
    raise damage


def _read(path: Path, with_velocity: bool) -> Checkpoint:
    head = _read_head(path)
    try:
        read: dict[str, dict[str, Tensor]] = {"weights": {}, "velocity": {}}
        for role in ("weights", "velocity") if with_velocity else ("weights",):
            read[role] = _read_tensors(path.parent, head["files"][role])
        mean_HWC = read["weights"].pop("preprocess.mean")
        return Checkpoint(
            arch=from_json(Arch, head["arch"]), classes=tuple(map(str, head["classes"])),
            recipe=from_json(Recipe, head["recipe"]) if head["recipe"] else None, mean_HWC=mean_HWC,
            training=dict(head["training"]), errors=dict(head["errors"]), provenance=dict(head.get("provenance", {})),
            place=path.parent if path.name == HEAD else path, **read)
    except (KeyError, TypeError, AttributeError) as error:  # its checksum is right, and it is no head of ours
        raise Damaged(f"{path} does not describe a checkpoint ({error!r}); {_REMEDY}") from error


_REMEDY = "use the run's other checkpoint (best/ or last/)"


def _read_head(path: Path) -> dict[str, Any]:
    damaged = Damaged(f"{path} is damaged; {_REMEDY}")
    try:
        head = json.loads(path.read_bytes())
        digest, version = head.pop("sha256"), int(head["format"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise damaged from error
    if hashlib.sha256(json.dumps(head, indent=1).encode()).hexdigest() != digest:
        raise damaged
    if version > FORMAT:
        raise ValueError(f"{path} has format {version}, and this version reads up to {FORMAT}; upgrade alexnet")
    return head


def _read_tensors(folder: Path, entry: dict[str, Any]) -> dict[str, Tensor]:
    path = folder / Path(entry["file"]).name
    if not path.is_file():
        raise Damaged(f"{path} is missing from the checkpoint; {_REMEDY}")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise Damaged(f"{path} is damaged: {len(data)} bytes of {entry['bytes']}, and the checksum differs; {_REMEDY}")
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # more kinds than SafetensorError; the checksum is right, so somebody wrote this
        raise Damaged(f"{path} is no safetensors file; {_REMEDY}") from error
