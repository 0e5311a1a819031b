"""The learning rate over time (§5): the plateau rule and every other schedule.

Early stopping is `State.stops_early` in state.py, which counts the epochs without a lower error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from alexnet.architecture.recipe import Recipe


@dataclass
class Plateau:
    """When to divide the learning rate by `Recipe.drop_factor` (§5: 10): when the validation error stops improving.

    §5 did so by hand.
    """

    best: float = math.inf
    """The lowest validation error so far."""
    waited: int = 0
    """Epochs since it was reached, or since the rate was last dropped."""
    drops: int = 0
    """Number of drops so far."""

    def update(self, error: float, recipe: Recipe) -> None:
        """Record an epoch's validation error; after `recipe.patience` epochs without a lower one, drop the rate."""
        if error < self.best:
            self.best, self.waited = error, 0
            return
        self.waited += 1
        if self.waited >= recipe.patience and self.drops < recipe.lr_drop_count:
            self.drops, self.waited = self.drops + 1, 0


def learning_rate(recipe: Recipe, epochs_done: float, plateau_drops: int = 0) -> float:
    """The learning rate at a moment.

    Args:
        recipe: its schedule.
        epochs_done: epochs since the start; for a step, those at its middle.
        plateau_drops: `Plateau.drops`.
    """
    progress = min(1.0, epochs_done / recipe.epochs)
    warmup = min(1.0, epochs_done / recipe.warmup_epochs) if recipe.warmup_epochs else 1.0
    factors = {
        "constant": 1.0,
        "plateau": recipe.drop_factor**-plateau_drops,
        "steps": recipe.drop_factor ** -sum(epochs_done >= epoch for epoch in recipe.drop_epochs),
        "cosine": (1 + math.cos(math.pi * progress)) / 2,
        "linear": 1 - progress,
        "poly": (1 - progress) ** 2,  # LARS
    }
    return recipe.learning_rate * warmup * factors[recipe.schedule]


def conv1_learning_rate(recipe: Recipe, epochs_done: float, rate: float) -> float:
    """The learning rate of the first convolution's weights when that of the others is `rate`.

    code2012 slows it late in the run, and then freezes the layer.
    """
    if recipe.conv1_stop_epoch and epochs_done >= recipe.conv1_stop_epoch:
        return 0.0
    return min(rate, 1e-5) if recipe.conv1_slow_epoch and epochs_done >= recipe.conv1_slow_epoch else rate


def bias_rate(recipe: Recipe, rate: float) -> float:
    """The learning rate of a layer's biases, before `bias_lr_factor`, when that of its weights is `rate`.

    A layer whose weights have the rate 0 is frozen, and its biases with it.
    """
    return rate if recipe.bias_lr_schedule or rate == 0 else recipe.learning_rate


def logged_rates(recipe: Recipe, rate: float) -> dict[str, float]:
    """The learning rates that an event has: `learning_rate`, and `bias_learning_rate` if it is not proportional."""
    biases = {} if recipe.bias_lr_schedule else {"bias_learning_rate": recipe.bias_lr_factor * bias_rate(recipe, rate)}
    return {"learning_rate": rate, **biases}
