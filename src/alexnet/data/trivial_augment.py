"""TrivialAugment, wide (Müller & Hutter 2021, arXiv 2103.10158): one random operation on each training image.

The operations and their ranges are the paper's table of the wide space, as in torchvision's TrivialAugmentWide. Images
of one batch that drew the same operation are changed together, on the batch's device.
Shapes: N images, H rows, W columns, C color channels. Levels are in units of their operation, one an image.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet._runtime.devices import to_device

LEVELS = 31
"""Strengths of an operation, evenly spaced from none to the strongest."""


def trivial_augment(pixels_NHWC: Tensor, draws_N3: NDArray[np.float64]) -> Tensor:
    """Apply one operation to each image.

    Args:
        pixels_NHWC: uint8, square images. They are not changed.
        draws_N3: uniform numbers in 0 < u < 1, which choose operation, strength and sign.

    Returns:
        uint8, of the same shape. What a rotation, shear or translation moves into the image is black.
    """
    names = list(OPERATIONS)
    chosen_N = (draws_N3[:, 0] * len(names)).astype(np.int64)
    strength_N = (draws_N3[:, 1] * LEVELS).astype(np.int64) / (LEVELS - 1)
    sign_N = np.where(draws_N3[:, 2] < 0.5, -1.0, 1.0)
    augmented = pixels_NHWC.clone()
    for number, name in enumerate(names):
        rows = np.flatnonzero(chosen_N == number)
        if not len(rows):
            continue
        level_of, apply = OPERATIONS[name]
        levels = to_device(level_of(strength_N[rows], sign_N[rows]).astype(np.float32), pixels_NHWC.device)
        on_device = to_device(rows, pixels_NHWC.device)
        augmented[on_device] = apply(pixels_NHWC[on_device], levels)
    return augmented


def _affine(pixels_NHWC: Tensor, matrix_N23: Tensor) -> Tensor:
    """Move pixels: the color at a position of the result is that of its image at `matrix` times this position.

    Positions are (column, row, 1), in pixels from the top left corner; the nearest pixel is taken.
    """
    images, side = len(pixels_NHWC), pixels_NHWC.shape[1]
    center = torch.arange(side, device=pixels_NHWC.device) + 0.5
    column, row = (
        (across[:, None, None] * center + down[:, None, None] * center[:, None] + shift[:, None, None]).floor().long()
        for across, down, shift in (matrix_N23[:, axis].unbind(1) for axis in (0, 1)))
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    place = row.clamp(0, side - 1) * side + column.clamp(0, side - 1)
    image = torch.arange(images, device=pixels_NHWC.device)[:, None, None]
    return pixels_NHWC.flatten(1, 2)[image, place] * inside[..., None]


def _matrix(levels: Tensor, *entries: Tensor | float) -> Tensor:
    """[N, 2, 3] from six entries, row by row, which are numbers or [N]."""
    columns = [entry if isinstance(entry, Tensor) else torch.full_like(levels, entry) for entry in entries]
    return torch.stack(columns, 1).unflatten(1, (2, 3))


def shear_x(pixels_NHWC: Tensor, levels: Tensor) -> Tensor:
    """Shift each row by `level` times its distance from the top."""
    return _affine(pixels_NHWC, _matrix(levels, 1.0, levels, 0.0, 0.0, 1.0, 0.0))


def shear_y(pixels_NHWC: Tensor, levels: Tensor) -> Tensor:
    """Shift each column by `level` times its distance from the left."""
    return _affine(pixels_NHWC, _matrix(levels, 1.0, 0.0, 0.0, levels, 1.0, 0.0))


def translate_x(pixels_NHWC: Tensor, levels: Tensor) -> Tensor:
    """Move the image by `level` pixels to the right, rounded toward zero."""
    return _affine(pixels_NHWC, _matrix(levels, 1.0, 0.0, -levels.trunc(), 0.0, 1.0, 0.0))


def translate_y(pixels_NHWC: Tensor, levels: Tensor) -> Tensor:
    """Move the image by `level` pixels down, rounded toward zero."""
    return _affine(pixels_NHWC, _matrix(levels, 1.0, 0.0, 0.0, 0.0, 1.0, -levels.trunc()))


def rotate(pixels_NHWC: Tensor, levels: Tensor) -> Tensor:
    """Rotate the image by `level` degrees about its center, counterclockwise."""
    cos, sin, middle = levels.deg2rad().cos(), levels.deg2rad().sin(), pixels_NHWC.shape[1] / 2
    return _affine(pixels_NHWC, _matrix(
        levels, cos, -sin, middle * (1 - cos + sin), sin, cos, middle * (1 - cos - sin)))


def _blend(pixels_NHWC: Tensor, other_NHWC: Tensor | float, factors: Tensor) -> Tensor:
    """factor x image + (1 - factor) x other, cut to 0..255; its fraction is dropped."""
    factor_N111 = factors[:, None, None, None]
    return (pixels_NHWC * factor_N111 + other_NHWC * (1 - factor_N111)).clamp(0, 255).to(torch.uint8)


def _gray(pixels_NHWC: Tensor) -> Tensor:
    """Luminance, of one channel, rounded down."""
    red, green, blue = pixels_NHWC.float().split(1, dim=-1)
    return (red * 0.2989 + green * 0.587 + blue * 0.114).floor()


def brightness(pixels_NHWC: Tensor, levels: Tensor) -> Tensor:
    """Blend with black: level 1 keeps the image, 0 leaves the other."""
    return _blend(pixels_NHWC, 0.0, levels)


def color(pixels_NHWC: Tensor, levels: Tensor) -> Tensor:
    """Blend with the gray image: level 1 keeps the image, 0 leaves the other."""
    return _blend(pixels_NHWC, _gray(pixels_NHWC), levels)


def contrast(pixels_NHWC: Tensor, levels: Tensor) -> Tensor:
    """Blend with the mean of the gray image: level 1 keeps the image, 0 leaves the other."""
    gray = _gray(pixels_NHWC)
    # A sum of integers is exact, so it does not depend on how many images are summed at once.
    mean = gray.long().sum((1, 2, 3), keepdim=True).float() / gray[0].numel()
    return _blend(pixels_NHWC, mean, levels)


def sharpness(pixels_NHWC: Tensor, levels: Tensor) -> Tensor:
    """Blend with a smoothed image: level 1 keeps the image, 0 leaves the other. The pixels at the edge stay."""
    side = pixels_NHWC.shape[1]
    wide = pixels_NHWC.int()
    neighbors = [wide[:, top : side - 2 + top, left : side - 2 + left] for top in range(3) for left in range(3)]
    smooth = ((torch.stack(neighbors).sum(0) + 4 * neighbors[4]).float() / 13).round()
    sharp = pixels_NHWC.clone()
    sharp[:, 1:-1, 1:-1] = _blend(pixels_NHWC[:, 1:-1, 1:-1], smooth, levels)
    return sharp


def posterize(pixels_NHWC: Tensor, levels: Tensor) -> Tensor:
    """Keep the `level` highest bits of every value."""
    step_N = (1 << (8 - levels.int())).to(torch.uint8)
    return pixels_NHWC - pixels_NHWC % step_N[:, None, None, None]


def solarize(pixels_NHWC: Tensor, levels: Tensor) -> Tensor:
    """Invert the values that are not below `level`."""
    return torch.where(pixels_NHWC >= levels[:, None, None, None], 255 - pixels_NHWC, pixels_NHWC)


def autocontrast(pixels_NHWC: Tensor, levels: Tensor) -> Tensor:
    """Stretch each channel to 0..255. A channel of one value stays."""
    wide = pixels_NHWC.int()  # exact; torchvision's floats give 254 where a channel of 0 to 100 should reach 255
    low, high = wide.amin((1, 2), keepdim=True), wide.amax((1, 2), keepdim=True)
    stretched = (wide - low) * 255 // (high - low).clamp(min=1)
    return torch.where(low == high, wide, stretched).to(torch.uint8)


def equalize(pixels_NHWC: Tensor, levels: Tensor) -> Tensor:
    """Make each channel's histogram flat, by Pillow's rule. A channel of one value stays."""
    value_NCP = pixels_NHWC.permute(0, 3, 1, 2).flatten(2).long()
    histogram_NCV = torch.zeros((*value_NCP.shape[:2], 256), dtype=torch.int64, device=value_NCP.device)
    histogram_NCV.scatter_add_(2, value_NCP, torch.ones_like(value_NCP))
    below_NCV = histogram_NCV.cumsum(2) - histogram_NCV
    highest = value_NCP.amax(2, keepdim=True)
    step = below_NCV.gather(2, highest) // 255  # pixels in each of 255 levels, those of the highest value left out
    table_NCV = ((below_NCV + step // 2) // step.clamp(min=1)).clamp(0, 255)
    equalized_NCP = torch.where(step > 0, table_NCV.gather(2, value_NCP), value_NCP)
    return equalized_NCP.to(torch.uint8).unflatten(2, pixels_NHWC.shape[1:3]).permute(0, 2, 3, 1)


Values = NDArray[np.float64]


def _signed(largest: float) -> Callable[[Values, Values], Values]:
    return lambda strength, sign: strength * largest * sign


def _factor(strength: Values, sign: Values) -> Values:
    return 1 + 0.99 * strength * sign


OPERATIONS: dict[str, tuple[Callable[[Values, Values], Values], Callable[[Tensor, Tensor], Tensor]]] = {
    "identity": (lambda strength, sign: strength, lambda pixels_NHWC, levels: pixels_NHWC),
    "shear_x": (_signed(0.99), shear_x),
    "shear_y": (_signed(0.99), shear_y),
    "translate_x": (_signed(32.0), translate_x),
    "translate_y": (_signed(32.0), translate_y),
    "rotate": (_signed(135.0), rotate),
    "brightness": (_factor, brightness),
    "color": (_factor, color),
    "contrast": (_factor, contrast),
    "sharpness": (_factor, sharpness),
    "posterize": (lambda strength, sign: (8 - 6 * strength).round(), posterize),
    "solarize": (lambda strength, sign: 255 * (1 - strength), solarize),
    "autocontrast": (lambda strength, sign: strength, autocontrast),
    "equalize": (lambda strength, sign: strength, equalize),
}
"""Each operation: (strength in 0..1, sign) -> level, and (images, levels) -> images."""
