"""The color map of Grad-CAM: viridis, readable on images of any color, with a line around its strongest part."""

import matplotlib
import numpy as np
import pytest

from alexnet.interpret.heat_map import css_gradient, heat_colors, heat_layer


def lab(rgb):
    """CIELAB (D65) of sRGB colors 0..255, by the definition of IEC 61966-2-1 and CIE 15."""
    linear = np.asarray(rgb, float) / 255
    linear = np.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    ratio = xyz / [0.9505, 1.0, 1.089]
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def over(layer, background):
    alpha = layer[..., 3:] / 255
    return layer[..., :3] * alpha + np.array(background) * (1 - alpha)


def test_the_colors_are_the_upper_part_of_viridis():
    strength = np.linspace(0, 1, 33)
    expected = 255 * matplotlib.colormaps["viridis"](0.35 + 0.65 * strength)[:, :3]
    assert np.abs(heat_colors(strength)[:, :3] - expected).max() < 10
    lightness = lab(heat_colors(strength)[:, :3])[:, 0]
    assert (np.diff(lightness) > 0).all()  # lightness alone tells the strength
    assert np.diff(lightness).max() < 2.5 * np.diff(lightness).min()


@pytest.mark.parametrize("photo", [(200, 30, 30), (230, 60, 40), (120, 10, 20), (255, 120, 100)])
def test_an_effect_is_seen_on_a_red_image(photo):
    seen = lab(over(heat_colors(np.array([0.0, 0.25, 0.5, 1.0])), photo))
    distance = np.linalg.norm(seen - lab(photo), axis=-1)  # 2.3 is just noticeable
    assert distance[0] == pytest.approx(0, abs=0.1)
    assert (np.diff(distance) > 5).all()
    assert distance[2] > 50


def test_an_effect_against_the_class_is_violet():
    against, for_ = lab(heat_colors(np.array([-1.0, 1.0]))[:, :3])
    assert against[2] < -20 < 60 < for_[2]  # b*: blue to yellow, which the color-blind tell apart too


@pytest.mark.parametrize("photo", [(253, 231, 37), (34, 167, 133), (255, 255, 255), (0, 0, 0)])
def test_a_line_shows_the_strongest_part_on_every_color(photo):
    heat = np.zeros((7, 7))
    heat[3, 3] = 5.0  # scaled by the largest
    seen = lab(over(heat_layer(heat, 140), photo))[70, :, 0]  # the lightness along the middle row
    assert seen.max() > 99
    assert seen.min() < 1  # a white line beside a black one
    left = np.flatnonzero(np.abs(np.diff(seen)) > 40)[0]
    assert 50 < left < 70  # half of the strongest effect, bilinearly: 10 pixels from the middle of 140


def test_a_map_without_effects_is_transparent():
    assert (heat_layer(np.zeros((4, 4)), 40)[..., 3] == 0).all()


def test_the_legend_has_the_same_colors():
    assert css_gradient().startswith("linear-gradient(to right, rgb(47 108 142 / 0%), ")
    assert css_gradient().endswith("rgb(253 231 37 / 80%))")
