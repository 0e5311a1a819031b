"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): training views mixed with other images of their batch.

The partner of an image is the next one of the batch, whose order is random in every epoch; the last one's is the first.
Weight and rectangle are a function of (seed, epoch, image index). Shapes: N images of a batch, C color channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet._runtime.devices import to_device
from alexnet.architecture.recipe import Recipe
from alexnet.data.augmentation import MIXING_DRAWS, box_mask, uniform

_GRID = 4096
"""Points at which the beta distribution is integrated. The error of a quantile is below 0.001."""


@dataclass(frozen=True)
class MixedLabels:
    """The second label of each of N mixed images, and how much the first one counts."""

    partner_labels_N: Tensor
    """int64 class numbers."""
    weight_N: Tensor
    """float32 in 0..1: the weight of the image's own label. The partner's is 1 minus it."""

    def __getitem__(self, rows: slice) -> MixedLabels:
        return MixedLabels(self.partner_labels_N[rows], self.weight_N[rows])


def mix_batch(
    views_NCHW: Tensor, labels_N: Tensor, indices: NDArray[np.int64], recipe: Recipe, seed: int, epoch: int,
) -> tuple[Tensor, MixedLabels]:
    """Mix each view with the next one of the batch, by mixup or CutMix.

    Args:
        views_NCHW: the views of a whole global batch, square.
        labels_N: int64 class numbers.
        indices: each image's index in the training set, in the order of the batch.
        recipe: `mixup_alpha` and `cutmix_alpha`, of which at least one is above 0.
        seed: of the run.
        epoch: number of the epoch, from 0.

    Returns:
        The mixed views, and the labels that go with them.
    """
    weight_N, boxes_N4 = draw_mixes(recipe, indices, seed, epoch, views_NCHW.shape[-1])
    device = views_NCHW.device
    weight_on_device_N = to_device(weight_N.astype(np.float32), device)
    keep_N1HW = torch.where(
        to_device(boxes_N4[:, 2] >= 0, device)[:, None, None, None],
        1 - box_mask(boxes_N4, views_NCHW.shape[-1], device).float(), weight_on_device_N[:, None, None, None])
    mixed_NCHW = torch.lerp(views_NCHW.roll(-1, 0), views_NCHW, keep_N1HW.to(views_NCHW.dtype))
    return mixed_NCHW, MixedLabels(labels_N.roll(-1, 0), weight_on_device_N)


def draw_mixes(
    recipe: Recipe, indices: NDArray[np.int64], seed: int, epoch: int, crop: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw how each image is mixed with its partner. Arguments as for `mix_batch`; crop: side of the views.

    Returns:
        The weight of each image, [N], and the rectangle that shows the partner, [N, 4], as for `box_mask`; four times
        -1 where the image has mixup.
    """
    draws_N4 = uniform(seed, epoch, indices, MIXING_DRAWS)
    if recipe.mixup_alpha and recipe.cutmix_alpha:
        has_cutmix_N = draws_N4[:, 0] < 0.5
    else:
        has_cutmix_N = np.full(len(indices), recipe.cutmix_alpha > 0)
    weight_N = np.where(has_cutmix_N, beta_quantile(draws_N4[:, 1], recipe.cutmix_alpha or 1.0),
                        beta_quantile(draws_N4[:, 1], recipe.mixup_alpha or 1.0))
    # As in CutMix's code: a square around a random center, cut at the edges; the weight is that of the area left.
    side_N1 = (crop * np.sqrt(1 - weight_N)).astype(np.int64)[:, None]
    center_N2 = (draws_N4[:, 2:4] * crop).astype(np.int64)
    low_N2, high_N2 = ((center_N2 + half).clip(0, crop) for half in (-(side_N1 // 2), side_N1 // 2))
    area_N = (high_N2 - low_N2).prod(1)
    boxes_N4 = np.where(has_cutmix_N[:, None], np.concatenate([low_N2, high_N2], 1), -1)
    return np.where(has_cutmix_N, 1 - area_N / crop**2, weight_N), boxes_N4


def beta_quantile(draws_N: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Turn uniform numbers in 0 < u < 1 into numbers from Beta(alpha, alpha), 0 < alpha <= 10."""
    # The distribution is symmetric about 1/2, and the lower half is integrated alone.
    lower_N = np.minimum(draws_N, 1 - draws_N)
    cumulative, values = _lower_half(alpha)
    quantile_N = np.interp(lower_N, cumulative, values) ** (1 / min(alpha, 1.0))
    return np.where(draws_N < 0.5, quantile_N, 1 - quantile_N)


@lru_cache(maxsize=8)
def _lower_half(alpha: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The distribution function of Beta(alpha, alpha) up to x = 1/2, over x^p with p = min(alpha, 1).

    Below alpha = 1 the density is infinite at x = 0; over x^alpha it is finite.
    """
    power = min(alpha, 1.0)
    values = np.linspace(0, 0.5**power, _GRID)
    x = values ** (1 / power)
    density = values ** (alpha / power - 1) * (1 - x) ** (alpha - 1)
    cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return cumulative / cumulative[-1] / 2, values
