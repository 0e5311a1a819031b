"""What every `Classifier` does with its probabilities: the likeliest classes first, and whether it is sure of them."""

import numpy as np
import pytest

from alexnet.errors import UserError
from alexnet.inference.classifier import BATCH_SIZE, Classifier


class Fixed(Classifier):
    """Gives these probabilities for every image."""

    classes, notes, side, is_calibrated, has_ten_view_temperature = tuple("abcd"), (), 8, True, False

    def __init__(self, *probabilities: float) -> None:
        self.row, self.batches = np.array([probabilities], np.float32), []

    def probabilities(self, pixels_NHWC, views=1):
        self.batches.append(len(pixels_NHWC))
        return self.row.repeat(len(pixels_NHWC), 0)


IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(("row", "names"), [
    ((0.1, 0.6, 0.2, 0.1), "bcad"), ((0.25, 0.25, 0.25, 0.25), "abcd"), ((0.1, 0.4, 0.1, 0.4), "bdac")])
@pytest.mark.parametrize("top", [1, 2, 3, 4, 9])
def test_the_likeliest_first_and_equal_ones_in_the_order_of_the_classes(row, names, top):
    [guesses] = Fixed(*row).predict(IMAGE, top=top)
    assert "".join(guess.name for guess in guesses) == names[:top]
    assert [guess.probability for guess in guesses] == pytest.approx(sorted(row, reverse=True)[:top])
    assert all(type(guess.probability) is float for guess in guesses)  # which JSON takes


def test_equal_ones_are_in_the_order_of_the_classes_among_a_thousand():
    model = Fixed(*[0.001] * 1000)
    model.classes = tuple(map(str, range(1000)))
    [guesses] = model.predict(IMAGE)
    assert [guess.name for guess in guesses] == ["0", "1", "2", "3", "4"]


def test_images_go_in_batches_of_views():
    model = Fixed(1, 0, 0, 0)
    assert len(model.predict([IMAGE] * 70)) == 70
    assert model.batches == [BATCH_SIZE, 70 - BATCH_SIZE]
    model.batches.clear()
    model.predict([IMAGE] * 8, views=10)
    assert model.batches == [6, 2]
    assert model.predict([]) == []


def test_no_class_is_refused():
    with pytest.raises(UserError, match="top 0 must be at least 1"):
        Fixed(1, 0, 0, 0).predict(IMAGE, top=0)
