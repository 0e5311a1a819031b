"""The figure of a confusion matrix shows true classes in rows and predicted ones in columns, with shares of the row."""

from itertools import combinations

import numpy as np
import pytest

from alexnet.reproduce.figures.confusion import class_errors, confusion
from alexnet.reproduce.figures.drawing import Circle, Path, Text
from drawings import box, circles, curves, labels, overlap, shapes

CLASSES = ("ash", "birch", "cedar")
COUNTS = np.array([[6, 2, 0], [0, 5, 0], [1, 0, 3]])
"""Of eight images of ash, two were taken for birch; of four of cedar, one for ash."""


def named(drawing, name, *, rotated):
    (text,) = shapes(drawing, Text, text=name, rotated=rotated)
    return text


def test_cells_stand_in_the_row_of_the_true_class_and_the_column_of_the_predicted_one():
    drawing = confusion(COUNTS, CLASSES)
    tops = [named(drawing, name, rotated=False).y for name in CLASSES]
    lefts = [named(drawing, name, rotated=True).x for name in CLASSES]
    assert tops == sorted(tops), "the first class is the top row"
    assert lefts == sorted(lefts)

    def place(x, y):
        return int(np.abs(np.array(tops) - y).argmin()), int(np.abs(np.array(lefts) - x).argmin())

    drawn = {}
    for cell in shapes(drawing, Path, closed=True):
        x, y = np.mean(cell.points, axis=0)
        drawn[place(x, y)] = cell.fill, cell.fill_opacity
    # (true, predicted): the share of the row.
    shares = {(0, 0): 6 / 8, (0, 1): 2 / 8, (1, 1): 1.0, (2, 0): 1 / 4, (2, 2): 3 / 4}
    assert drawn.keys() == shares.keys()
    for (row, column), share in shares.items():
        color, opacity = drawn[row, column]
        assert color == ("blue" if row == column else "red")
        assert opacity == pytest.approx(0.1 + 0.45 * share)
    numbers = {place(text.x, text.y): int(text.text) for text in shapes(drawing, Text) if text.text.isdigit()}
    assert numbers == {place: COUNTS[place] for place in shares}
    assert named(drawing, "true class", rotated=True).x < min(named(drawing, name, rotated=False).x for name in CLASSES)
    assert named(drawing, "predicted class", rotated=False).y < min(tops)


@pytest.mark.parametrize("names", [
    ("tench", "English springer", "a class whose name is long", "chain saw"), ("a", "b")])
def test_texts_of_a_confusion_matrix_do_not_overlap_and_stay_inside(names):
    drawing = confusion(1234 * np.eye(len(names), dtype=np.int64), names)
    boxes = [box(text) for text in shapes(drawing, Text)]
    assert len(boxes) == 3 * len(names) + 2
    assert not [pair for pair in combinations(boxes, 2) if overlap(*pair)]
    assert all(left >= 0 and top >= 0 and right <= drawing.width and bottom <= drawing.height
               for left, top, right, bottom in boxes)


def test_forty_classes_have_no_numbers_in_their_cells():
    drawing = confusion(np.ones((40, 40), np.int64), [f"c{number}" for number in range(40)])
    assert len(shapes(drawing, Path, closed=True)) == 1600
    assert not [text for text in shapes(drawing, Text) if text.text.isdigit()]


def test_each_class_has_its_error_and_its_interval_in_its_row():
    drawing = class_errors(["ash", "birch"], [0.5, 0.25], [(0.3, 0.7), (0.1, 0.45)])
    (axes,) = drawing.axes
    assert circles(axes, fill="red") == [(0.5, 0), (0.25, 1)]
    assert curves(axes, "red", 1.6) == [[(0.3, 0), (0.7, 0)], [(0.1, 1), (0.45, 1)]]
    assert labels(axes, rows=True) == {"ash": 0, "birch": 1}
    percent = labels(axes, rows=False)
    assert percent == {text: float(text[:-1]) / 100 for text in percent}
    assert "20%" in percent
    assert len(shapes(axes, Circle)) == 2
