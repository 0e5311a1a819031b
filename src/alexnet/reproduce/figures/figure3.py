"""Figure 3 of the paper: the kernels of conv1, tower by tower, and how colorful and smooth they are.

Shapes: O kernels, 3 color channels, H rows, W columns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet.architecture.spec import Arch
from alexnet.errors import UserError
from alexnet.models import checkpoint as ckpt
from alexnet.reproduce.figures.axes import SMALL
from alexnet.reproduce.figures.drawing import Drawing

Weights = NDArray[np.floating[Any]]

RANDOM_COLOR = 2 / 3
"""`colorfulness` of random weights: the square of the mean of three values takes a third of their energy."""

RANDOM_SMOOTHNESS = 0.15
"""`smoothness` below which kernels count as random; 16 random kernels of 3x3 reach 0.13 by chance."""


def figure3(saved: ckpt.Checkpoint) -> Drawing:
    """Draw conv1's kernels, tower 1 above tower 2 (or groups), each titled with its colorfulness."""
    weight_OIHW, towers = conv1_in_rgb(saved), conv1_towers(saved.arch)
    width, margin, room = 400.0, 3.0, 20.0  # points: the kernels, the space around them, the title above a tower
    sheets = [kernel_sheet(tower_OIHW, scale=1) for tower_OIHW in np.split(weight_OIHW, towers)]
    heights = [width * sheet.shape[0] / sheet.shape[1] for sheet in sheets]
    drawing = Drawing(width + 2 * margin, sum(heights) + room * towers + margin + 6 * (towers - 1),
                      f"The {len(weight_OIHW)} filters of conv1")
    top = 0.0
    for number, (sheet, height, share) in enumerate(zip(sheets, heights, colorfulness(weight_OIHW, towers),
                                                        strict=True), 1):
        title = (f"{saved.arch.part_name.capitalize()} {number}" if towers > 1 else
                 f"{len(weight_OIHW)} filters")
        drawing.text(margin, top + 5, f"{title}: {share:.0%} color (random weights: {RANDOM_COLOR:.0%})", SMALL,
                     vertical="top")
        drawing.picture(sheet, margin, top + room, width, height, Image.Resampling.NEAREST)
        top += room + height + 6
    return drawing


def conv1_in_rgb(saved: ckpt.Checkpoint) -> NDArray[np.float32]:
    """The first convolution's weights [O, 3, H, W] in the order RGB, also for a network that takes BGR."""
    arch = saved.arch
    weight_OIHW = saved.weights[f"features.{0 if arch.state_keys == 'torchvision' else 'conv1'}.weight"].numpy()
    return weight_OIHW[:, ::-1] if arch.input.channels == "BGR" else weight_OIHW


def conv1_towers(arch: Arch) -> int:
    """The number of towers that conv1's kernels divide into evenly."""
    return math.gcd(arch.conv[0].width, arch.towers)


def kernel_sheet(weight_OIHW: Weights, towers: int = 1, scale: int = 8) -> NDArray[np.uint8]:
    """Arrange the first layer's kernels as Figure 3 does: 16 in a row, tower 1 above tower 2.

    Each kernel is stretched to the full range by itself, over its three colors together, so that gray stays gray.

    Args:
        weight_OIHW: float [O, 3, H, W], RGB; O is a multiple of towers.
        towers: number of groups, separated by a wider gap.
        scale: pixels per side of one weight.

    Returns:
        RGBA uint8 [rows, columns, 4], transparent between the kernels.
    """
    if weight_OIHW.shape[1] != 3:
        raise UserError(f"kernels of {weight_OIHW.shape[1]} channels have no colors to show", "give those of conv1")
    low = weight_OIHW.min(axis=(1, 2, 3), keepdims=True)
    span = weight_OIHW.max(axis=(1, 2, 3), keepdims=True) - low
    pixels_OHWI = ((weight_OIHW - low) / np.where(span > 0, span, 1) * 255).round().transpose(0, 2, 3, 1)

    count, height, width, _ = pixels_OHWI.shape
    per_tower = count // towers
    columns = min(16, per_tower)
    rows = -(-per_tower // columns)
    tower_height = rows * (height + 1) - 1  # one weight's width between kernels, three between towers
    sheet = np.zeros((towers * (tower_height + 3) - 3, columns * (width + 1) - 1, 4), np.uint8)
    for number, kernel in enumerate(pixels_OHWI):
        tower, place = divmod(number, per_tower)
        top, left = tower * (tower_height + 3) + place // columns * (height + 1), place % columns * (width + 1)
        sheet[top : top + height, left : left + width, :3] = kernel
        sheet[top : top + height, left : left + width, 3] = 255
    return sheet.repeat(scale, axis=0).repeat(scale, axis=1)


def colorfulness(weight_OIHW: Weights, towers: int = 1) -> list[float]:
    """The share of the kernels' energy that is color, for each tower: 0 for gray kernels, 2/3 for random weights.

    The gray part of a kernel is the mean of its three channels at each position; the rest is color. The share is
    averaged over kernels, so a strong kernel counts as much as a weak one. §6.1 calls the two towers of Figure 3
    color-agnostic and color-specific and gives no number; this index is ours.
    """
    gray_OIHW = weight_OIHW.mean(axis=1, keepdims=True)
    color_O = ((weight_OIHW - gray_OIHW) ** 2).sum(axis=(1, 2, 3))
    share_O = color_O / np.maximum((weight_OIHW**2).sum(axis=(1, 2, 3)), np.finfo(np.float32).tiny)
    return [float(tower.mean()) for tower in np.split(share_O, towers)]


def smoothness(weight_OIHW: Weights) -> float:
    """Correlation of neighboring weights: 0 for random weights, 1 for a flat kernel; high for edges and blobs.

    The mean product of vertical and horizontal neighbors over the mean square, averaged over kernels.
    """
    square_O = np.maximum((weight_OIHW**2).mean(axis=(1, 2, 3)), np.finfo(np.float32).tiny)
    pairs = [(weight_OIHW[:, :, 1:], weight_OIHW[:, :, :-1]), (weight_OIHW[..., 1:], weight_OIHW[..., :-1])]
    products = [(first * second).mean(axis=(1, 2, 3)) / square_O for first, second in pairs if first.size]
    return float(np.mean(products)) if products else 0.0
