"""The interval of the change of the loss by a temperature: that of a mean of paired differences."""

import math
import statistics

import numpy as np
import pytest

from alexnet.inference.calibration import calibrate


def losses(logits, labels, temperature):
    """The negative log-probability of each image's true class, image by image."""
    found = []
    for row, label in zip(logits.astype(float), labels, strict=True):
        scaled = [value / temperature for value in row]
        found.append(math.log(sum(math.exp(value) for value in scaled)) - scaled[label])
    return found


def test_the_interval_is_the_mean_change_and_1_96_standard_errors():
    rng = np.random.default_rng(0)
    logits = (rng.normal(size=(300, 5)) * 3).astype(np.float32)
    labels = np.where(rng.random(300) < 0.5, logits.argmax(1), rng.integers(0, 5, 300))
    content = np.arange(300, dtype=np.uint64)  # the first half fits the temperature, the second one measures
    found = calibrate(logits, labels, content)
    before, after = (losses(logits[150:], labels[150:], temperature) for temperature in (1.0, found.temperature))
    changes = [new - old for new, old in zip(after, before, strict=True)]
    error = statistics.stdev(changes) / math.sqrt(150)
    assert found.loss_change == pytest.approx(statistics.fmean(changes))
    assert found.loss_change_interval == pytest.approx(
        (found.loss_change - 1.96 * error, found.loss_change + 1.96 * error), rel=1e-3)
    assert found.before.loss == pytest.approx(statistics.fmean(before))
    assert found.after.loss == pytest.approx(statistics.fmean(after))
