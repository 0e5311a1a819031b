"""Grad-CAM over a photo: in its colors, at the place of the part that the network sees, and the rest is darker."""

import numpy as np
import pytest

from alexnet.interpret.heat_map import heat_over_photo


@pytest.mark.parametrize(("height", "width", "left", "top"), [(80, 120, 25, 5), (120, 80, 5, 25)])
def test_the_heat_lies_over_the_central_square_that_the_network_sees(height, width, left, top):
    """7/8 of 80 pixels are 70: 5 pixels above and below, or left and right; the left half of the square is hot."""
    photo = np.full((height, width, 3), (200, 100, 40), np.uint8)
    heat = np.zeros((56, 56), np.float32)
    heat[:, :28] = 1.0
    picture = heat_over_photo(photo, heat, 56 / 64).astype(int)
    assert picture.shape == photo.shape
    right, bottom = left + 70, top + 70
    changed = np.argwhere((picture != (110, 55, 22)).any(axis=2))  # 0.55 of the photo's color
    assert [changed.min(axis=0).tolist(), changed.max(axis=0).tolist()] == [[top, left], [bottom - 1, right - 1]]
    assert picture[height // 2, right - 5].tolist() == [200, 100, 40]
    red, green, blue = picture[height // 2, left + 10]
    assert min(red, green) > blue + 100, "the strongest effect is yellow"
    assert (photo == (200, 100, 40)).all()
