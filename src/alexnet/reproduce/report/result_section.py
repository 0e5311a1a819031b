"""Report section on the result: the errors on the validation images, and of which network and data they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from alexnet.architecture.arithmetic import explain
from alexnet.data.class_names import printable
from alexnet.data.overlap import Overlap
from alexnet.inference.grouped import FEW_GROUPS, GroupedSample
from alexnet.inference.metrics import Errors
from alexnet.inference.selection import Selection
from alexnet.models.checkpoint_json import CalibrationJson, ErrorsJson, has_top5
from alexnet.reproduce.report.run_data import RunData
from alexnet.training.run_folder import read_overlap

Interval = Sequence[float]
"""Lower and upper end."""

MeasuredIn = Literal["evaluation", "report", "training"]
"""What measured the errors: an evaluation in the log, this report, or training at the end of the epoch."""


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
    groups: int | None
    """Groups of the measured images, which the intervals are over; None for images without groups."""
    overlap: Overlap
    """Validation images that are copies of training images, or look like one."""
    unknown: Sequence[str]
    """Initial weights whose training images are not recorded."""
    measured_in: MeasuredIn
    selection: Selection | None
    """How the measured images were chosen, if this report measured them."""
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
    largest_class: str
    """The class with the most images; "" if several have as many, or it is not known."""
    largest_class_error: float | None
    """Top-1 error of the answer that is always the largest class; None without the images."""
    guessing_error: float
    """The lower of `largest_class_error` and `chance_top1`."""
    errors: Sequence[tuple[int, Sequence[ErrorRate]]]
    """Number of views -> its errors."""
    warnings: int
    is_head: bool
    """Whether the output layer alone was trained, in one pass (`train --head`)."""
    calibrations: Mapping[str, CalibrationJson]
    """Name of a checkpoint -> its temperature and calibration error."""

    @property
    def has_few_groups(self) -> bool:
        """Whether the intervals are unreliable, because the groups are too few to tell how much they differ."""
        return self.groups is not None and self.groups < FEW_GROUPS


def result(run: RunData) -> Result:
    """The latest evaluation for each number of views, else what `alexnet evaluate` measures, or what training did.

    The images of `run.predictions` are those that `evaluate` measures. If they are only some of them, or of other data,
    or the data is gone, the errors are those of the checkpoint.
    """
    arch, data = run.checkpoint.arch, run.config["data"]
    evaluations: dict[int, ErrorsJson] = {
        event["views"]: event for event in run.evaluations if event["checkpoint"] == run.checkpoint_name}
    measured_in: MeasuredIn = "training"
    if evaluations:
        measured_in, measured = "evaluation", sorted(evaluations.items())
    elif run.predictions and not run.other_data and len(run.predictions.indices_M) == len(run.predictions.split):
        measured_in, measured = "report", [(1, run.predictions.errors.to_json())]
    else:
        measured = [(1, run.checkpoint.errors or _errors_of_epoch(run))]
    first, top5, guessing = measured[0][1], has_top5(arch.classes), run.baseline
    right_top1, right_top5 = (round((1 - error) * first["images"])
                              for error in (first["top1_error"], first["top5_error"]))
    chance = 1 - 1 / arch.classes
    return Result(
        arch.name, explain(arch).parameters, run.data_name, data["side"], arch.classes, data["images"]["train"],
        data["images"]["val"], sum(data.get("undecodable", {}).values()), run.checkpoint_name,
        first["images"], first.get("groups"), read_overlap(run.config), run.checkpoint.seen.unknown, measured_in,
        run.predictions.selection if run.predictions and measured_in == "report" else None,
        run.epochs[-1]["val_top1_error"], top5, run.epochs[-1]["epoch"], run.config["recipe"]["epochs"],
        right_top1, right_top5, chance, 1 - min(5, arch.classes) / arch.classes,
        printable(guessing.largest_class or "") if guessing else "", guessing.largest_class_error if guessing else None,
        min(chance, guessing.largest_class_error) if guessing else chance,
        [(views, _error_rates(errors)[: 2 if top5 else 1]) for views, errors in measured],
        len(run.warnings), run.is_head, run.calibrations)


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
    return Errors(images, epoch["val_loss"] * images, round(top1 * images), round(top5 * images),
                  GroupedSample.from_json(epoch.get("val_groups", {}))).to_json()
