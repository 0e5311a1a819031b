"""Training runs that claims share: trained once, kept in a folder, resumed if they were interrupted.

A run's folder is named by everything that determines its result: network, recipe, seed, data and its subset, precision,
what is measured meanwhile, and the versions of torch and of the results (`RESULTS_VERSION`). So claims share runs, a
finished run is never trained again, and an interrupted one continues where it stopped. Several commands may work in one
folder: each takes runs that no other is training.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.devices import describe_machine
from alexnet._runtime.locks import file_lock
from alexnet.architecture.overrides import to_json
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.data.packed import PackedDataset
from alexnet.data.subset import subset, tuning_images
from alexnet.inference.evaluate import evaluate
from alexnet.training.build import build
from alexnet.training.events import EpochEvent, Event
from alexnet.training.run_folder import logged
from alexnet.training.spec import RunSpec
from alexnet.training.state import Diverged
from alexnet.training.trainer import Trainer

GIVE_UP_SHARE = 1 / 3
"""Share of its epochs after which a run that looks for a training error gives up at chance level."""
RESULTS_VERSION = 2
"""To be raised with every change of the package that changes what a run results in: the names of all runs change."""
POLL_SECONDS = 2.0
"""How often a command looks again whether another one has finished a run that both need."""
CURVE, ENDED = "clean.jsonl", "ended.json"
"""In a run's folder: the clean training errors, and how the run ended. Without the second it is not finished."""


class _StopTraining(Exception):
    """Raised by the callback of a run that need not continue."""


class CleanPoint(TypedDict):
    """Errors of the training images after an epoch, of their center crops in evaluation mode."""

    epoch: int
    train_error: float
    train_loss: float


@dataclass(frozen=True)
class Job:
    """A run that a claim needs."""

    data: PackedDataset
    arch: Arch
    recipe: Recipe
    seed: int
    title: str
    """For the progress bar. It does not belong to the run's identity."""
    curve: int = 0
    """Epochs between two measurements of the clean training error; 0: only after the last epoch."""
    target: float | None = None
    """Clean training error at which the run ends."""
    keep: bool = True
    """Whether the weights are kept. Those of runs with tuning seeds are not needed."""


@dataclass(frozen=True)
class FinishedRun:
    """What a finished run has recorded."""

    folder: Path
    diverged: bool
    curve: tuple[CleanPoint, ...]
    """Clean training errors, the last one at the last weights."""
    validated: EpochEvent | None
    """The last epoch. None if the run diverged or ended at its target."""
    chance: float
    """Error of a network that has learned nothing."""
    machine: str
    """Where it was trained, with the version of torch."""

    def epochs_to(self, target: float) -> float | None:
        """Epochs to a clean training error, by a straight line between two measurements; None: not reached."""
        points = [(0, self.chance), *((point["epoch"], point["train_error"]) for point in self.curve)]
        for (before, high), (after, low) in pairwise(points):
            if low <= target:
                return before + (after - before) * (high - target) / (high - low)
        return None

    def describe(self) -> str:
        """The last errors in a line."""
        if self.diverged:
            return "diverged"
        last = self.curve[-1]
        clean = f"clean training error {last['train_error']:.1%} after {last['epoch']} epochs"
        return f"top-1 error {self.validated['val_top1_error']:.1%}, {clean}" if self.validated else clean


@dataclass
class Runs:
    """Runs on one data set in one folder. Each is trained when it is first asked for."""

    packed: PackedDataset
    folder: Path
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "cpu"
    machines: set[str] = field(default_factory=set)
    """Where the runs that were asked for have been trained."""
    on_event: Callable[[Event], None] = lambda event: None
    """Called with each event of a run in training, which also has `run`: the job's title."""
    on_line: Callable[[str], object] = lambda line: None
    """Called with a line for each run that has been trained, or that another command is training."""
    _subsets: dict[tuple[int | None, int, bool], PackedDataset] = field(default_factory=dict)
    _is_tuning_N: NDArray[np.bool_] | None = None

    def subset(self, images_per_class: int | None, *, draw: int = 0, tuning: bool = False) -> PackedDataset:
        """The data with a random subset of its training images; tuning: validated on the tuning split."""
        if images_per_class is None:
            draw = 0
        if images_per_class is None and not tuning:
            return self.packed
        if self._is_tuning_N is None:
            self._is_tuning_N = tuning_images(self.packed)
        if (key := (images_per_class, draw, tuning)) not in self._subsets:
            self._subsets[key] = subset(self.packed, self._is_tuning_N, images_per_class, draw=draw,
                                         tuning=tuning)
        return self._subsets[key]

    def trained(self, jobs: Sequence[Job]) -> list[FinishedRun]:
        """Train what is missing of these runs, and wait for those that another command is training."""
        self.folder.mkdir(parents=True, exist_ok=True)
        waiting, said = list(dict.fromkeys(map(self.name, jobs))), set[str]()
        by_name = {self.name(job): job for job in jobs}
        while waiting := [name for name in waiting if not self._is_finished(name)]:
            took = False
            for name in waiting:
                with file_lock(self.folder / f"{name}.lock", wait=False) as is_free:
                    if is_free and not self._is_finished(name):
                        self._train(by_name[name])
                    took |= is_free
                if not is_free and name not in said:
                    said.add(name)
                    self.on_line(f"{by_name[name].title}: another command is training it")
            if not took:
                time.sleep(POLL_SECONDS)
        finished = [self._read(job) for job in jobs]
        self.machines |= {run.machine for run in finished if run.machine}
        return finished

    def name(self, job: Job) -> str:
        """Name of a run's folder: the same for the same run, and different for any other."""
        identity = json.dumps([
            to_json(job.arch), to_json(job.recipe), job.seed, job.data.fingerprint, self.precision, job.curve,
            job.target and [job.target, GIVE_UP_SHARE], RESULTS_VERSION, torch.__version__,
            torch.device(self.device).type])
        return f"{job.arch.name.replace(' ', '-')}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}-{job.seed}"

    def _is_finished(self, name: str) -> bool:
        return (self.folder / name / ENDED).is_file()

    def _train(self, job: Job) -> None:
        folder = self.folder / self.name(job)
        spec = RunSpec(job.data, job.arch, job.recipe, folder, seed=job.seed, device=self.device,
                       precision=self.precision, resume=True, validate_every=max(1, job.recipe.epochs // 5))
        ended = "last epoch"

        def watch(event: Event) -> None:
            self.on_event(event | {"run": job.title})
            if event["event"] in ("epoch", "trained") and self._measure(job, trainer, folder, event["epoch"]):
                raise _StopTraining

        trainer = build(spec, on_event=watch)
        _cut_curve(folder / CURVE, trainer.state.epoch)
        try:
            trainer.fit()
        except _StopTraining:
            ended = "stopped"
        except Diverged:
            ended = "diverged"
        machine = describe_machine(self.device)
        record = json.dumps({"ended": ended, "title": job.title, "machine": machine})
        replace_file(folder / ENDED, lambda path: path.write_text(record))  # before its weights go
        if not job.keep:
            for part in ("best", "last"):
                shutil.rmtree(folder / part, ignore_errors=True)
        self.on_line(f"{job.title}: {self._read(job).describe()}")

    def _measure(self, job: Job, trainer: Trainer, folder: Path, epoch: int) -> bool:
        """Append the clean training error to the curve, where it is due; whether the run may end."""
        if epoch < job.recipe.epochs and not (job.curve and epoch % job.curve == 0):
            return False
        errors = evaluate([(trainer.strategy.evaluated, trainer.preprocess)], trainer.training, device=trainer.device)
        point = CleanPoint(epoch=epoch, train_error=errors.top1_error, train_loss=errors.loss)
        with (folder / CURVE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(point) + "\n")
        if job.target is None:
            return False
        at_chance = point["train_error"] > 0.95 * _chance(job) and epoch >= GIVE_UP_SHARE * job.recipe.epochs
        return point["train_error"] <= job.target or at_chance

    def _read(self, job: Job) -> FinishedRun:
        folder = self.folder / self.name(job)
        record = json.loads((folder / ENDED).read_text(encoding="utf-8"))
        points = {point["epoch"]: point for point in _read_curve(folder / CURVE)}
        epochs = [event for event in logged(folder) if event["event"] == "epoch"]
        validated = epochs[-1] if record["ended"] == "last epoch" else None
        return FinishedRun(folder, record["ended"] == "diverged", tuple(points[epoch] for epoch in sorted(points)),
                           validated, _chance(job), record.get("machine", ""))


def _read_curve(path: Path) -> list[CleanPoint]:
    """The measurements in a file; of one in which a killed run left half a line, the whole lines."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def _cut_curve(path: Path, epoch: int) -> None:
    """Remove what was measured after the epoch at which a run resumes: it is trained and measured again."""
    points = _read_curve(path)
    if kept := [point for point in points if point["epoch"] <= epoch]:
        replace_file(path, lambda new: new.write_text("".join(json.dumps(point) + "\n" for point in kept)))
    else:
        path.unlink(missing_ok=True)


def _chance(job: Job) -> float:
    return 1 - 1 / len(job.data.classes)
