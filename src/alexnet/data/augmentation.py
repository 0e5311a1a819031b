"""Data augmentation for training (§4.1): random crops, mirror images and PCA color noise, from (seed, epoch, image).

Every random number is a hash of (seed, epoch, image index, draw), so any worker, rank or resumed run gives an image the
same view. Random erasing is here too; trivial_augment.py and mixing.py have what else the paper has not.
Shapes: N images, C color channels, H rows, W columns.
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

TRIVIAL_AUGMENT_DRAWS, ERASING_DRAWS, MIXING_DRAWS = slice(8, 11), slice(11, 16), slice(16, 20)
"""The draws of an image that come after these eight. Each augmentation has its own, so switching one on changes no
other."""

ERASED_AREA = (0.02, 0.4)
"""Random erasing: smallest and largest area of the rectangle, as a fraction of the view (arXiv 1708.04896)."""

ERASED_RATIO = (0.3, 1 / 0.3)
"""Random erasing: smallest and largest ratio of rows to columns (arXiv 1708.04896)."""


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


def erase(views_NCHW: Tensor, draws_N5: NDArray[np.float64], probability: float) -> Tensor:
    """Set a random rectangle of some views to 0, which is the mean color in a network's input.

    Args:
        views_NCHW: square network inputs.
        draws_N5: uniform numbers in 0 < u < 1: whether to erase, area, ratio of the sides, row, column.
        probability: that a view is erased.
    """
    crop = views_NCHW.shape[-1]
    area_N, ratio_N = (low + draws_N5[:, number] * (high - low)
                       for number, (low, high) in ((1, ERASED_AREA), (2, ERASED_RATIO)))
    # The paper draws again where a rectangle is longer than the image. Here its longer side is cut.
    sides_N2 = (crop * np.sqrt(np.stack([area_N * ratio_N, area_N / ratio_N], 1))).round().clip(1, crop)
    first_N2 = np.floor(draws_N5[:, 3:] * (crop - sides_N2 + 1))
    boxes_N4 = np.concatenate([first_N2, first_N2 + sides_N2], 1).astype(np.int64)
    boxes_N4[draws_N5[:, 0] >= probability] = -1
    return views_NCHW.masked_fill(box_mask(boxes_N4, crop, views_NCHW.device), 0.0)


def box_mask(boxes_N4: NDArray[np.int64], crop: int, device: torch.device) -> Tensor:
    """Which pixels of views of crop x crop are in their rectangle: bool [N, 1, H, W].

    boxes_N4: top, left, bottom, right, in pixels, the last two not included; four times -1: no rectangle.
    """
    top, left, bottom, right = torch.from_numpy(boxes_N4).to(device)[:, :, None, None, None].unbind(1)
    place = torch.arange(crop, device=device)
    row, column = place[:, None], place
    return (row >= top) & (row < bottom) & (column >= left) & (column < right)
