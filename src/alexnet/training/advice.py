"""Findings before the first step: too large a batch, a stretched schedule, few images without pretrained weights."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import numpy as np

from alexnet.architecture.recipe import Recipe
from alexnet.data.findings import FEW_FOR_SCRATCH
from alexnet.data.order import batches_per_epoch
from alexnet.data.overlap import Overlap
from alexnet.data.sources.embedded import SOURCE as EMBEDDED
from alexnet.errors import Finding, such_as
from alexnet.models.checkpoint import Checkpoint
from alexnet.training.schedule import learning_rate
from alexnet.training.spec import RunSpec
from alexnet.training.state import State

FALLING = ("cosine", "linear", "poly")
"""Schedules whose learning rate falls until the last epoch."""


def start_findings(spec: RunSpec, saved: Checkpoint | None) -> list[Finding]:
    """What the user should know of a run before its first step.

    Args:
        spec: the run.
        saved: the checkpoint from which it is resumed.
    """
    found, recipe, images = [], spec.recipe, len(spec.data.split("train"))
    if saved and saved.recipe:
        found.append(epochs_finding(saved.recipe, recipe, State.from_json(saved.training),
                                    batches_per_epoch(images, recipe.batch_size)))
    if recipe.batch_size > images and recipe.optimizer == "sgd":
        found.append(Finding(
            "batch_exceeds_data", "", f"the batch size {recipe.batch_size:,} exceeds the {images:,} training images, "
            f"so each epoch is a single step on all of them: {recipe.epochs} in the whole run",
            f"give a smaller one, such as --batch-size {max(2, min(32, images // 4))}"))
    if recipe.early_stop_epochs and recipe.schedule in FALLING:
        found.append(Finding(
            "early_stop_before_low_rate", "", f"early stopping may end the run before the learning rate is low: the "
            f"schedule `{recipe.schedule}` reaches its end only after all {recipe.epochs} epochs, and the error "
            "usually falls the most there",
            "use --set recipe.schedule=plateau with it, or leave early stopping off: best/ is the best epoch anyway"))
    return [finding for finding in found if finding]


def trained_validation_finding(available: int, measured: int) -> list[Finding]:
    """Report the validation images that are left out because the initial weights were trained on them, if any.

    Args:
        available: validation images of the data.
        measured: how many of them are left.
    """
    if available == measured:
        return []
    return [Finding(
        "validation_trained_on", "", f"the weights of --init were trained on {available - measured:,} of the "
        f"{available:,} validation images, which are left out: the error is measured on the other {measured:,}",
        "start from weights that have not seen these images to measure all of them")]


def look_alikes_finding(overlap: Overlap) -> list[Finding]:
    """Report the validation images that look like a training image, if they are more than usual in the data.

    Copies are in `pack_findings`.
    """
    count = overlap.look_alikes
    if not count or overlap.is_usual:
        return []
    return [Finding(
        "near_copies_across_splits", "val", f"{count:,} validation image{'s' * (count > 1)} of {overlap.images:,} "
        f"{'look' if count > 1 else 'looks'} like a training image and {'are' if count > 1 else 'is'} no exact copy of "
        f"one{such_as(count, overlap.example)}, saved again, mirrored, or of the same scene",
        "see the pairs with alexnet check; where both show the same, delete one of them, as the error on val is "
        "otherwise too low")]


def epochs_finding(saved: Recipe, now: Recipe, state: State, steps_per_epoch: int) -> Finding | None:
    """Report that a resumed run has another number of epochs, and what that does to the learning rate; None if not.

    Args:
        saved: the recipe that the run was begun or last resumed with.
        now: the recipe that it is resumed with, which may differ in `epochs` only.
        state: the run's state.
        steps_per_epoch: batches of an epoch.
    """
    if saved.epochs == now.epochs:
        return None
    done = state.step / steps_per_epoch
    before, after = (learning_rate(recipe, done, state.plateau.drops) for recipe in (saved, now))
    if math.isclose(before, after, rel_tol=1e-9):
        return Finding(
            "epochs_changed", "", f"the run was started with {saved.epochs} epochs and now has {now.epochs}, of "
            f"which {done:.3g} are trained; its learning rate continues unchanged",
            f"the new number is kept; to undo it, add --epochs {saved.epochs} when you resume the run again")
    return Finding(
        "schedule_changed", "", f"the run was started with --epochs {saved.epochs} and continues with {now.epochs}: "
        f"the schedule `{now.schedule}` is stretched, so the learning rate changes from {before:.3g} to {after:.3g} "
        f"after {done:.3g} epochs, and the run will not equal one started with {now.epochs}",
        f"for such a run, start again with --epochs {now.epochs} and another --out")


def few_images_finding(
    spec: RunSpec, data: str, labels: str | Path | None = None, group: str | None = None,
) -> Finding | None:
    """Recommend pretrained weights to a run that starts from random ones on few images; None for any other run.

    Patches of the package's photographs get no such advice: features of objects are not meant for them.

    Args:
        spec: the run.
        data: what the user called the data, for the command that is recommended.
        labels, group: as the user gave --labels and --group, which packed and streamed data do not take.
    """
    counts = np.bincount(spec.data.split("train").labels, minlength=len(spec.data.classes))
    if spec.init or spec.data.source == EMBEDDED or counts.mean() >= FEW_FOR_SCRATCH:
        return None
    command = shlex.join(["alexnet", "train", data, *(["--labels", str(labels)] if labels else []),
                          *(["--group", group] if group else []), "--init", "pretrained"])
    return Finding(
        "few_images_in_all", "", f"{counts.sum():,} training images ({counts.mean():,.0f} a class on average, "
        f"{counts.min():,} in the smallest) are few for training from scratch; "
        f"this run shows each of them to `{spec.arch.name}` {_times(spec.recipe.epochs)}, and starting from "
        "trained weights takes less time and gives a lower error",
        f"`{command}` starts from the network in this package, which sees 64 pixels; --init torchvision --head "
        "downloads weights trained on ImageNet (244 MB, 224 pixels) and trains the output layer alone, in one pass "
        "over the images; --init RUN starts from a run of yours")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
