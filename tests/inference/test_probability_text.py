"""Probabilities in percent: what only rounds to 0% or 100% is not called that."""

import pytest

from alexnet.inference.predictor import probability_text


@pytest.mark.parametrize(("probability", "text", "tenths"), [
    (1.0, "100.0%", "100.0%"), (0.99996, ">99.9%", ">99.9%"), (0.9995, ">99.9%", ">99.9%"),
    (0.9994, "99.9%", "99.9%"), (0.99, "99.0%", "99.0%"), (0.989, "99%", "98.9%"), (0.81, "81%", "81.0%"),
    (0.099, "9.9%", "9.9%"), (0.0006, "0.1%", "0.1%"), (0.0004, "<0.1%", "<0.1%"), (0.0, "0.0%", "0.0%")])
def test_a_probability_in_percent(probability, text, tenths):
    assert (probability_text(probability), probability_text(probability, tenths=True)) == (text, tenths)
