"""Training runs that claims share: trained once, kept in a folder, resumed if they were interrupted.

A run's folder is named by everything that determines its result: network, recipe, seed, data and its subset, precision,
what is measured meanwhile, and the versions of torch and of the results (`RESULTS_VERSION`). So claims share runs, a
finished run is never trained again, and an interrupted one continues where it stopped. Several commands may work in one
folder: each takes runs that no other is training. Runs of another folder or machine come from a `RunArchive`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

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
from alexnet.reproduce.finished_run import CURVE, ENDED, CleanPoint, FinishedRun, read_curve
from alexnet.reproduce.run_archive import RunArchive, restore
from alexnet.reproduce.weight_measures import TOWER_COLOR, WeightMeasure, measure_weights, measured
from alexnet.training.build import build
from alexnet.training.events import Event
from alexnet.training.spec import RunSpec
from alexnet.training.state import Diverged
from alexnet.training.trainer import Trainer

GIVE_UP_SHARE = 1 / 3
"""Share of its epochs after which a run that looks for a training error gives up at chance level."""
RESULTS_VERSION = 2
"""To be raised with every change of the package that changes what a run results in: the names of all runs change."""
POLL_SECONDS = 2.0
"""How often a command looks again whether another one has finished a run that both need."""


class _StopTraining(Exception):
    """Raised by the callback of a run that need not continue."""


@dataclass(frozen=True)
class Job:
    """A run that a claim needs."""

    data: PackedDataset
    arch: Arch
    recipe: Recipe
    seed: int
    title: str
    """For the progress bar. It does not belong to the run's identity."""
    curve_epochs: int = 0
    """Epochs between two measurements of the clean training error; 0: only after the last epoch."""
    target: float | None = None
    """Clean training error at which the run ends."""
    keep_weights: bool = True
    """Whether the weights are kept. Those of runs with tuning seeds are not needed."""
    measures: frozenset[WeightMeasure] = frozenset()
    """What must be known of the weights of the last epoch."""
    needs_weights: bool = False
    """Whether the weights themselves are needed, for an ensemble."""
    shared: bool = False
    """Whether other claims have this run, too, and may need other measures of it: all of them go into an archive."""


@dataclass
class RunStore:
    """Runs on one data set in one folder. Each is trained when it is first asked for."""

    packed: PackedDataset
    folder: Path
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "cpu"
    machines: set[str] = field(default_factory=set)
    """Where the runs that were asked for have been trained."""
    precisions: set[str] = field(default_factory=set)
    """In which precisions they have been."""
    on_event: Callable[[Event], None] = lambda event: None
    """Called with each event of a run in training, which also has `run`: the job's title."""
    on_line: Callable[[str], object] = lambda line: None
    """Called with a line for each run that has been trained, or that another command is training."""
    archive: RunArchive | None = None
    """Runs in it are not trained again, and those that are trained are added to it."""
    restored: int = 0
    """Runs that came from the archive."""
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

    def train_all(self, jobs: Sequence[Job]) -> list[FinishedRun]:
        """Train what is missing of these runs, and wait for those that another command is training."""
        self.folder.mkdir(parents=True, exist_ok=True)
        waiting, said = {self.name(job): job for job in jobs}, set[str]()
        while waiting := {name: job for name, job in waiting.items() if not self._is_finished(job)}:
            took = False
            for name, job in waiting.items():
                with file_lock(self.folder / f"{name}.lock", wait=False) as is_free:
                    if is_free and not self._is_finished(job) and not self._restore(job):
                        self._train(job)
                    took |= is_free
                if not is_free and name not in said:
                    said.add(name)
                    self.on_line(f"{job.title}: another command is training it")
            if not took:
                time.sleep(POLL_SECONDS)
        for job in jobs:
            self._measure_weights(job)
            self._add_to_archive(job)
        finished = [self._read(job) for job in jobs]
        self.machines |= {run.machine for run in finished if run.machine}
        self.precisions |= {run.precision for run in finished}
        return finished

    def name(self, job: Job) -> str:
        """Name of a run's folder: the same for the same run, and different for any other."""
        digest = _digest(job, self.precision, torch.__version__, torch.device(self.device).type)
        return f"{job.arch.name.replace(' ', '-')}-{digest}-{job.seed}"

    def _is_finished(self, job: Job) -> bool:
        """Whether a run has ended, and what the job needs of its weights is there."""
        folder = self.folder / self.name(job)
        if not (folder / ENDED).is_file():
            return False
        run = self._read(job)
        return run.diverged or run.has_weights or not (job.needs_weights or job.measures - measured(folder).keys())

    def _restore(self, job: Job) -> bool:
        """Take a run from the archive, if what the job needs of it is there."""
        archived = self.archive and self.archive.runs.get(_digest(job))
        if not archived or job.needs_weights or job.measures - archived["measured"].keys():
            return False
        restore(archived, self.folder / self.name(job))
        self.restored += 1
        return True

    def _measure_weights(self, job: Job) -> None:
        """Measure what the job needs of the weights, and what other claims may need if the run goes into an archive."""
        run = self._read(job)
        if not (run.validated and run.has_weights):
            return
        everything = frozenset(get_args(WeightMeasure)) if self.archive and job.shared else frozenset()
        colors = frozenset(TOWER_COLOR) if job.keep_weights and job.arch.towers > 1 else frozenset()
        for what in sorted(job.measures | everything | colors):
            measure_weights(what, run, self.packed, self.device)

    def _add_to_archive(self, job: Job) -> None:
        """Add a run with what is measured of it to the archive, if there is one."""
        if self.archive:
            self.archive.add(_digest(job), self._read(job))

    def _train(self, job: Job) -> None:
        folder = self.folder / self.name(job)
        if (folder / ENDED).is_file():  # without the weights that are needed now
            shutil.rmtree(folder)
        spec = RunSpec(job.data, job.arch, job.recipe, folder, seed=job.seed, device=self.device,
                       precision=self.precision, resume=True, validate_every=validation_interval(job.recipe.epochs))
        ended = "last epoch"

        def watch(event: Event) -> None:
            self.on_event(event | {"run": job.title})
            if event["event"] in ("epoch", "trained") and _is_measured(job, event["epoch"]):
                point = _measure_clean(trainer, event["epoch"])
                with (folder / CURVE).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(point) + "\n")
                if _may_stop(job, point):
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
        record = json.dumps({"ended": ended, "title": job.title, "machine": machine, "precision": self.precision})
        replace_file(folder / ENDED, lambda path: path.write_text(record))  # before its weights go
        self._measure_weights(job)
        self._add_to_archive(job)
        if not job.keep_weights:
            for part in ("best", "last"):
                shutil.rmtree(folder / part, ignore_errors=True)
        self.on_line(f"{job.title}: {self._read(job).describe()}")

    def _read(self, job: Job) -> FinishedRun:
        run = FinishedRun.read(self.folder / self.name(job), _chance(job))
        return run if run.precision else replace(run, precision=self.precision)


def validation_interval(epochs: int) -> int:
    """Epochs between two validations of a run."""
    return max(1, epochs // 5)


def _is_measured(job: Job, epoch: int) -> bool:
    """Whether the clean training error is measured after this epoch."""
    return epoch >= job.recipe.epochs or (job.curve_epochs > 0 and epoch % job.curve_epochs == 0)


def _measure_clean(trainer: Trainer, epoch: int) -> CleanPoint:
    """The errors of the training images after this epoch, of their center crops in evaluation mode."""
    errors = evaluate([(trainer.strategy.evaluated, trainer.preprocess)], trainer.training, device=trainer.device)
    return CleanPoint(epoch=epoch, train_error=errors.top1_error, train_loss=errors.loss)


def _may_stop(job: Job, point: CleanPoint) -> bool:
    """Whether a run that looks for a training error has reached it, or is still at chance level and gives up."""
    if job.target is None:
        return False
    at_chance = point["train_error"] > 0.95 * _chance(job) and point["epoch"] >= GIVE_UP_SHARE * job.recipe.epochs
    return point["train_error"] <= job.target or at_chance


def _digest(job: Job, precision: str | None = None, *where: str) -> str:
    """Identify a run, by default at any precision and on any machine."""
    identity = json.dumps([
        to_json(job.arch), to_json(job.recipe), job.seed, job.data.fingerprint, precision, job.curve_epochs,
        job.target and [job.target, GIVE_UP_SHARE], RESULTS_VERSION, *where])
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def _cut_curve(path: Path, epoch: int) -> None:
    """Remove what was measured after the epoch at which a run resumes: it is trained and measured again."""
    points = read_curve(path)
    if kept := [point for point in points if point["epoch"] <= epoch]:
        replace_file(path, lambda new: new.write_text("".join(json.dumps(point) + "\n" for point in kept)))
    else:
        path.unlink(missing_ok=True)


def _chance(job: Job) -> float:
    return 1 - 1 / len(job.data.classes)
