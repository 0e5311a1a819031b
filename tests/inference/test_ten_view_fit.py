"""The temperature of ten views is the one that generic optimizers find for means of softmax outputs."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import log_loss

from alexnet.errors import UserError
from alexnet.inference.temperature import fit_temperature, fit_ten_view_temperature, mean_softmax


def several_views(images, classes, views=10, spread=3.0, noise=2.0, seed=0):
    """Labels drawn from softmax(truth), and logits that are the truth and noise of each view's own."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(images, 1, classes)) * spread
    labels = (softmax(truth[:, 0], -1).cumsum(1) > rng.random((images, 1))).argmax(1)
    return (truth + rng.normal(size=(images, views, classes)) * noise).astype(np.float32), labels


def mean_loss(logits, labels, temperature):
    return log_loss(labels, softmax(logits.astype(float) / temperature, -1).mean(1), labels=range(logits.shape[2]))


@pytest.mark.parametrize(("classes", "noise"), [(2, 1.0), (10, 2.0), (10, 4.0), (100, 2.0)])
def test_it_minimizes_the_log_loss_of_the_mean_as_scipy_and_scikit_learn_measure_it(classes, noise):
    logits, labels = several_views(800, classes, noise=noise)
    best = minimize_scalar(lambda t: mean_loss(logits, labels, t), bounds=(0.05, 20), method="bounded",
                           options={"xatol": 1e-7})
    assert fit_ten_view_temperature(logits, labels) == pytest.approx(best.x, rel=1e-4)


def test_the_mean_needs_a_lower_temperature_than_its_views():
    """Each view is overconfident by its noise, and the mean over views averages the noise away."""
    logits, labels = several_views(2000, 10)
    one = fit_temperature(logits[:, 0], labels)
    assert one > 1.2
    assert fit_ten_view_temperature(logits, labels) < 0.9 * one


def test_one_view_has_the_temperature_of_the_convex_fit():
    logits, labels = several_views(500, 10, views=1)
    assert fit_ten_view_temperature(logits, labels) == pytest.approx(fit_temperature(logits[:, 0], labels), rel=1e-4)


def test_of_two_minima_the_lower_one_is_found():
    """Six images of two classes: by how much class 0, the true one, leads in most of the views and in the others."""
    leads = ((0.07, 10, 0.0), (-6.44, 9, 6.44), (-0.03, 9, 0.03), (0.09, 10, 0.0), (17.08, 9, -17.08), (0.05, 10, 0.0))
    logits = np.zeros((6, 10, 2), np.float32)
    for image, (most, count, other) in enumerate(leads):
        logits[image, :, 0] = [most] * count + [other] * (10 - count)
    labels = np.zeros(6, int)
    grid = np.geomspace(0.011, 90, 2000)
    losses = np.array([-np.log(softmax(logits / t, -1).mean(1)[:, 0]).mean() for t in grid])
    minima = grid[1:-1][(losses[1:-1] < losses[:-2]) & (losses[1:-1] < losses[2:])]
    assert minima == pytest.approx([0.0265, 12.2], rel=0.03)
    found = fit_ten_view_temperature(logits, labels)
    assert found == pytest.approx(0.0265, rel=0.03)
    assert -np.log(softmax(logits / found, -1).mean(1)[:, 0]).mean() <= losses.min()


def test_the_mean_is_of_probabilities_and_not_of_logits(monkeypatch):
    monkeypatch.setattr("alexnet.inference.temperature._CHUNK", 70)  # two images of 5 views and 7 classes at a time
    logits = (np.random.default_rng(0).normal(size=(5, 5, 7)) * 4).astype(np.float32)
    expected = [np.mean([np.exp(view / 1.5) / np.exp(view / 1.5).sum() for view in image], axis=0)
                for image in logits.astype(float)]
    np.testing.assert_allclose(mean_softmax(logits, 1.5), expected, rtol=1e-6)


def test_where_no_temperature_is_best_none_is_returned():
    right = np.repeat(np.eye(3, dtype=np.float32)[np.arange(60) % 3, None] * 5, 10, axis=1)
    for labels in (np.arange(60) % 3, (np.arange(60) + 1) % 3):  # always right: the coldest; always wrong: the hottest
        with pytest.raises(UserError, match="the best temperature for ten views lies outside"):
            fit_ten_view_temperature(right, labels)
    with pytest.raises(UserError, match="not finite"):
        fit_ten_view_temperature(np.full((60, 10, 3), np.nan, np.float32), np.arange(60) % 3)
