"""Class weights: what an image's loss is multiplied by where the classes differ in size (`Recipe.class_weights`)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.architecture.recipe import Recipe
from alexnet.errors import plural, require

IMBALANCE = 3.0
"""Largest class over the smallest, above which `auto` balances the classes."""


def require_weight_for_each(recipe: Recipe, classes: int) -> None:
    """Raise UserError if the recipe lists weights for another number of classes than the data has."""
    chosen = recipe.class_weights
    require(not isinstance(chosen, tuple) or len(chosen) == classes,
            f"recipe.class_weights has {plural(len(chosen), 'weight')} and the data has "
            f"{plural(classes, 'class', 'classes')}",
            "give one for each class, in their order, or class_weights=balanced")


def class_weights(
    recipe: Recipe, labels_N: NDArray[np.int64], classes: int, device: torch.device | None = None,
) -> Tensor | None:
    """The weight of each class: float32 [K], whose mean over the training images is 1. None: all classes weigh alike.

    Args:
        recipe: `class_weights` and `class_weight_cap`.
        labels_N: of the training images.
        classes: their number, K.
        device: of the weights; default: the CPU.

    Raises:
        UserError: the recipe has weights for another number of classes.
    """
    require_weight_for_each(recipe, classes)
    counts_K = np.bincount(labels_N, minlength=classes).clip(1)  # a class without images has no loss to weigh
    chosen = recipe.class_weights
    if isinstance(chosen, tuple):
        weights_K = np.array(chosen, np.float64)
    elif chosen == "balanced" or (chosen == "auto" and counts_K.max() > IMBALANCE * counts_K.min()):
        weights_K = np.minimum(counts_K.max() / counts_K, recipe.class_weight_cap)
    else:
        return None
    return torch.from_numpy(weights_K / weights_K[labels_N].mean()).float().to(device)
