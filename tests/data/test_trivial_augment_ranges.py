"""Levels of TrivialAugment's operations: the whole table of the wide space (arXiv 2103.10158, table 1)."""

import numpy as np
import pytest

from alexnet.data.trivial_augment import LEVELS, OPERATIONS

SIGNED = {"shear_x": 0.99, "shear_y": 0.99, "translate_x": 32.0, "translate_y": 32.0, "rotate": 135.0}
"""Largest shift per pixel, pixels and degrees, in both directions."""

FACTORS = ("brightness", "color", "contrast", "sharpness")
"""From 0.01 to 1.99, where 1 changes nothing."""


def levels(name: str, strength: float) -> list[float]:
    level_of, _ = OPERATIONS[name]
    return level_of(np.array([strength] * 2), np.array([1.0, -1.0])).tolist()


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_every_level_is_that_of_the_table(strength):
    for name, largest in SIGNED.items():
        assert levels(name, strength) == pytest.approx([largest * strength, -largest * strength]), name
    for name in FACTORS:
        assert levels(name, strength) == pytest.approx([1 + 0.99 * strength, 1 - 0.99 * strength]), name
    bits = {0.0: 8, 0.5: 5, 1.0: 2}[strength]
    assert levels("posterize", strength) == [bits] * 2
    threshold = {0.0: 255, 0.5: 127.5, 1.0: 0}[strength]
    assert levels("solarize", strength) == [threshold] * 2
    assert len(OPERATIONS) == len(SIGNED) + len(FACTORS) + len(("posterize", "solarize")) + len(
        ("identity", "autocontrast", "equalize"))


def test_there_are_31_strengths():
    assert LEVELS == 31
