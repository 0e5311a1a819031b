"""The report's first screen: how good the network is, what it confuses, whether to train longer, what is next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from alexnet.reproduce.report.commands import longer_command, next_commands
from alexnet.reproduce.report.result_section import result
from alexnet.reproduce.report.run_data import RunData

CONFUSIONS = 3
"""The most frequent ones are named."""

WIDE_INTERVAL = 0.2
"""Width of an error's interval from which the number of images is called small."""

RISEN_LOSS = 1.05
"""Validation loss after the last epoch over the lowest one, from which the network overfits."""

LEARNED_ERROR = 0.8
"""Training error over validation error, above which the training images are not learned yet."""

Verdict = Literal["better", "not_better", "unknown"]
"""Whether the error's whole interval is below the errors of guessing and of always answering the largest class."""

Outlook = Literal["unfinished", "head", "stopped_early", "perfect", "overfitting", "mixed", "not_learned", "learned"]
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
class Summary:
    """What a user wants to know first."""

    verdict: Verdict
    is_wide: bool
    """The interval is wide, because the images are few."""
    confusions: Sequence[Confusion] | None
    """The most frequent first; None without the images."""
    outlook: Outlook
    train_error: float
    """After the last epoch, on the random training views."""
    val_error: float
    """After the last epoch."""
    best_loss_epoch: int
    """The epoch with the lowest validation loss."""
    longer: str
    """The command line of a run of twice the epochs; "" if it is not known."""
    next_commands: Sequence[tuple[str, str]]
    """What each does, and the command line."""
    other_data: str
    """`RunData.other_data`."""


def summary(run: RunData) -> Summary:
    """Answers from the errors, the confusion matrix and the learning curves."""
    shown, last = result(run), run.epochs[-1]
    low, high = shown.errors[0][1][0].interval
    guessing = min(shown.chance_top1, 1.0 if shown.largest_class_error is None else shown.largest_class_error)
    verdict: Verdict = "unknown" if shown.largest_class_error is None else "better" if high < guessing else "not_better"
    return Summary(
        verdict, high - low > WIDE_INTERVAL, _confusions(run), outlook(run), last["train_error"],
        last["val_top1_error"], _best_loss_epoch(run),
        longer_command(run.config, 2 * run.config["recipe"]["epochs"]),
        next_commands(run.config, str(run.folder)), run.other_data)


def outlook(run: RunData) -> Outlook:
    """Judge the learning curves.

    The training error is that of random views, under dropout, with the weights of each step. It is higher than that of
    the training images as `evaluate` measures them. So "learned" is certain, and "not_learned" is not.
    """
    last, epochs = run.epochs[-1], run.config["recipe"]["epochs"]
    if run.is_head:
        return "head"
    if run.stopped_early:
        return "stopped_early"
    if last["epoch"] < epochs:
        return "unfinished"
    if last["val_top1_error"] == 0:
        return "perfect"
    lowest = min(epoch["val_loss"] for epoch in run.epochs)
    if last["val_loss"] > RISEN_LOSS * lowest and last["train_loss"] < run.epochs[0]["train_loss"]:
        return "overfitting"
    if run.mixes_images:
        return "mixed"
    return "not_learned" if last["train_error"] > LEARNED_ERROR * last["val_top1_error"] else "learned"


def _best_loss_epoch(run: RunData) -> int:
    return min(run.epochs, key=lambda epoch: epoch["val_loss"])["epoch"]


def _confusions(run: RunData) -> list[Confusion] | None:
    if not run.predictions:
        return None
    matrix_KK, classes = run.predictions.confusion_KK.copy(), run.predictions.classes
    images_K = matrix_KK.sum(axis=1)
    np.fill_diagonal(matrix_KK, 0)
    largest = np.argsort(-matrix_KK, axis=None, kind="stable")[:CONFUSIONS]
    return [Confusion(classes[true], classes[predicted], int(matrix_KK[true, predicted]), int(images_K[true]))
            for true, predicted in zip(*np.unravel_index(largest, matrix_KK.shape), strict=True)
            if matrix_KK[true, predicted]]
