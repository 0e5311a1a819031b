"""Figure 1 keeps its words apart with any number of runs, and shows the target below which no run starts."""

from itertools import combinations

import pytest

from alexnet.reproduce.figures.drawing import Path, Text
from alexnet.reproduce.figures.figure1 import line_numbers, training_error_curves
from drawings import box, overlap, shapes


@pytest.mark.parametrize("runs", [1, 4, 20])
def test_words_of_figure1_do_not_overlap_and_stay_inside(runs):
    curves = {f"run {number}": [(0.0, 0.9), (1.0, 0.5), (2.0, 0.1)] for number in range(runs)}
    drawing = training_error_curves(curves, line_numbers(["relu"] * runs))
    boxes = [box(text) for text in drawing.all_shapes() if isinstance(text, Text)]
    assert not [pair for pair in combinations(boxes, 2) if overlap(*pair)]
    assert all(left >= 0 and top >= 0 and right <= drawing.width and bottom <= drawing.height
               for left, top, right, bottom in boxes)


def test_the_target_is_drawn_above_curves_that_are_all_below_it():
    (axes,) = training_error_curves({"a": [(1.0, 0.1), (2.0, float("nan")), (3.0, 0.02)]}, [0]).axes
    assert axes.y.high > 0.25
    (target,) = [path for path in shapes(axes, Path, stroke="quiet")
                 if path.points[0] == axes.place(0.0, 0.25) and path.points[1] == axes.place(3.0, 0.25)]
    assert target.width == 0.8
