"""Training runs that claims share: trained once, kept in a folder, resumed if they were interrupted.

A run's folder is named by everything that determines its result (network, recipe, seed, data, precision). So claims
share runs, a finished run is never trained again, and an interrupted one continues where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

from alexnet.architecture.overrides import to_json
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.data.packed import PackedDataset
from alexnet.models import checkpoint as ckpt
from alexnet.training.build import build
from alexnet.training.events import EpochEvent, Event
from alexnet.training.run_folder import logged
from alexnet.training.spec import RunSpec

GIVE_UP_EPOCHS = 5
"""Epochs after which a search for a training error gives up on a run at chance level: its learning rate is too high."""


class _StopTraining(Exception):
    """Raised by the callback of a run that need not continue."""


@dataclass(frozen=True)
class TimeToError:
    """How long a run took to a training error."""

    epochs: float
    """Interpolated linearly between two epochs; the recipe's number of epochs if the error was not reached."""
    seconds: float
    """Of training; NaN if the run was too short to measure its speed."""
    reached: bool
    error: float
    """Training error of the epoch that reached it, or of the last."""


@dataclass
class Runs:
    """Runs on one data set in one folder. Each is trained when it is first asked for."""

    packed: PackedDataset
    folder: Path
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "cpu"
    on_event: Callable[[Event], None] = lambda event: None
    """Called with each event of a run in training, which also has `run`: the title and the seed."""
    used: set[Path] = field(default_factory=set)
    """Folders of all runs that were asked for."""

    @property
    def seconds(self) -> float:
        """Training time of all `used` runs, whenever they were trained; without evaluation."""
        return sum(_training_seconds(folder, len(self.packed.split("train"))) for folder in self.used)

    def trained(self, arch: Arch, recipe: Recipe, seed: int, title: str) -> Path:
        """Train a run to its last epoch, if necessary, and return its folder."""
        return self._train(arch, recipe, seed, title)

    def train_until(
        self, arch: Arch, recipe: Recipe, seed: int, title: str, error: float, max_epochs: float = math.inf,
    ) -> TimeToError:
        """Train a run, if necessary, until its training error is at most `error`.

        Stops early after `max_epochs` epochs, or after GIVE_UP_EPOCHS at chance level.
        """
        folder = self._train(arch, recipe, seed, title, error, max_epochs)
        curve = [(0.0, _chance(arch)), *((event["epoch"], event["train_error"]) for event in _epochs(folder))]
        seconds_per_epoch = (_training_seconds(folder, len(self.packed.split("train"))) / max(1, len(curve) - 1)
                             or math.nan)
        for (before, high), (after, low) in pairwise(curve):
            if low <= error:
                epochs = before + (after - before) * (high - error) / (high - low)
                return TimeToError(epochs, epochs * seconds_per_epoch, True, low)
        return TimeToError(recipe.epochs, recipe.epochs * seconds_per_epoch, False, curve[-1][1])

    def _train(
        self, arch: Arch, recipe: Recipe, seed: int, title: str, error: float | None = None,
        max_epochs: float = math.inf,
    ) -> Path:
        """Train what is missing of a run; error, max_epochs: as for `train_until`, None for all epochs."""
        folder = self.folder / self.name(arch, recipe, seed)
        self.used.add(folder)

        def may_stop() -> bool:
            return error is not None and _may_stop(_epochs(folder), error, max_epochs, _chance(arch))

        def watch(event: Event) -> None:
            self.on_event(event | {"run": f"{title}, seed {seed}"})
            if event["event"] == "epoch" and may_stop():
                raise _StopTraining

        if not may_stop() and not _is_finished(folder, recipe):
            spec = RunSpec(self.packed, arch, recipe, folder, seed=seed, device=self.device, precision=self.precision,
                           resume=True)
            with suppress(_StopTraining):
                build(spec, on_event=watch).fit()
        return folder

    def name(self, arch: Arch, recipe: Recipe, seed: int) -> str:
        """Name of a run's folder: the same for the same run, and different for any other."""
        identity = json.dumps([to_json(arch), to_json(recipe), seed, self.packed.fingerprint, self.precision])
        return f"{arch.name.replace(' ', '-')}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}-{seed}"


def _epochs(folder: Path) -> list[EpochEvent]:
    return [event for event in logged(folder) if event["event"] == "epoch"]


def _chance(arch: Arch) -> float:
    """Error of a network that has learned nothing."""
    return 1 - 1 / arch.classes


def _is_finished(folder: Path, recipe: Recipe) -> bool:
    epochs = _epochs(folder)
    return bool(epochs) and epochs[-1]["epoch"] >= recipe.epochs and (folder / "last" / ckpt.HEAD).exists()


def _may_stop(epochs: Sequence[EpochEvent], error: float, max_epochs: float, chance: float) -> bool:
    """Whether a run has reached an error, may take no more epochs, or is stuck at chance level."""
    errors = [event["train_error"] for event in epochs]
    stuck = len(errors) >= GIVE_UP_EPOCHS and min(errors) > 0.95 * chance
    return stuck or any(event["train_error"] <= error or event["epoch"] >= max_epochs for event in epochs)


def _training_seconds(folder: Path, images: int) -> float:
    """Training time of a run by its median speed; 0 if it has too few steps for one to be logged."""
    events = logged(folder)
    rates = [event["images_per_second"] for event in events if event["event"] == "step"]
    epochs = max((event["epoch"] for event in events if event["event"] == "epoch"), default=0)
    return epochs * images / statistics.median(rates) if rates else 0.0
