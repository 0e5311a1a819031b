"""Report sections on training: result, learning curves, diagnosis, warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup

from alexnet.architecture.arithmetic import explain, has_top5
from alexnet.data.overlap import Overlap
from alexnet.errors import Finding
from alexnet.inference.metrics import wilson
from alexnet.inference.validation import printable
from alexnet.interpret.health import HEALTHY, WARM_UP_STEPS, layer_findings, loss_finding
from alexnet.models.checkpoint_json import CalibrationJson, ErrorsJson
from alexnet.reproduce.figures.learning_curves import PANELS, CurveKey, learning_curves
from alexnet.reproduce.figures.style import svg
from alexnet.reproduce.report.run_data import RunData, finding_of
from alexnet.training.events import EpochEvent
from alexnet.training.run_folder import read_overlap

Interval = Sequence[float]
"""Lower and upper end."""


@dataclass(frozen=True)
class ErrorRate:
    """A top-k error as a fraction with its 95% interval."""

    top: int
    error: float
    interval: Interval


@dataclass(frozen=True)
class Result:
    """Errors on the validation images, and what network and data they are of."""

    arch: str
    parameters: int
    data: str
    side: int
    classes: int
    training_images: int
    validation_images: int
    undecodable: int
    """Images of both splits that could not be decoded, and are not counted."""
    checkpoint: str
    measured_images: int
    overlap: Overlap
    """Validation images that are copies of training images, or look like one."""
    measured_in: Literal["evaluation", "report", "training"]
    """What measured the errors: an evaluation in the log, this report, or training at the end of the epoch."""
    last_top1: float
    """Top-1 error that training measured after the last epoch."""
    has_top5: bool
    """False for up to five classes, whose top-5 error is always 0."""
    epoch: int
    epochs: int
    right_top1: int
    right_top5: int
    chance_top1: float
    chance_top5: float
    largest_class_error: float | None
    """Top-1 error of the answer that is always the largest class; None without the images."""
    errors: Sequence[tuple[int, Sequence[ErrorRate]]]
    """Number of views -> its errors."""
    warnings: int
    calibrations: Mapping[str, CalibrationJson]
    """Name of a checkpoint -> its temperature and calibration error."""


@dataclass(frozen=True)
class DataNotes:
    """What the data was understood to be, and what of it is not used."""

    source: str
    notes: Sequence[str]


def data(run: RunData) -> DataNotes | None:
    """The notes in the log of the last start; None for a log without."""
    notes = next((event.get("notes") for event in reversed(run.events) if event["event"] == "start"), None)
    return DataNotes(printable(run.config["data"]["source"]), list(map(printable, notes))) if notes else None


def result(run: RunData) -> Result:
    """The latest evaluation for each number of views, else what `alexnet evaluate` measures, or what training did.

    The images of `run.predictions` are those that `evaluate` measures. If they are only some of them, or the data is
    gone, the errors are those of the checkpoint.
    """
    arch, data = run.checkpoint.arch, run.config["data"]
    evaluations: dict[int, ErrorsJson] = {
        event["views"]: event for event in run.evaluations if event["checkpoint"] == run.checkpoint_name}
    measured_in: Literal["evaluation", "report", "training"] = "training"
    if evaluations:
        measured_in, measured = "evaluation", sorted(evaluations.items())
    elif run.predictions and len(run.predictions.indices_M) == len(run.predictions.split):
        measured_in, measured = "report", [(1, run.predictions.errors.to_json())]
    else:
        measured = [(1, run.checkpoint.errors or _errors_of_epoch(run))]
    first, top5 = measured[0][1], has_top5(arch.classes)
    right_top1, right_top5 = (round((1 - error) * first["photographs"])
                              for error in (first["top1_error"], first["top5_error"]))
    return Result(
        arch.name, explain(arch).parameters, run.data_name, data["side"], arch.classes, data["images"]["train"],
        data["images"]["val"], sum(data.get("undecodable", {}).values()), run.checkpoint_name,
        first["photographs"], read_overlap(run.config), measured_in, run.epochs[-1]["val_top1_error"], top5,
        run.epochs[-1]["epoch"], run.config["recipe"]["epochs"], right_top1, right_top5, 1 - 1 / arch.classes,
        1 - min(5, arch.classes) / arch.classes, _largest_class_error(run),
        [(views, _error_rates(errors)[: 2 if top5 else 1]) for views, errors in measured],
        len(run.warnings), run.calibrations)


def _largest_class_error(run: RunData) -> float | None:
    if not run.predictions:
        return None
    labels_N = run.predictions.split.labels
    return 1 - int(np.bincount(labels_N).max()) / len(labels_N)


def _error_rates(errors: ErrorsJson) -> list[ErrorRate]:
    """The top-1 and the top-5 error."""
    top1, top5 = errors["interval"]["top1_error"], errors["interval"]["top5_error"]
    return [ErrorRate(1, errors["top1_error"], top1), ErrorRate(5, errors["top5_error"], top5)]


def _errors_of_epoch(run: RunData) -> ErrorsJson:
    """Errors of the checkpoint's epoch in the log, for one that was saved within the next epoch and so has none."""
    images = run.config["data"]["images"]["val"]
    epoch = run.epochs[-1] if run.checkpoint_name == "last" else min(
        run.epochs, key=lambda each: (each["val_top1_error"], each["val_loss"]))
    top1, top5 = epoch["val_top1_error"], epoch["val_top5_error"]
    return {"photographs": images, "top1_error": top1, "top5_error": top5,
            "interval": {"top1_error": wilson(round(top1 * images), images),
                         "top5_error": wilson(round(top5 * images), images)}}


@dataclass(frozen=True)
class CurvePanel:
    """A figure and its text alternative."""

    alt: str
    svg: Markup


@dataclass(frozen=True)
class Curves:
    """Learning curves, and the numbers that they draw."""

    panels: Sequence[CurvePanel]
    epochs: Sequence[EpochEvent]
    label_smoothing: float
    is_head: bool
    """The output layer alone was trained, in one pass (`train --head`), so there is nothing to draw."""
    is_mirrored: bool
    """The training images were mirrored, too."""
    mixes_images: bool
    """Whether the training images were mixed with others, by mixup or CutMix."""


def curves(run: RunData) -> Curves:
    """One figure for each panel, so that narrow screens show them one below the other."""
    epochs, recipe = run.epochs, run.config["recipe"]
    is_head = recipe.get("optimizer") == "lbfgs"

    def ends(key: CurveKey) -> str:
        return f"from {epochs[0][key]:.3g} to {epochs[-1][key]:.3g}"

    panels = []
    for name, panel in () if is_head else PANELS.items():
        values = (f"training {ends(panel.training)}, validation {ends(panel.validation)}" if panel.validation
                  else ends(panel.training))
        panels.append(CurvePanel(f"{panel.title} over {len(epochs)} epochs: {values}",
                                 Markup(svg(learning_curves(epochs, [name]), name))))
    return Curves(panels, epochs, recipe.get("label_smoothing", 0), is_head, bool(recipe.get("mirror", True)),
                  bool(recipe.get("mixup_alpha") or recipe.get("cutmix_alpha")))


@dataclass(frozen=True)
class Diagnosis:
    """What the latest measurement of activations and updates says of the network's health."""

    findings: Sequence[Finding]
    too_short: bool
    """The measurement was made while the weights had not settled, so layers are not judged."""
    warm_up_steps: int
    healthy: str
    """The sentence to show without findings."""
    step: int
    activation: str
    layers: Sequence[tuple[str, float, float]]
    """Layer, share of saturated values (of ReLUs: zeros), share of dead units."""
    update_ratios: dict[str, float]
    """Layer -> mean absolute update over mean absolute weight."""


def diagnosis(run: RunData) -> Diagnosis | None:
    """Judge the latest `signals` event of the log; None if there is none."""
    if not (signals := run.signals):
        return None
    arch, last, epoch = run.checkpoint.arch, signals[-1], run.epochs[-1]
    loss = loss_finding(epoch["train_loss"], arch.classes, epoch["step"], arch.norm)
    too_short = last["step"] <= WARM_UP_STEPS
    layers = [] if too_short else layer_findings(
        arch.activation, last["saturated"], last["dead"], last["ratio"], arch.norm)
    return Diagnosis(
        [*([loss] if loss else []), *layers], too_short, WARM_UP_STEPS, HEALTHY, last["step"], arch.activation,
        [(name, share, last["dead"][name]) for name, share in last["saturated"].items()], last["ratio"])


@dataclass(frozen=True)
class Warnings:
    """Warnings of the log, and how far the run came."""

    findings: Sequence[tuple[int, Finding]]
    """Step and finding."""
    epoch: int
    epochs: int
    stopped_early: int
    """Epochs without a lower validation error after which the run ended; 0 if it did not end in this way."""


def warnings(run: RunData) -> Warnings:
    """Every warning in the log."""
    stopped_early = any(event["event"] == "end" and event.get("stopped_early") for event in run.events)
    recipe = run.config["recipe"]
    return Warnings([(event["step"], finding_of(event)) for event in run.warnings], run.epochs[-1]["epoch"],
                    recipe["epochs"], recipe.get("early_stop_epochs", 0) if stopped_early else 0)
