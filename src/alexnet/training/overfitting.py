"""Warn when the validation loss rises far above its minimum while the training loss goes on falling.

This is not what the report calls overfitting, the gap between training and validation error (`reproduce.report.fit`).
The loss can rise without such a gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from alexnet.architecture.recipe import Recipe
from alexnet.errors import Finding
from alexnet.inference.calibration import enough_images
from alexnet.training.events import EpochEvent

SUSTAINED = 3
"""Consecutive epochs that must agree, since the validation loss of one epoch of few images is noisy."""

RISEN = 1.25
"""Validation loss over its minimum, above which it has risen."""

LEAST_RISE = 0.1
"""In nats: a loss that rises from 0.02 to 0.05 harms nobody."""

FALLEN = 0.9
"""Training loss over that of the epoch of the minimum, below which it has fallen."""

LEARNED = 0.5
"""Training loss over ln(classes), below which the network has learned its training images. In the first epochs, and at
the highest learning rate, the validation loss may be above ln(classes) for a while."""


def risen_loss_finding(
    epochs: Sequence[EpochEvent], classes: int, is_pretrained: bool, recipe: Recipe | None = None,
    validation_images: int | None = None,
) -> Finding | None:
    """Report a validation loss that has risen by the last epoch: "risen_loss" or "loss_above_uniform"; else None.

    The second is the kind where the validation loss has been above ln(classes) from the first epoch on, so that it has
    no minimum to rise from.

    Args:
        epochs: all epochs of the run so far, in order.
        classes: number of classes.
        is_pretrained: whether training started from trained weights.
        recipe: of the run, if known, so that nothing is recommended that it has already.
        validation_images: of the run, if known, so that `calibrate` is recommended only where they suffice.
    """
    if len(epochs) <= SUSTAINED:
        return None
    last, recent = epochs[-1], epochs[-SUSTAINED:]
    lowest = min(epochs, key=lambda epoch: epoch["val_loss"])
    best = min(epochs, key=lambda epoch: (epoch["val_top1_error"], epoch["val_loss"]))
    chance = math.log(classes)
    limit = max(RISEN * lowest["val_loss"], lowest["val_loss"] + LEAST_RISE)
    above = (f"above ln({classes}) = {chance:.3f}, that of the same probability for every class"
             if all(epoch["val_loss"] > chance for epoch in recent) else "")
    kept = (f"best/ holds epoch {best['epoch']}, of the lowest top-1 error ({best['val_top1_error']:.1%}, validation "
            f"loss {best['val_loss']:.3g})")
    remedy = f"{kept}; to keep the loss low, {overfitting_remedy(is_pretrained, recipe, validation_images)}"
    if (all(epoch["val_loss"] > limit for epoch in recent)
            and last["train_loss"] < FALLEN * lowest["train_loss"]):
        return Finding(
            "risen_loss", "", f"the validation loss has risen since epoch {lowest['epoch']}: "
            f"{lowest['val_loss']:.3g} -> {last['val_loss']:.3g}, while the training loss fell from "
            f"{lowest['train_loss']:.3g} to {last['train_loss']:.3g}"
            + (f"; the validation loss is {above}" if above else ""), remedy)
    if above and all(epoch["train_loss"] < LEARNED * chance for epoch in recent):
        return Finding(
            "loss_above_uniform", "", f"the validation loss is {last['val_loss']:.3g}, {above}, and the training loss "
            f"{last['train_loss']:.3g}: the network is far too confident where it is wrong", remedy)
    return None


def overfitting_remedy(
    is_pretrained: bool, recipe: Recipe | None = None, validation_images: int | None = None,
) -> str:
    """What to try, and nothing that the run has; arguments as for `risen_loss_finding`."""
    its = recipe or Recipe("unknown")
    suffice = validation_images is None or enough_images(validation_images)
    calibrate = "; `alexnet calibrate` corrects the confidence alone" if suffice else ""
    if its.optimizer == "lbfgs":
        return f"try more images, or other trained weights (--init){calibrate}"
    settings = {"more augmentation": "recipe.crop=resized" if its.crop != "resized" else "" if its.trivial_augment else
                "recipe.trivial_augment=true",
                "label smoothing": "" if its.label_smoothing else "recipe.label_smoothing=0.1"}
    settings = {way: setting for way, setting in settings.items() if setting}
    ways = ["more images"] + [f"{' and '.join(settings)} ({', '.join(settings.values())})"] * bool(settings)
    frozen = "--head" if its.freeze else "--freeze conv, or --head"
    ways += [f"fewer weights to train ({frozen})" if is_pretrained else "trained weights to start from (--init)"]
    return f"try {', '.join(ways)}, a lower learning rate (--lr) or fewer epochs{calibrate}"
