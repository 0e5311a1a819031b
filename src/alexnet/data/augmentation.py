"""Data augmentation for training (§4.1): random crops, mirror images and PCA color noise, from (seed, epoch, image).

Every random number is a hash of (seed, epoch, image index, draw), so any worker, rank or resumed run gives an image the
same view. Shapes: N images, C color channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.architecture.recipe import Recipe

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio, the increment of splitmix64."""

_CROP_DRAWS = 5
"""Draws of an image that its group may share: four for the crop, one for the mirror. Three more are for the colors."""


@dataclass(frozen=True)
class RandomViews:
    """What is random about one training view of each of N images."""

    mirrored_N: Tensor
    """bool: which views are mirrored from left to right."""
    top_left_N2: Tensor | None
    """int64: first row and column of a window of crop x crop; None with `boxes_N4`."""
    boxes_N4: Tensor | None
    """float64, on the CPU, in pixels: top, left, rows and columns of a box to rescale to crop x crop; or None."""
    shift_NC: Tensor | None
    """float32: PCA color noise, on 0..255, RGB; or None."""


def random_views(
    recipe: Recipe, indices: NDArray[np.int64], seed: int, epoch: int, *, side: int, crop: int, device: torch.device,
    lighting_CC: Tensor | None = None, group_leaders: NDArray[np.int64] | None = None,
) -> RandomViews:
    """Draw one view of each image, as the recipe's `crop`, `mirror` and `lighting` say.

    Args:
        recipe: the training recipe.
        indices: each image's index in the training set.
        seed: of the run.
        epoch: number of the epoch, from 0.
        side: side of the stored images, in pixels.
        crop: side of the views, in pixels.
        device: where the tensors will be.
        lighting_CC: from `lighting_basis`, on `device`; None for no color noise.
        group_leaders: the first image of each one's `recipe.view_group` images; default: groups in the order of
            `indices`. code2012 drew crop and mirror once for 32 images.
    """
    count = len(indices)
    if group_leaders is None:
        group_leaders = indices[np.arange(count) // recipe.view_group * recipe.view_group]
    draws = torch.from_numpy(uniform(seed, epoch, group_leaders, _CROP_DRAWS))
    mirrored_N = draws[:, 4] < 0.5 if recipe.mirror else torch.zeros(count, dtype=torch.bool)
    shift_NC = None
    if lighting_CC is not None and recipe.lighting:
        draws_NC = torch.from_numpy(uniform(seed, epoch, indices, _CROP_DRAWS + 3)[:, _CROP_DRAWS:])
        # Inverse of the normal distribution's cumulative function: uniform draws become Gaussian ones.
        noise_NC = torch.special.ndtri(draws_NC) * recipe.lighting
        shift_NC = noise_NC.float().to(device) @ lighting_CC.T
    if recipe.crop == "resized":
        boxes_N4 = resized_crop_boxes(draws[:, :4], side, recipe.crop_area)
        return RandomViews(mirrored_N.to(device), None, boxes_N4, shift_NC)
    last = side - crop
    if recipe.crop == "window":
        top_left_N2 = (draws[:, :2] * (last + 1)).long().clamp(max=last)
    else:
        top_left_N2 = torch.full((count, 2), last // 2)
    return RandomViews(mirrored_N.to(device), top_left_N2.to(device), None, shift_NC)


def uniform(seed: int, epoch: int, indices: NDArray[np.int64], draws: int) -> NDArray[np.float64]:
    """Uniform numbers in 0 < u < 1, [N, draws], each a hash of (seed, epoch, index, draw) by splitmix64's finalizer."""
    with np.errstate(over="ignore"):
        key = _mix(_mix(np.array([seed], np.uint64)) + np.uint64(epoch + 1) * _GOLDEN)
        rows = _mix(key + indices.astype(np.uint64) * _GOLDEN)
        bits = _mix(rows[:, None] + np.arange(1, draws + 1, dtype=np.uint64) * _GOLDEN)
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def resized_crop_boxes(draws_N4: Tensor, side: int, area: tuple[float, float]) -> Tensor:
    """Boxes of torchvision's random resized crop: random area, aspect ratio (3/4 to 4/3) and place.

    Args:
        draws_N4: uniform numbers in 0 < u < 1.
        side: side of the stored images, in pixels.
        area: smallest and largest area of a box, as a fraction of the stored image's.

    Returns:
        [N, 4]: top, left, rows and columns, in pixels.
    """
    log_ratio = (draws_N4[:, 1] * 2 - 1) * float(np.log(4 / 3))
    root_area = (area[0] + draws_N4[:, 0] * (area[1] - area[0])).sqrt()
    high = (root_area * (-log_ratio / 2).exp()).clamp(max=1)
    wide = (root_area * (log_ratio / 2).exp()).clamp(max=1)
    return torch.stack([(1 - high) * draws_N4[:, 2], (1 - wide) * draws_N4[:, 3], high, wide], 1) * side


def lighting_basis(covariance_CC: NDArray[np.float64], scale: str) -> Tensor:
    """Basis of the PCA color noise of §4.1: columns p_i * l_i, float32 [3, 3].

    Args:
        covariance_CC: covariance of the training set's RGB pixels, on 0..255.
        scale: `deviations`: l_i are the principal standard deviations, as cuda-convnet2's (19.7, 37.1, 121.8) are;
            `eigenvalues`: the printed text, with pixels on 0..1, which moves an image by half as much.
    """
    eigenvalues, vectors = np.linalg.eigh(covariance_CC)
    eigenvalues = eigenvalues.clip(min=0)
    lengths = np.sqrt(eigenvalues) if scale == "deviations" else eigenvalues / 255
    return torch.from_numpy(vectors * lengths).float()
