"""Heat maps of Grad-CAM and occlusion: the color map that the server's page, the demo and all figures share.

From teal over green to yellow, the upper part of viridis: its lightness rises evenly, and its hues are far from those
of red images and of skin. A line around the strongest part is visible on images of any color.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.floating[Any]]

FOR = np.array([
    (47, 108, 142), (39, 128, 142), (32, 147, 140), (34, 167, 133), (56, 185, 119), (96, 202, 96), (147, 215, 65),
    (202, 225, 31), (253, 231, 37)])
"""RGB of effects for the class, from none to the strongest: matplotlib's viridis from 0.35 to 1 (CC0)."""

AGAINST = np.array((143, 13, 164))
"""RGB of effects against the class: violet, of matplotlib's plasma at 0.3."""

OPACITY = 0.8
"""Of the strongest effect."""

CONTOUR = 0.5
"""The line encloses where the effect is more than this part of the strongest one."""

STEPS = 40
"""Colors of a picture. Two neighbors look the same to the eye, and the PNG file has half the bytes."""


def heat_colors(strength: Floats) -> NDArray[np.uint8]:
    """Effects from -1 (against the class) to 1 (for it) as RGBA, transparent at 0: uint8 [..., 4]."""
    size = np.abs(strength).clip(0, 1)
    anchors = np.linspace(0, 1, len(FOR))
    positive = np.stack([np.interp(size, anchors, FOR[:, channel]) for channel in range(3)], axis=-1)
    colors = np.where(strength[..., None] < 0, AGAINST, positive)
    return np.concatenate([colors, 255 * OPACITY * size[..., None] ** 0.7], axis=-1).round().astype(np.uint8)


def heat_layer(heat_HW: Floats, side: int) -> NDArray[np.uint8]:
    """A heat map as a picture to lay over the image, with a line around its strongest part: uint8 [side, side, 4].

    Args:
        heat_HW: effects; the largest has the full color.
        side: of the picture, in pixels.
    """
    scaled = (heat_HW / (np.abs(heat_HW).max() or 1.0)).astype(np.float32)
    strength = np.asarray(Image.fromarray(scaled).resize((side, side), Image.Resampling.BILINEAR))
    colors = heat_colors(np.arange(-STEPS, STEPS + 1) / STEPS)
    layer_HWC = colors[np.rint(strength * STEPS).astype(np.intp) + STEPS]
    enclosed, width = strength > CONTOUR, max(1, side // 300)
    layer_HWC[_grown(enclosed, width) & ~enclosed] = (0, 0, 0, 255)
    layer_HWC[enclosed & _grown(~enclosed, width)] = (255, 255, 255, 255)
    return layer_HWC


def _grown(mask_HW: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """The mask with all that is at most so many pixels away from it, along each side."""
    for axis in (0, 1):
        lines = np.moveaxis(mask_HW, axis, 0)
        grown = lines.copy()
        for distance in range(1, pixels + 1):
            grown[distance:] |= lines[:-distance]
            grown[:-distance] |= lines[distance:]
        mask_HW = np.moveaxis(grown, 0, axis)
    return mask_HW


def heat_over_photo(photo_HWC: NDArray[np.uint8], heat_HW: Floats, seen: float) -> NDArray[np.uint8]:
    """Lay a heat map over the part of a photo that the network sees; the rest becomes darker: uint8 [H, W, 3].

    Args:
        photo_HWC: uint8 [H, W, 3].
        heat_HW: effects in the network's input.
        seen: side of the central square that the network sees, as a fraction of the photo's shorter side.
    """
    photo = Image.fromarray(photo_HWC)
    side = round(seen * min(photo.size))
    corner = (photo.width - side) // 2, (photo.height - side) // 2
    part = photo.crop((*corner, corner[0] + side, corner[1] + side)).convert("RGBA")
    part.alpha_composite(Image.fromarray(heat_layer(heat_HW, side)))
    picture = photo.point(lambda value: 0.55 * value)
    picture.paste(part.convert("RGB"), corner)
    return np.asarray(picture)


def css_gradient() -> str:
    """The color map as a CSS gradient, for a legend: none on the left, the strongest effect on the right."""
    stops = (f"rgb({red} {green} {blue} / {alpha / 2.55:.0f}%)"
             for red, green, blue, alpha in heat_colors(np.linspace(0, 1, 2 * len(FOR) - 1)))
    return f"linear-gradient(to right, {', '.join(stops)})"
