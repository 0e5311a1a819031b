"""The figure of a confusion matrix shows true classes in rows and predicted ones in columns, with shares of the row."""

import numpy as np
import pytest
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba

from alexnet.reproduce.figures.confusion import confusion
from alexnet.reproduce.figures.style import BLUE, RED

CLASSES = ("ash", "birch", "cedar")
COUNTS = np.array([[6, 2, 0], [0, 5, 0], [1, 0, 3]])
"""Of eight images of ash, two were taken for birch; of four of cedar, one for ash."""


def test_cells_stand_in_the_row_of_the_true_class_and_the_column_of_the_predicted_one():
    axes = confusion(COUNTS, CLASSES).get_axes()[0]
    (cells,) = (each for each in axes.collections if isinstance(each, PatchCollection))
    drawn = {}
    for path, color in zip(cells.get_paths(), cells.get_facecolors(), strict=True):
        column, row = np.floor(path.vertices.min(0)).astype(int).tolist()
        drawn[row, column] = color
    # (true, predicted): the share of the row.
    shares = {(0, 0): 6 / 8, (0, 1): 2 / 8, (1, 1): 1.0, (2, 0): 1 / 4, (2, 2): 3 / 4}
    assert drawn.keys() == shares.keys()
    for (row, column), share in shares.items():
        expected = to_rgba(BLUE if row == column else RED, 0.1 + 0.45 * share)
        assert drawn[row, column].tolist() == pytest.approx(expected)
    numbers = {(int(text.get_position()[1]), int(text.get_position()[0])): int(text.get_text()) for text in axes.texts}
    assert numbers == {place: COUNTS[place] for place in shares}
    assert axes.get_ylim() == (3, 0), "the first class is the top row"
    assert [label.get_text() for label in axes.get_yticklabels()] == [*CLASSES]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true class", "predicted class")
