"""Data augmentation (§4.1) from (seed, epoch, image): random crops, mirror images, PCA color noise (size: recipe.py).

Every random number is a hash of (seed, epoch, image index, draw), so any worker, rank or resumed run gives an image the
same view. Random erasing is here too; trivial_augment.py and mixing.py have the other augmentations that are not in the
paper.
Shapes: N images, C color channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet._runtime.devices import to_device
from alexnet.architecture.recipe import Recipe

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio, the increment of splitmix64."""

_PLACE_DRAWS, _MIRROR_DRAW, _LIGHTING_DRAWS = range(2), (4,), range(5, 8)
_BOX_DRAWS = (*range(4), *range(20, 38))
"""The numbers of an image's draws. A window needs two; a box four, and two for each of nine further attempts. The
draws of crop and mirror may be shared by a group of images, those of the colors are each image's own."""

TRIVIAL_AUGMENT_DRAWS, ERASING_DRAWS, MIXING_DRAWS = range(8, 11), (*range(11, 16), *range(38, 56)), range(16, 20)
"""Each augmentation has its own draws, so switching one on changes no other."""

BOX_RATIO = 4 / 3
"""Random resized crop: largest ratio of a box's longer side to its shorter one (torchvision's RandomResizedCrop)."""

ERASED_AREA = (0.02, 0.4)
"""Random erasing: smallest and largest area of the rectangle, as a fraction of the view (arXiv 1708.04896)."""

ERASED_RATIO = (0.3, 1 / 0.3)
"""Random erasing: smallest and largest ratio of rows to columns (arXiv 1708.04896)."""


@dataclass(frozen=True)
class ViewDraws:
    """The random numbers of one training view of each of N images, on any device. The loader's threads draw them."""

    top_left_N2: Tensor | None
    """As in `RandomViews`."""
    noise_N3: Tensor | None
    """float32: Gaussian numbers, one for each principal component of the colors; or None."""
    mirrored_N: Tensor
    """As in `RandomViews`."""
    boxes_N4: Tensor | None
    """As in `RandomViews`, on the CPU."""

    def __getitem__(self, rows: slice) -> ViewDraws:
        top_left, noise, boxes = (None if tensor is None else tensor[rows]
                                  for tensor in (self.top_left_N2, self.noise_N3, self.boxes_N4))
        return ViewDraws(top_left, noise, self.mirrored_N[rows], boxes)

    def to(self, device: torch.device) -> ViewDraws:
        """On a device, but for the boxes; all in one copy, which nothing waits for."""
        if self.mirrored_N.device == device:
            return self
        # From the largest type to the smallest, so that each begins at a multiple of its size.
        moved = {name: tensor for name, tensor in (
            ("top_left_N2", self.top_left_N2), ("noise_N3", self.noise_N3), ("mirrored_N", self.mirrored_N))
            if tensor is not None}
        packed = to_device(torch.cat([tensor.contiguous().view(torch.uint8).flatten() for tensor in moved.values()]),
                           device)
        parts = packed.split([tensor.nbytes for tensor in moved.values()])
        return replace(self, **{name: part.view(tensor.dtype).view(tensor.shape)
                                for (name, tensor), part in zip(moved.items(), parts, strict=True)})

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory of the copy until the stream has used it."""
        self.mirrored_N.record_stream(stream)


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


def draw_views(
    recipe: Recipe, indices: NDArray[np.int64], seed: int, epoch: int, *, side: int, crop: int,
    group_leaders: NDArray[np.int64] | None = None,
) -> ViewDraws:
    """Draw one view of each image, on the CPU. Arguments as for `random_views`."""
    count = len(indices)
    if group_leaders is None:
        group_leaders = indices[np.arange(count) // recipe.view_group * recipe.view_group]
    mirrored_N = torch.zeros(count, dtype=torch.bool)
    if recipe.mirror:
        mirrored_N = torch.from_numpy(uniform(seed, epoch, group_leaders, _MIRROR_DRAW))[:, 0] < 0.5
    noise_N3 = None
    if recipe.lighting:
        draws_N3 = torch.from_numpy(uniform(seed, epoch, indices, _LIGHTING_DRAWS))
        # Inverse of the normal distribution's cumulative function: uniform draws become Gaussian ones.
        noise_N3 = (torch.special.ndtri(draws_N3) * recipe.lighting).float()
    if recipe.crop == "resized":
        draws_ND = uniform(seed, epoch, group_leaders, _BOX_DRAWS)
        boxes_N4 = torch.from_numpy(resized_crop_boxes(draws_ND, side, recipe.crop_area))
        return ViewDraws(None, noise_N3, mirrored_N, boxes_N4)
    last = side - crop
    if recipe.crop == "window":
        draws_N2 = torch.from_numpy(uniform(seed, epoch, group_leaders, _PLACE_DRAWS))
        top_left_N2 = (draws_N2 * (last + 1)).long().clamp(max=last)
    else:
        top_left_N2 = torch.full((count, 2), last // 2)
    return ViewDraws(top_left_N2, noise_N3, mirrored_N, None)


def random_views(
    recipe: Recipe, indices: NDArray[np.int64], seed: int, epoch: int, *, side: int, crop: int, device: torch.device,
    lighting_CC: Tensor | None = None, group_leaders: NDArray[np.int64] | None = None,
    draws: ViewDraws | None = None,
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
        draws: what `draw_views` has drawn for the same images before; default: it draws them now.
    """
    if draws is None:
        draws = draw_views(recipe, indices, seed, epoch, side=side, crop=crop, group_leaders=group_leaders)
    drawn, shift_NC = draws.to(device), None
    if lighting_CC is not None and drawn.noise_N3 is not None:
        shift_NC = drawn.noise_N3 @ lighting_CC.T
    return RandomViews(drawn.mirrored_N, drawn.top_left_N2, drawn.boxes_N4, shift_NC)


def uniform(
    seed: int, epoch: int, indices: NDArray[np.int64], draws: int | Sequence[int],
) -> NDArray[np.float64]:
    """Uniform numbers in 0 < u < 1, [N, draws], each a hash of (seed, epoch, index, draw) by splitmix64's finalizer.

    draws: how many, from number 0, or the numbers of the draws.
    """
    numbers = np.arange(draws) if isinstance(draws, int) else np.array(draws)
    with np.errstate(over="ignore"):
        key = _mix(_mix(np.array([seed], np.uint64)) + np.uint64(epoch + 1) * _GOLDEN)
        rows = _mix(key + indices.astype(np.uint64) * _GOLDEN)
        bits = _mix(rows[:, None] + (numbers + 1).astype(np.uint64) * _GOLDEN)
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def resized_crop_boxes(
    draws_ND: NDArray[np.float64], side: int, area: tuple[float, float],
) -> NDArray[np.float64]:
    """Boxes of torchvision's RandomResizedCrop, for a square image: random area, aspect ratio (3/4 to 4/3) and place.

    A box that does not fit into the image is drawn again, up to nine times. Where none fits, the box is the whole
    image, the largest central one with an allowed ratio.

    Args:
        draws_ND: uniform numbers in 0 < u < 1: area, ratio, row and column, then area and ratio of each further
            attempt.
        side: side of the stored images, in pixels.
        area: smallest and largest area of a box, as a fraction of the stored image's. The areas of the boxes that fit
            are smaller on average than the middle of this range, since large boxes are often too long.

    Returns:
        [N, 4]: top, left, rows and columns, in whole pixels.
    """
    attempts_NA2 = np.concatenate([draws_ND[:, :2], draws_ND[:, 4:]], 1).reshape(len(draws_ND), -1, 2)
    root_area_NA = side * np.sqrt(area[0] + attempts_NA2[..., 0] * (area[1] - area[0]))
    root_ratio_NA = BOX_RATIO ** (attempts_NA2[..., 1] - 0.5)  # the logarithm of the ratio is uniform
    sides_NA2 = np.stack([root_area_NA / root_ratio_NA, root_area_NA * root_ratio_NA], -1).round()
    sides_N2, found_N = _first_fitting(sides_NA2, side)
    sides_N2[~found_N] = side
    last_N2 = side - sides_N2
    return np.concatenate([np.minimum(np.floor(draws_ND[:, 2:4] * (last_N2 + 1)), last_N2), sides_N2], 1)


def _first_fitting(
    sides_NA2: NDArray[np.float64], longest: int,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The first of A attempts whose two sides are 1 to `longest` pixels, [N, 2], and whether there is one, [N]."""
    fits_NA: NDArray[np.bool_] = np.all((sides_NA2 >= 1) & (sides_NA2 <= longest), axis=2)
    first_N = fits_NA.argmax(axis=1)  # 0 where none fits
    rows_N = np.arange(len(sides_NA2))
    return sides_NA2[rows_N, first_N], fits_NA[rows_N, first_N]


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


def erase(views_NCHW: Tensor, draws_ND: NDArray[np.float64], probability: float) -> Tensor:
    """Set a random rectangle of some views to 0, which is the mean color in a network's input.

    As in the authors' code, a rectangle that is not shorter than the view is drawn again, here up to nine times; where
    none fits, nothing is erased.

    Args:
        views_NCHW: square network inputs.
        draws_ND: uniform numbers in 0 < u < 1: whether to erase, area, ratio of the sides, row and column, then area
            and ratio of each further attempt.
        probability: that a view is erased.
    """
    crop = views_NCHW.shape[-1]
    attempts_NA2 = np.concatenate([draws_ND[:, 1:3], draws_ND[:, 5:]], 1).reshape(len(draws_ND), -1, 2)
    area_NA, ratio_NA = (low + attempts_NA2[..., number] * (high - low)
                         for number, (low, high) in enumerate((ERASED_AREA, ERASED_RATIO)))
    sides_NA2 = (crop * np.sqrt(np.stack([area_NA * ratio_NA, area_NA / ratio_NA], -1))).round()
    sides_N2, found_N = _first_fitting(sides_NA2, crop - 1)
    first_N2 = np.floor(draws_ND[:, 3:5] * (crop - sides_N2 + 1))
    boxes_N4 = np.concatenate([first_N2, first_N2 + sides_N2], 1).astype(np.int64)
    boxes_N4[(draws_ND[:, 0] >= probability) | ~found_N] = -1
    return views_NCHW.masked_fill(box_mask(boxes_N4, crop, views_NCHW.device), 0.0)


def box_mask(boxes_N4: NDArray[np.int64], crop: int, device: torch.device) -> Tensor:
    """Which pixels of views of crop x crop are in their rectangle: bool [N, 1, H, W].

    boxes_N4: top, left, bottom, right, in pixels, the last two not included; four times -1: no rectangle.
    """
    top, left, bottom, right = to_device(boxes_N4, device)[:, :, None, None, None].unbind(1)
    place = torch.arange(crop, device=device)
    row, column = place[:, None], place
    return (row >= top) & (row < bottom) & (column >= left) & (column < right)
