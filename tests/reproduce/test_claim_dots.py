"""The figure of a claim's outcome: every seed, the intervals, the paper's number, every run, and the tuning."""

from itertools import combinations

import numpy as np
import pytest

from alexnet.reproduce.figures.claim_dots import claim_dots
from alexnet.reproduce.figures.drawing import Path, Text
from alexnet.reproduce.results_text import format_measured
from claim_outcomes import comparison, outcome, variant
from drawings import box, circles, curves, labels, overlap, shapes, values


def test_the_figure_shows_every_seed_the_interval_the_paper_and_the_tuning():
    shown = outcome(comparisons=[comparison(paper=-1.4),
                                 comparison(name="epochs", quantity="epochs", unit="times", paper=2.0, sign=1,
                                            values=[1.5, 1.7], mean=1.6, low=1.3, high=1.9, low_all=1.2,
                                            high_all=2.1, least=1.1)])
    points, times, errors, epochs, tuning = claim_dots(shown).axes
    assert {text.text for text in shapes(epochs, Text)} >= {"no dropout", "(0 of 3 runs)"}  # no run has the quantity
    assert title(points) == "Difference in top-1 error, in points (negative: less)"
    assert title(times) == "Ratio of epochs (below 1: less)"
    # The interval of this comparison, and around it the simultaneous one.
    assert curves(times, "blue", 4.0) == [[(1.3, 0), (1.9, 0)]]
    assert curves(times, "blue", 1.2) == [[(1.2, 0), (2.1, 0)]]
    assert curves(points, "red", 2.2) == [[(-1.4, -0.5), (-1.4, 0.5)]]  # the paper's number, through the row
    assert [x for x, _ in circles(points, fill=None)] == [-3.0, -4.0, -2.0]  # every seed
    assert curves(points, "blue", 4.0) == [[(-5.48, 0), (-0.52, 0)]]
    assert circles(points, fill="blue") == [(-3.0, 0)]
    assert said(points) == {"paper −1.4", "supported", "−3.0 (−5.5 to −0.5)", "dropout against no dropout"}
    assert said(times) == {"paper 2", "supported", "1.60 (1.30 to 1.90)", "epochs"}
    # The gray area is on the side that the claim predicts: below 0 for fewer errors, above 1 for more epochs.
    (area,), (other,) = (shapes(axes, Path, fill="faint") for axes in (points, times))
    assert max(x for x, _ in values(points, area.points)) == 0
    assert min(x for x, _ in values(times, other.points)) == 1
    assert curves(points, "ink", 1.2) == [[(0, -0.5), (0, 0.5)]]
    assert curves(times, "ink", 1.2) == [[(1, -0.5), (1, 0.5)]]
    assert labels(errors, rows=True) == {"no dropout": 0, "dropout": 1}
    assert circles(errors) == [(0.42, 0), (0.44, 0), (0.43, 0)]
    assert centers(errors, "blue") == [(0.39, 1), (0.4, 1), (0.41, 1)]
    assert curves(errors, "blue", 1.8) == [[(0.4, 0.64), (0.4, 1.36)]]  # the mean
    # The variants have the same rates and errors, so that the later one, dropout, covers the other.
    for color in ("ink", "blue"):
        assert curves(tuning, color, 1.0)[0] == [(0.003, 0.625), (0.01, 0.5), (0.03, 0.625)]
    assert circles(tuning, fill="ink") == [(0.01, 0.5)]
    assert centers(tuning, "blue", fill="blue") == [(0.01, 0.5)]
    assert labels(tuning, rows=False) == {"0.003": 0.003, "0.01": 0.01, "0.03": 0.03}


def title(axes):
    """The title of a panel, whose lines stand above it."""
    return " ".join(text.text for text in shapes(axes, Text, bold=True) if text.y < axes.top)


def said(axes):
    """The texts beside and in a panel of comparisons."""
    return {text.text for text in shapes(axes, Text) if axes.top <= text.y <= axes.bottom}


def centers(axes, color, **attributes):
    """The values at each marker that is a polygon."""
    return [tuple(round(float(value), 6) for value in values(axes, [np.mean(path.points, axis=0)])[0])
            for path in shapes(axes, Path, stroke=color, closed=True, **attributes)]


def test_rates_that_are_chosen_by_different_quantities_are_in_different_panels():
    fast = variant("fastest rate", (0.4, 0.42)) | {"tuned_by": "epochs to 5%"}
    fast["tuning"] = [{"rate": 0.01, "errors": [12.0]}, {"rate": 0.03, "errors": [14.0]}]
    *_, runs, errors, epochs = claim_dots(outcome(variants=[variant("no dropout", (0.42, 0.44)), fast])).axes
    assert [title(axes) for axes in (errors, epochs)] == ["Tuning by top-1 error", "Tuning by epochs to 5%"]
    # Each variant has one color in all panels: the first ink, the second blue.
    assert curves(epochs, "blue", 1.0) == [[(0.01, 12.0), (0.03, 14.0)]]
    assert [y for _, y in curves(errors, "ink", 1.0)[0]] == [0.625, 0.5, 0.625]
    assert centers(runs, "blue") == [(0.4, 1), (0.42, 1)]
    assert labels(errors, rows=True)["50%"] == 0.5
    assert not [text for text in labels(epochs, rows=True) if "%" in text]


TO_5 = "epochs to 5% clean training error"


def with_epochs(name, epochs, late=()):
    """A network whose runs end at the target: no validation; `late` are the epochs of those that did not reach it."""
    fast = variant(name, (0.5,) * (len(epochs) + len(late))) | {"tuned_by": TO_5}
    nothing = {"top1_error": None, "top5_error": None, "loss": None, "value": None}
    fast["runs"] = [run | nothing | {"more": {TO_5: value}} for run, value in zip(
        fast["runs"], [*epochs, *[None] * len(late)], strict=True)]
    for run, limit in zip(fast["runs"][len(epochs):], late, strict=True):
        run["epochs_without_target"] = limit
    return fast


def test_every_network_is_drawn_with_the_quantity_that_it_is_compared_by():
    epochs = comparison(variant="dropout, fastest", reference="fastest", quantity=TO_5, unit="times", mean=2.0, low=1.9,
                        high=2.1, values=[2.0])
    variants = [variant("no dropout", (0.42, 0.44)), variant("dropout", (0.39, 0.41)),
                with_epochs("fastest", (60.0, 66.0)), with_epochs("dropout, fastest", (130.0,), late=(300,))]
    _, _, errors, reached, *_ = claim_dots(outcome(variants=variants, comparisons=[comparison(), epochs])).axes
    assert [title(axes) for axes in (errors, reached)] == ["Every run: top-1 error", f"Every run: {TO_5}"]
    assert labels(errors, rows=True) == {"no dropout": 0, "dropout": 1}
    assert labels(reached, rows=True) == {"fastest": 0, "dropout, fastest": 1}
    # The third variant has the third color, red, and the fourth is quiet, as in the panels of the tuning.
    assert centers(reached, "red") == [(60.0, 0), (66.0, 0)]
    assert curves(reached, "red", 1.8) == [[(63.0, -0.36), (63.0, 0.36)]]
    # A run that did not reach the target is a filled triangle, and its network has no mean.
    (triangle,) = shapes(reached, Path, fill="quiet", closed=True)
    xs = [x for x, _ in triangle.points]
    assert min(xs) < reached.place(300, 1)[0] < max(xs)
    assert max(xs) - min(xs) < 10
    assert centers(reached, "quiet", fill=None)[0][0] == pytest.approx(130, abs=2)
    assert not curves(reached, "quiet", 1.8)


def test_a_network_with_runs_that_have_no_value_says_how_many_are_drawn():
    poor = with_epochs("dropout", (60.0, None, 62.0))
    shown = comparison(quantity=TO_5, unit="times", mean=2.0, low=1.9, high=2.1, values=[2.0])
    _, runs, *_ = claim_dots(outcome(variants=[with_epochs("no dropout", (30.0, 31.0)), poor],
                                     comparisons=[shown])).axes
    assert {"dropout", "(2 of 3 runs)"} <= {text.text for text in shapes(runs, Text)}
    assert not [text for text in shapes(runs, Text) if "of 2 runs" in text.text]


@pytest.mark.parametrize(("expected", "label", "dashes"), [
    ({"paper": -1.4}, "paper −1.4", ()), ({"paper": -1.0, "is_bound": True}, "paper beyond −1.0", ()),
    ({"paper": -2.8, "source": "X"}, "published −2.8", ()), ({"least": -1.0}, "least effect −1.0", (3.0, 2.0))])
def test_the_figure_has_a_line_at_the_size_that_the_verdict_is_about(expected, label, dashes):
    axes = claim_dots(outcome(comparisons=[comparison(**expected)])).axes[0]
    (line,) = shapes(axes, Path, stroke="red")
    assert [x for x, _ in values(axes, line.points)] == [expected.get("paper", expected.get("least"))] * 2
    assert line.dashes == dashes
    assert label in said(axes)


@pytest.mark.parametrize(("bound", "points"), [("at least", "right"), ("at most", "left")])
def test_a_bound_is_said_and_drawn_as_a_triangle_that_points_to_the_true_ratio(bound, points):
    only = comparison(unit="times", quantity="epochs", values=[], mean=8.0, bound=bound, low=None, high=None,
                      low_all=None, high_all=None, least=1.1, sign=1)
    axes = claim_dots(outcome(comparisons=[only])).axes[0]
    (triangle,) = shapes(axes, Path, fill="blue")
    xs = sorted(x for x, _ in triangle.points)
    center, _ = axes.place(8.0, 0)
    assert len(xs) == 3
    assert xs[0] < center < xs[2]
    assert (xs[0] == xs[1]) == (points == "right")  # the side that is not the tip is vertical
    assert (xs[1] == xs[2]) == (points == "left")
    assert not circles(axes)
    assert f"{bound} 8.00 (no interval)" in said(axes)
    assert format_measured(only) == f"{bound} 8.00 times (no interval)"


def test_the_figure_of_a_claim_without_values_intervals_or_rates_is_drawn():
    poor = variant("dropout", (0.4, 0.4)) | {"tuning": [{"rate": 0.01, "errors": [None, 0.4]}]}
    poor["runs"] = [measured | {"value": None} for measured in poor["runs"]]
    empty = comparison(values=[], mean=None, low=None, high=None, low_all=None, high_all=None, verdict="undecided")
    results, _, tuning = claim_dots(outcome(variants=[poor | {"name": "a" * 90}, poor], comparisons=[empty])).axes
    assert said(results) == {"undecided", "not compared", "dropout against no dropout"}
    assert not curves(tuning, "ink", 1.0)[2:]  # a rate at which a run diverged has no mean, only a cross of two lines
    assert not circles(tuning)
    assert not labels(tuning, rows=True)
    for line in curves(tuning, "ink", 1.0):
        (x0, _), (x1, _) = line
        assert x0 < 0.01 < x1


def test_texts_of_the_figure_do_not_overlap_and_stay_inside():
    fast = variant("fastest rate", (0.4, 0.42)) | {"tuned_by": "epochs to 5% clean training error"}
    shown = outcome(comparisons=[
        comparison(paper=-1.4), comparison(name="crops and mirroring, 3,000 images against center crop only, 3,000"),
        comparison(unit="percent", quantity="loss", least=-1.0, bound="at most")],
        variants=[variant("no dropout", (0.42, 0.44)), fast])
    drawing = claim_dots(shown)
    boxes = [(box(text), text.text) for text in drawing.all_shapes() if isinstance(text, Text)]
    assert not [(a, b) for (first, a), (second, b) in combinations(boxes, 2) if overlap(first, second)]
    for (left, top, right, bottom), text in boxes:
        assert left >= 0, text
        assert top >= 0, text
        assert right <= drawing.width, text
        assert bottom <= drawing.height, text
