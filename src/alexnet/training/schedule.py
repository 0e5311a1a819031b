"""The learning rate over time (§5): the plateau rule and every other schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

from alexnet.architecture.recipe import Recipe


@dataclass
class Plateau:
    """§5: the rate was divided by 10 when the validation error stopped improving. There by hand, here by this rule."""

    best: float = math.inf
    waited: int = 0
    drops: int = 0

    def see(self, error: float, recipe: Recipe) -> None:
        """Take note of an epoch's validation error; after `patience` epochs without a better one, drop the rate."""
        if error < self.best:
            self.best, self.waited = error, 0
            return
        self.waited += 1
        if self.waited >= recipe.patience and self.drops < recipe.lr_drop_count:
            self.drops, self.waited = self.drops + 1, 0


def learning_rate(recipe: Recipe, epochs_done: float, plateau_drops: int = 0) -> float:
    """The rate at a moment, counted in epochs from the start; a step's own moment is its middle."""
    share = min(1.0, epochs_done / recipe.epochs)
    warm = min(1.0, epochs_done / recipe.warmup_epochs) if recipe.warmup_epochs else 1.0
    factors = {
        "constant": 1.0,
        "plateau": recipe.drop_factor**-plateau_drops,
        "steps": recipe.drop_factor ** -sum(epochs_done >= epoch for epoch in recipe.drop_epochs),
        # owt: four equal stretches, by drop_factor in all.
        "exponential": recipe.drop_factor ** -(min(recipe.lr_drop_count, int(share * (recipe.lr_drop_count + 1))) / recipe.lr_drop_count),
        "cosine": (1 + math.cos(math.pi * share)) / 2,
        "linear": 1 - share,
        "poly": (1 - share) ** 2,  # LARS
    }
    return recipe.learning_rate * warm * factors[recipe.schedule]


def conv1_rate(recipe: Recipe, epochs_done: float, rate: float) -> float:
    """The first convolution's rate when the others' is `rate`: code2012 slowed it late, and then stopped it."""
    if recipe.conv1_stop_epoch and epochs_done >= recipe.conv1_stop_epoch:
        return 0.0
    return min(rate, 1e-5) if recipe.conv1_slow_epoch and epochs_done >= recipe.conv1_slow_epoch else rate
