"""PCA color noise (§4.1): covariance, independence, and kornia's whitening."""

import math

import numpy as np
import pytest
import torch
from comparing import assert_agrees, ks_distance, normal
from numpy_layers import Array

import peers
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import recipe
from alexnet.architecture.spec import InputSpec
from alexnet.data.augmentation import lighting_basis
from alexnet.data.preprocessing import Preprocess

_turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))


COLORS = _turn @ np.diag(np.square([19.7, 37.1, 121.8])) @ _turn.T
"""An RGB covariance with cuda-convnet2's standard deviations, along random axes."""


COUNT = 20_000


def lighting_shifts(recipe_: Recipe, epoch: int = 0) -> Array:
    """The noise added to COUNT images, [N, C, H, W], RGB on 0..255: views with noise minus views without.

    code2012 divides views with noise by 1.1; that is taken back first.
    The input has a scale and BGR order, since the noise is added before both.
    """
    spec = InputSpec(side=6, crop=4, mean=(120.0, 110.0, 100.0), scale=(58.0, 57.0, 29.0), channels="BGR")
    preprocess = Preprocess(spec, torch.tensor(spec.mean).reshape(1, 1, 3))
    photos = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (COUNT, 6, 6, 3), np.uint8))
    basis = lighting_basis(COLORS, recipe_.lighting_scale)
    with_, without = (preprocess.training_views(photos, np.arange(COUNT), recipe_, 3, epoch, lighting).double()
                      for lighting in (basis, None))
    if recipe_.name == "code2012":
        with_ = with_ * 1.1
    return (with_ - without).flip(1).numpy() * np.array(spec.scale)[:, None, None]


@pytest.mark.parametrize("scale", ["deviations", "eigenvalues"])
def test_color_noise_has_the_covariance_of_section_4_1(scale):
    # [p1 p2 p3][a1 l1, a2 l2, a3 l3]^T with a ~ N(0, 0.1) has the covariance P diag((0.1 l)^2) P^T.
    shifts = lighting_shifts(Recipe("l", lighting_scale=scale)).mean((2, 3))
    axes, eigenvalues, _ = np.linalg.svd(COLORS)
    lengths = 0.1 * (np.sqrt(eigenvalues) if scale == "deviations" else eigenvalues / 255)
    wanted = axes @ np.diag(lengths**2) @ axes.T
    variances = np.outer(np.diag(wanted), np.diag(wanted))
    standard_error = np.sqrt((variances + wanted**2) / COUNT)
    assert (np.abs(np.cov(shifts.T) - wanted) < 5 * standard_error).all()
    assert (np.abs(shifts.mean(0)) < 5 * np.sqrt(np.diag(wanted) / COUNT)).all()
    for component in (shifts @ axes / lengths).T:
        assert ks_distance(component, normal) < 2.4 / math.sqrt(COUNT)


def test_color_noise_shifts_a_whole_image_by_one_color():
    shifts = lighting_shifts(Recipe("l"))
    assert np.ptp(shifts, axis=(2, 3)).max() < 1e-3  # float32's rounding of values to 255
    assert np.abs(shifts).mean() > 1


@pytest.mark.parametrize("name", ["paper", "code2012"])  # code2012 shares crops among 32 images, not noise
def test_color_noise_is_independent_for_each_image_and_epoch(name):
    shifts, later = (lighting_shifts(recipe(name), epoch).mean((2, 3)) for epoch in (0, 1))
    deviations = shifts.std(0)
    for one, other in ((shifts[1:], shifts[:-1]), (shifts[32:], shifts[:-32]), (shifts, later)):
        correlations = (one.T @ other) / len(one) / np.outer(deviations, deviations)
        assert np.abs(correlations).max() < 5 / math.sqrt(len(one))


def test_kornias_whitening_inverts_the_color_noise():
    # ZCA's inverse is the square root of the covariance, P diag(l) P^T. The noise has columns P diag(l), with the same
    # square. So the whitened noise is 0.1 times white noise.
    colors = np.random.default_rng(0).multivariate_normal([120, 110, 100], COLORS, 5000)
    whiten, _, root = peers.kornia().enhance.zca_mean(torch.from_numpy(colors), unbiased=False, return_inverse=True)
    basis = lighting_basis(np.cov(colors.T, ddof=0), "deviations").double()
    assert_agrees(basis @ basis.T, (root @ root).numpy(), 1e-5)
    assert_agrees(whiten @ (basis @ basis.T) @ whiten.T, np.eye(3), 1e-5)
