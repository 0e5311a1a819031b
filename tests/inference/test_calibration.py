"""The temperature is the one that a generic optimizer finds, and the ECE that of its definition."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from alexnet.inference.calibration import calibrate, calibrate_ten_views, expected_calibration_error
from alexnet.inference.temperature import fit_temperature, fit_ten_view_temperature, softmax


def overconfident(images, classes, temperature, seed=0):
    """Labels drawn from softmax(logits / temperature): a network that needs this temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(images, classes)) * 4
    probabilities = softmax(logits / temperature)
    labels = (probabilities.cumsum(1) > rng.random((images, 1))).argmax(1)
    return logits.astype(np.float32), labels


@pytest.mark.parametrize(("classes", "temperature"), [(2, 1.5), (10, 2.5), (10, 0.6), (1000, 1.0)])
def test_temperature_minimizes_the_log_loss_as_scipy_and_scikit_learn_measure_it(classes, temperature):
    logits, labels = overconfident(1500, classes, temperature)
    best = minimize_scalar(lambda t: log_loss(labels, softmax(logits / t), labels=range(classes)), bounds=(0.05, 20),
                           method="bounded", options={"xatol": 1e-7})
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(best.x, rel=1e-4)
    assert found == pytest.approx(temperature, rel=0.15)


def test_ece_is_the_sum_over_fifteen_bins_of_guo_et_al():
    rng = np.random.default_rng(0)
    confidence = np.concatenate([rng.uniform(0.1, 1, 500), [1.0, 1 / 15, 0.2]])
    right = rng.random(503) < confidence**2
    expected = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            expected += inside.sum() / 503 * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(confidence, right) == pytest.approx(expected)
    # By hand: nine of ten are right at 0.9, and all are wrong at 0.5.
    assert expected_calibration_error(np.array([0.9] * 10 + [0.5] * 10), np.array([True] * 9 + [False] * 11)) == (
        pytest.approx(0.25))


def test_calibration_is_measured_on_images_that_did_not_fit_it():
    logits, labels = overconfident(4000, 10, 3.0)
    content = np.random.default_rng(5).integers(0, 2**64, 4000, np.uint64)
    found = calibrate(logits, labels, content)
    assert (found.fitted_images, found.measured_images) == (2000, 2000)
    held_out = content > np.median(content.astype(np.float64))
    rest = fit_temperature(logits[~held_out], labels[~held_out])
    assert found.temperature == pytest.approx(rest, rel=1e-6)
    assert found.helps
    assert found.before.ece > 0.15 > 0.05 > found.after.ece
    # A perfectly calibrated network does not measure zero on 2,000 images.
    low, high = found.after.calibrated_range
    assert 0.005 < low < found.after.calibrated_ece < high < 0.05
    assert found.before.ece > found.before.calibrated_range[1]
    assert found.loss_change == pytest.approx(found.after.loss - found.before.loss)
    assert found.loss_change_interval[0] < found.loss_change < found.loss_change_interval[1] < 0


def test_a_calibrated_network_measures_an_ece_in_its_range_and_no_temperature_helps_it():
    inside = helped = 0
    for seed in range(40):
        logits, labels = overconfident(600, 10, 1.0, seed)
        found = calibrate(logits, labels, np.random.default_rng(seed).integers(0, 2**64, 600, np.uint64))
        inside += found.before.calibrated_range[0] <= found.before.ece <= found.before.calibrated_range[1]
        helped += found.helps
    assert inside >= 34  # 38 are expected
    assert helped <= 4


def test_copies_of_an_image_are_all_fitted_or_all_measured():
    logits, labels = overconfident(60, 3, 2.0)
    content = np.repeat(np.arange(6, dtype=np.uint64), 10)
    found = calibrate(logits, labels, content)
    assert (found.fitted_images, found.measured_images) == (30, 30)
    with pytest.raises(ValueError, match="too few"):
        calibrate(logits, labels, np.full(60, 7, np.uint64))


def test_where_no_temperature_is_best_none_is_returned():
    right = np.eye(3, dtype=np.float32)[np.arange(60) % 3] * 5
    with pytest.raises(ValueError, match="classifies all 60 calibration images correctly"):
        fit_temperature(right, np.arange(60) % 3)
    with pytest.raises(ValueError, match="no better than chance"):
        fit_temperature(right, (np.arange(60) + 1) % 3)
    with pytest.raises(ValueError, match="too few"):
        calibrate(right, np.arange(60) % 3, np.zeros(0, np.uint64))


def test_ten_views_are_fitted_on_the_same_half_and_compared_with_the_temperature_of_one_view():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(1200, 1, 10)) * 3
    labels = (softmax(truth[:, 0]).cumsum(1) > rng.random((1200, 1))).argmax(1)
    logits = (truth + rng.normal(size=(1200, 10, 10)) * 2).astype(np.float32)
    content = rng.integers(0, 2**64, 1200, np.uint64)
    one = calibrate(logits[:, 0], labels, content)
    found = calibrate_ten_views(logits, labels, one.temperature, content)
    fit = content <= np.sort(content)[599]
    assert found.temperature == fit_ten_view_temperature(logits[fit], labels[fit])
    assert found.temperature != pytest.approx(fit_ten_view_temperature(logits[~fit], labels[~fit]), rel=1e-3)
    assert (found.fitted_images, found.measured_images) == (one.fitted_images, one.measured_images) == (600, 600)
    for measured, temperature in ((found.before, one.temperature), (found.after, found.temperature)):
        outputs = softmax(logits[~fit] / temperature).mean(1)
        assert measured.loss == pytest.approx(log_loss(labels[~fit], outputs, labels=range(10)))
        assert measured.ece == expected_calibration_error(outputs.max(1), outputs.argmax(1) == labels[~fit])
    assert found.helps
    assert found.after.ece < found.before.ece - 0.05


def test_ten_views_are_measured_on_the_images_that_are_named():
    """Those that look like images that fit are in neither half."""
    logits, labels = overconfident(400, 4, 2.0)
    logits = np.repeat(logits[:, None], 10, axis=1) + np.random.default_rng(1).normal(size=(400, 10, 4))
    content, measured = np.arange(400, dtype=np.uint64), np.arange(400) >= 250
    found = calibrate_ten_views(logits.astype(np.float32), labels, 1.0, content, measured, np.arange(400) // 5)
    assert (found.fitted_images, found.measured_images, found.groups) == (200, 150, 30)
