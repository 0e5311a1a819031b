"""The temperature is the one that a generic optimizer finds, and the ECE that of its definition."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from alexnet.inference.calibration import calibrate, expected_calibration_error, fit_temperature, softmax


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
    with pytest.raises(ValueError, match="right about all 60 images"):
        fit_temperature(right, np.arange(60) % 3)
    with pytest.raises(ValueError, match="no better than a guess"):
        fit_temperature(right, (np.arange(60) + 1) % 3)
    with pytest.raises(ValueError, match="too few"):
        calibrate(right, np.arange(60) % 3, np.zeros(0, np.uint64))
