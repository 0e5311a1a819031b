"""Everything that a report shows, read from a run's folder and, if available, its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch

from alexnet.architecture.arithmetic import explain
from alexnet.architecture.spec import Arch
from alexnet.data.class_names import printable
from alexnet.data.folds import folded
from alexnet.data.packed import PackedDataset, PackedSplit, is_packed, open_packed
from alexnet.data.subset import subset, tuning_images
from alexnet.errors import Finding, UserError
from alexnet.inference.class_metrics import Baselines, baselines
from alexnet.inference.neighbors import Neighbor
from alexnet.inference.predictor import model_from_checkpoint
from alexnet.inference.validation import ValidationPredictions, predict_validation
from alexnet.models import checkpoint as ckpt
from alexnet.models.checkpoint_json import CalibrationJson
from alexnet.reproduce.figures.figure4 import QUERIES, training_features
from alexnet.reproduce.report.fit import Fit, training_errors
from alexnet.training.events import (
    Config,
    EpochEvent,
    EvaluationEvent,
    Event,
    SignalsEvent,
    StepEvent,
    WarningEvent,
)
from alexnet.training.run_folder import read_config, read_log

SEARCHED_IMAGES = 4000
"""Most training images searched for the nearest ones."""

SEARCHED_MULTIPLY_ADDS = 400e9
"""Multiply-adds of the network, at most, for the features of those images: about 5 seconds on two cores."""


class EpochChange(NamedTuple):
    """A run was resumed for another number of epochs, which the learning rate follows from there on."""

    after: int
    """Epochs finished before."""
    before: int
    """The epoch that training should have ended with."""
    now: int


@dataclass(frozen=True)
class RunData:
    """A run, as its folder holds it."""

    folder: Path
    config: Config
    """config.json."""
    events: Sequence[Event]
    """log.jsonl."""
    checkpoint: ckpt.Checkpoint
    checkpoint_name: str
    """"last" or "best"."""
    predictions: ValidationPredictions | None
    """None without data, or if the network was trained on all of it."""
    nearest: Sequence[Sequence[Neighbor]] = ()
    """The training images nearest to the first of `predictions.examples`."""
    training: PackedSplit | None = None
    """The split of those training images."""
    baseline: Baselines | None = None
    """The errors of guessing on all images that `predictions` are of; None without them, or with other data."""
    fit: Fit | None = None
    """Errors on training and validation images; None without the images, or with other data."""
    other_data: str = ""
    """Name of the data that the images are of, if it is not the data that the run was trained on."""
    calibrations: Mapping[str, CalibrationJson] = field(default_factory=dict)
    """Of the checkpoints, "best" and "last", that `alexnet calibrate` gave a temperature."""

    @property
    def steps(self) -> list[StepEvent]:
        return [event for event in self.events if event["event"] == "step"]

    @property
    def signals(self) -> list[SignalsEvent]:
        return [event for event in self.events if event["event"] == "signals"]

    @property
    def epochs(self) -> list[EpochEvent]:
        return [event for event in self.events if event["event"] == "epoch"]

    @property
    def evaluations(self) -> list[EvaluationEvent]:
        return [event for event in self.events if event["event"] == "evaluation"]

    @property
    def warnings(self) -> list[WarningEvent]:
        return [event for event in self.events if event["event"] == "warning"]

    @property
    def is_head(self) -> bool:
        """Whether the output layer alone was trained, in one pass (`train --head`)."""
        return self.config["recipe"].get("optimizer") == "lbfgs"

    @property
    def mixes_images(self) -> bool:
        """Whether training images were mixed with others, by mixup or CutMix."""
        recipe = self.config["recipe"]
        return bool(recipe.get("mixup_alpha") or recipe.get("cutmix_alpha"))

    @property
    def epoch_changes(self) -> list[EpochChange]:
        """Where the run was resumed for another number of epochs."""
        starts = [event for event in self.events if event["event"] == "start" and "epochs" in event]
        return [EpochChange(after["epoch"], before["epochs"], after["epochs"]) for before, after in pairwise(starts)
                if before["epochs"] != after["epochs"]]

    @property
    def stopped_early(self) -> bool:
        """Whether training ended before its last epoch, by `Recipe.early_stop_epochs`."""
        return any(event["event"] == "end" and event.get("stopped_early") for event in self.events)

    @property
    def data_name(self) -> str:
        """Name of the data that the run was trained on."""
        return name_of(self.config["data"]["source"])


def name_of(source: str) -> str:
    """A short name of data: the last part of a path, or what the user typed."""
    return printable(Path(source).name if Path(source).is_absolute() else source)


def finding_of(warning: WarningEvent) -> Finding:
    """The finding that a `warning` event of log.jsonl holds."""
    return Finding(warning["kind"], warning["subject"], warning["problem"], warning["remedy"])


def packed_data(run: Path) -> PackedDataset | None:
    """Open the packed data that a run was trained on; None if it is no longer there."""
    folder = read_config(run)["data"].get("packed")
    return as_trained_on(run, open_packed(folder)) if folder and is_packed(folder) else None


def is_own_data(packed: PackedDataset, config: Config) -> bool:
    """Whether the data is what the run was trained on, image for image."""
    return packed.fingerprint == config["data"].get("fingerprint", packed.fingerprint)


def as_trained_on(run: Path, packed: PackedDataset) -> PackedDataset:
    """The data with the training and validation images of the run.

    They differ from the data's own under `--folds`, and in the runs of claims about few images.
    """
    data = read_config(run)["data"]
    divided = packed
    if "fold" in data:
        divided = folded(packed, *data["fold"])
    elif "subset" in data:
        images_per_class, draw, tuning = data["subset"]
        with suppress(UserError):  # other data, which has too few images for it
            divided = subset(packed, tuning_images(packed), images_per_class, draw=draw, tuning=tuning)
    return divided if divided.fingerprint == data.get("fingerprint") else packed


def read_run(run: Path, packed: PackedDataset | None = None) -> RunData:
    """Read a run's folder, and run its network on validation images of `packed`.

    Raises:
        UserError: the folder is no run, has no finished epoch or no checkpoint, or the data does not fit the network.
    """
    events = read_log(run)
    if not any(event["event"] == "epoch" for event in events):
        last = events[-1] if events else None
        reason = f" ({finding_of(last)})" if last and last["event"] == "warning" else ""
        raise UserError(f"{run} has no finished epoch to report on{reason}", "train it for at least one epoch")
    evaluated = [str(event["checkpoint"]) for event in events if event["event"] == "evaluation"][-1:]
    # `best` is what `evaluate` and `predict` use. `last` stands in for it if `best` was removed.
    name = next((name for name in (*evaluated, "best") if (run / name / ckpt.JSON_FILE).is_file()), "last")
    checkpoint = ckpt.load(run / name)
    found = RunData(run, read_config(run), events, checkpoint, name, None, calibrations=_calibrations(run))
    if packed is None:
        return found
    model = model_from_checkpoint(checkpoint)
    predictions = predict_validation(checkpoint, packed, model=(model.network, model.preprocess))
    if not predictions:
        return found
    is_own = is_own_data(packed, found.config)
    found = replace(
        found, predictions=predictions, other_data="" if is_own else name_of(packed.source),
        baseline=baselines(predictions.split.labels, packed.classes) if is_own else None)
    if "train" not in packed.splits:
        return found
    queries = predictions.split.read(predictions.indices_M[predictions.examples[:QUERIES]])
    trained = training_features(model, packed, searched_images(checkpoint.arch))
    found = replace(found, nearest=trained.nearest(model, list(queries), packed.classes), training=trained.split)
    if not is_own:
        return found
    labels_N = torch.from_numpy(trained.split.labels[trained.indices_N])
    groups_N = None if trained.split.groups is None else trained.split.groups[trained.indices_N]
    errors = training_errors(checkpoint, model, trained.features_ND, labels_N, tuple(packed.classes), groups_N)
    return replace(found, fit=Fit(errors, predictions.errors, len(trained.split)) if errors else None)


def searched_images(arch: Arch) -> int:
    """How many training images, at most, are searched for the nearest ones: fewer of a network that takes longer."""
    return max(1, min(SEARCHED_IMAGES, int(SEARCHED_MULTIPLY_ADDS / explain(arch).multiply_adds)))


def _calibrations(run: Path) -> dict[str, CalibrationJson]:
    found = {}
    for name in ("best", "last"):
        with suppress(UserError):  # a damaged or missing checkpoint has none
            found[name] = ckpt.read_calibration(run / name)
    return {name: calibration for name, calibration in found.items() if calibration}
