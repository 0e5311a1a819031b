"""The figure of `alexnet lr-find`: losses over a logarithmic axis, the suggestion, and no room for the divergence."""

import math

import pytest

from alexnet.reproduce.figures.drawing import Path, Text
from alexnet.reproduce.figures.rate_sweep import rate_sweep
from alexnet.training.lr_find import RateSweep
from drawings import curves, labels, shapes

RATES, SMOOTHED = (1e-4, 1e-3, 1e-2, 1e-1), (2.0, 1.5, 1.0, 9.0)


def sweep(suggestion):
    return RateSweep(RATES, (2.1, 1.4, 1.1, 9.5), SMOOTHED, diverged=True, lowest=1e-2, rose=1e-1,
                     suggestion=suggestion, findings=())


def test_it_shows_both_curves_and_the_suggestion_up_to_the_divergence():
    (axes,) = rate_sweep(sweep(0.00316)).axes
    assert curves(axes, "blue", 1.8)[0][:3] == [(1e-4, 2.0), (1e-3, 1.5), (1e-2, 1.0)]
    assert curves(axes, "faint", 1.0)[0][:3] == [(1e-4, 2.1), (1e-3, 1.4), (1e-2, 1.1)]
    assert curves(axes, "red", 1.2)[0] == [(0.00316, 0.0), (0.00316, 3.0)]
    assert axes.y.high == 3.0  # the lowest loss is as far below the first as the upper edge is above it
    assert labels(axes, rows=False) == {"0.0001": 1e-4, "0.001": 1e-3, "0.01": 1e-2, "0.1": 1e-1}
    assert all(axes.top - 0.01 <= y <= axes.bottom + 0.01 for path in shapes(axes, Path, stroke="blue")
               for _, y in path.points)
    assert [text.text for text in shapes(axes, Text, color="ink", bold=False)] == [
        "batch", "moving average", "suggestion: 0.0032"]


def test_a_loss_that_falls_again_after_the_divergence_is_not_drawn():
    rates, smoothed = (1e-4, 1e-3, 1e-2, 1e-1, 1.0), (2.0, 1.5, 1.0, 9.0, 2.5)  # the upper edge is at 3.0
    diverged = RateSweep(rates, (2.1, 1.4, 1.1, 9.5, 0.5), smoothed, diverged=True, lowest=1e-2, rose=1e-1,
                         suggestion=None, findings=())
    (axes,) = rate_sweep(diverged).axes
    for color, width in (("blue", 1.8), ("faint", 1.0)):
        curve, _ = curves(axes, color, width)  # the other line is the legend's
        assert max(x for x, _ in curve) < 1e-1


@pytest.mark.parametrize("smoothed", [(math.inf,), (2.0, math.nan), (0.0, 0.0)])
def test_a_sweep_that_diverges_at_once_is_drawn(smoothed):
    rates = RATES[: len(smoothed)]
    diverged = RateSweep(rates, smoothed, smoothed, diverged=True, lowest=rates[0], rose=None, suggestion=None,
                         findings=())
    (axes,) = rate_sweep(diverged).axes
    assert axes.y.low < axes.y.high < math.inf


def test_without_a_suggestion_none_is_drawn():
    (axes,) = rate_sweep(sweep(None)).axes
    assert not shapes(axes, Path, stroke="red")
    assert not [text for text in shapes(axes, Text) if "suggestion" in text.text]
