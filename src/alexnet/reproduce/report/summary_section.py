"""The report's first screen: how good the network is, what it confuses, whether to train longer, what is next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from alexnet.architecture.training_only import training_only
from alexnet.errors import and_list
from alexnet.reproduce.report.commands import longer_command, next_commands
from alexnet.reproduce.report.fit import Fit
from alexnet.reproduce.report.image_sections import class_errors_of, most_confused
from alexnet.reproduce.report.result_section import result
from alexnet.reproduce.report.run_data import RunData
from alexnet.training.overfitting import SUSTAINED, overfitting_remedy

WIDE_INTERVAL = 0.2
"""Width of an error's interval from which the number of images is called small."""

RISEN_LOSS = 1.05
"""Validation loss of each of the last three epochs over the lowest one, from which the loss has risen."""

UNEVEN = 1.2
"""Images of the largest class over those of the smallest, from which the mean of the classes' errors is shown too."""

Verdict = Literal["better", "not_better", "unknown"]
"""Whether the error's whole interval is below the errors of guessing and of always answering the largest class."""

Outlook = Literal["unfinished", "head", "stopped_early", "perfect", "risen_loss", "unmeasured", "underfitting",
                  "overfitting", "both", "undecided", "neither"]
"""Whether more epochs would help, and why."""


@dataclass(frozen=True)
class Confusion:
    """Images of one class that were classified as another one."""

    truth: str
    predicted: str
    count: int
    images: int
    """Of the true class."""


@dataclass(frozen=True)
class BalancedError:
    """The mean of the classes' errors, in which a small class counts as much as a large one."""

    error: float
    smallest: int
    """Images of the class with the fewest."""
    largest: int


@dataclass(frozen=True)
class Summary:
    """What a user wants to know first."""

    verdict: Verdict
    is_wide: bool
    """The interval is wide, because the images are few."""
    confusions: Sequence[Confusion] | None
    """The most frequent first; None without the images."""
    balanced: BalancedError | None
    """None without the images, and where all classes have about as many."""
    never_right: Sequence[tuple[str, int]]
    """Classes of which no image was classified correctly, and how many images they have."""
    outlook: Outlook
    fit: Fit | None
    overfitting_remedy: str
    training_only: str
    """Augmentations and dropout, which the training errors of the log are measured with; "" without any."""
    regularization: str
    """These, with weight decay and label smoothing; "" without any."""
    is_pretrained: bool
    """Training started from trained weights."""
    best_loss_epoch: int
    """The epoch with the lowest validation loss."""
    longer: str
    """The command line of a run of twice the epochs; "" if it is not known."""
    next_commands: Sequence[tuple[str, str]]
    """What each does, and the command line."""
    other_data: str
    """`RunData.other_data`."""
    unmeasured: tuple[str, ...]
    """Classes without validation images; () if there are none, or without the images."""


def summary(run: RunData) -> Summary:
    """Answers from the errors, the confusion matrix and the learning curves."""
    shown = result(run)
    low, high = shown.errors[0][1][0].interval
    is_pretrained = "init" in run.checkpoint.provenance
    verdict: Verdict = "better" if high < shown.guessing_error else "not_better"
    if shown.largest_class_error is None:
        verdict = "unknown"
    return Summary(
        verdict, high - low > WIDE_INTERVAL, _confusions(run), _balanced(run), _never_right(run), outlook(run), run.fit,
        overfitting_remedy(is_pretrained, run.checkpoint.recipe, run.config["data"]["images"]["val"]),
        and_list(_training_only(run)),
        and_list(_regularization(run)), is_pretrained, _best_loss_epoch(run),
        longer_command(run.config, 2 * run.config["recipe"]["epochs"]),
        next_commands(run.config, str(run.folder)), run.other_data, _unmeasured(run))


def outlook(run: RunData) -> Outlook:
    """Judge the validation loss, and the errors on training and validation images (`Fit.kind`)."""
    last, epochs = run.epochs[-1], run.config["recipe"]["epochs"]
    if run.is_head:
        return "head"
    if run.stopped_early:
        return "stopped_early"
    if last["epoch"] < epochs:
        return "unfinished"
    if last["val_top1_error"] == 0:
        return "perfect"
    lowest, recent = min(epoch["val_loss"] for epoch in run.epochs), run.epochs[-SUSTAINED:]
    if (len(run.epochs) > SUSTAINED and all(epoch["val_loss"] > RISEN_LOSS * lowest for epoch in recent)
            and last["train_loss"] < run.epochs[0]["train_loss"]):
        return "risen_loss"
    return run.fit.kind if run.fit else "unmeasured"


def _balanced(run: RunData) -> BalancedError | None:
    if not run.predictions:
        return None
    errors = class_errors_of(run.predictions)
    smallest, largest = (choose(each.images for each in errors) for choose in (min, max))
    return BalancedError(sum(each.error for each in errors) / len(errors), smallest, largest) if (
        largest >= UNEVEN * smallest) else None


def _never_right(run: RunData) -> list[tuple[str, int]]:
    if not run.predictions:
        return []
    return [(each.name, each.images) for each in class_errors_of(run.predictions) if each.wrong == each.images]


def _unmeasured(run: RunData) -> tuple[str, ...]:
    if not run.predictions or run.other_data:
        return ()
    classes = run.predictions.classes
    images_K = np.bincount(run.predictions.split.labels, minlength=len(classes))
    return tuple(classes[label] for label in np.flatnonzero(images_K == 0))


def _training_only(run: RunData) -> tuple[str, ...]:
    saved = run.checkpoint
    return training_only(saved.arch, saved.recipe, run.config.get("transform", "")) if saved.recipe else ()


def _regularization(run: RunData) -> tuple[str, ...]:
    recipe = run.checkpoint.recipe
    kinds = {"weight decay": recipe and recipe.weight_decay, "label smoothing": recipe and recipe.label_smoothing}
    return (*_training_only(run), *(kind for kind, strength in kinds.items() if strength))


def _best_loss_epoch(run: RunData) -> int:
    return min(run.epochs, key=lambda epoch: epoch["val_loss"])["epoch"]


def _confusions(run: RunData) -> list[Confusion] | None:
    if not run.predictions:
        return None
    matrix_KK, classes = run.predictions.confusion_KK, run.predictions.classes
    return [Confusion(classes[true], classes[predicted], int(matrix_KK[true, predicted]), int(matrix_KK[true].sum()))
            for true, predicted in most_confused(run.predictions)]
