"""Max pooling, average pooling and adaptive average pooling, against NumPy."""

import numpy as np
import pytest
from comparing import assert_layer_agrees, many_shapes, numbers
from hypothesis import given
from hypothesis import strategies as st
from numpy_layers import average_pooling, max_pooling, window_average
from torch import nn


@pytest.mark.parametrize("rounding", ["floor", "ceil"])
@many_shapes
@given(data=st.data())
def test_max_and_average_pooling_over_windows_that_start_inside(rounding, data):
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    kernel, stride = draw(1, 4), draw(1, 4)
    least = kernel if rounding == "floor" else max(1, kernel - stride + 1)
    rng, sides = np.random.default_rng(draw(0, 99)), [least + draw(0, 8) for _ in range(2)]
    x = numbers(rng, 2, 3, *sides)
    for layer, reference in ((nn.MaxPool2d, max_pooling), (nn.AvgPool2d, window_average)):
        assert_layer_agrees(layer(kernel, stride, ceil_mode=rounding == "ceil"),
                            reference(x, kernel, stride, rounding), x, rng=rng)


@many_shapes
@given(data=st.data())
def test_adaptive_average_pooling(data):
    side, rows, columns = (data.draw(st.integers(1, 9)) for _ in range(3))
    rng = np.random.default_rng(side)
    x = numbers(rng, 2, 3, rows, columns)
    assert_layer_agrees(nn.AdaptiveAvgPool2d(side), average_pooling(x, side), x, rng=rng)
