"""Probabilities in percent: what only rounds to 0% or 100% is not called that."""

from types import SimpleNamespace

import pytest

from alexnet.cli.render_check import _suspects
from alexnet.inference.classifier import probability_text
from alexnet.inference.data_check import _label_findings
from alexnet.inference.label_check import LabelCheck, Suspect


@pytest.mark.parametrize(("probability", "text", "tenths"), [
    (1.0, "100.0%", "100.0%"), (0.99996, ">99.9%", ">99.9%"), (0.9995, ">99.9%", ">99.9%"),
    (0.9994, "99.9%", "99.9%"), (0.99, "99.0%", "99.0%"), (0.989, "99%", "98.9%"), (0.81, "81%", "81.0%"),
    (0.099, "9.9%", "9.9%"), (0.0006, "0.1%", "0.1%"), (0.0004, "<0.1%", "<0.1%"), (0.0, "0.0%", "0.0%")])
def test_a_probability_in_percent(probability, text, tenths):
    assert (probability_text(probability), probability_text(probability, tenths=True)) == (text, tenths)


def test_suspicious_labels_have_no_probability_of_0_or_100_percent():
    suspect = Suspect("a.png", "train", "ash", "elm", 0.9999, 0.0001)
    labels = LabelCheck((suspect,), 1000, 1000, 1, 0, 0.004)
    (finding,) = _label_findings(labels)
    assert "labeled ash (<0.1%) and predicted elm (>99.9%)" in finding.problem
    assert "disagrees with 0.4% of all labels" in finding.remedy  # 0% would be none
    line = next(line for line in _suspects(SimpleNamespace(labels=labels)) if "a.png" in line)
    assert line.split() == ["1", "ash", "<0.1%", "elm", ">99.9%", "a.png"]
