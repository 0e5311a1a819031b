"""Convolutions with groups, stride, padding and both roundings, against NumPy."""

import numpy as np
import pytest
import torch
from comparing import assert_layer_agrees, many_shapes, numbers
from hypothesis import given
from hypothesis import strategies as st
from numpy_layers import convolution
from torch import nn
from torch.func import functional_call

from alexnet.models.layers import CeilConv2d


@pytest.mark.parametrize(("rounding", "layer"), [("floor", nn.Conv2d), ("ceil", CeilConv2d)])
@many_shapes
@given(data=st.data())
def test_convolution_with_groups_stride_and_padding(rounding, layer, data):
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    groups, kernel, stride, padding = draw(1, 3), draw(1, 5), draw(1, 4), draw(0, 2)
    rng, sides = np.random.default_rng(draw(0, 99)), [max(1, kernel - 2 * padding) + draw(0, 7) for _ in range(2)]
    maps, width = groups * draw(1, 3), groups * draw(1, 3)
    x, w, b = numbers(rng, 2, maps, *sides), numbers(rng, width, maps // groups, kernel, kernel), numbers(rng, width)
    module = layer(maps, width, kernel, stride, padding, groups=groups)
    assert_layer_agrees(
        lambda x, w, b: functional_call(module, {"weight": w, "bias": b}, (x,)),
        convolution(x, w, b, stride, padding, groups, rounding), x, w, b, rng=rng)


@pytest.mark.parametrize(("rounding", "layer", "padding", "side"), [
    ("ceil", CeilConv2d, 0, 55), ("floor", nn.Conv2d, 0, 54), ("floor", nn.Conv2d, 2, 55), ("ceil", CeilConv2d, 1, 55)])
def test_conv1_makes_55_of_224_by_ceil_or_by_padding(rounding, layer, padding, side):
    rng = np.random.default_rng(0)
    x, w, b = numbers(rng, 1, 3, 224, 224), numbers(rng, 2, 3, 11, 11), numbers(rng, 2)
    reference = convolution(x, w, b, stride=4, padding=padding, rounding=rounding)
    assert reference[0].shape == (1, 2, side, side)
    module = layer(3, 2, 11, 4, padding)
    assert_layer_agrees(
        lambda x, w, b: functional_call(module, {"weight": w, "bias": b}, (x,)), reference, x, w, b, rng=rng)


@pytest.mark.parametrize("layer", [nn.Conv2d, CeilConv2d])
@pytest.mark.parametrize(("groups", "stride", "padding"), [(1, 4, 0), (2, 1, 2), (2, 3, 1)])
def test_gradcheck_passes_for_convolution(layer, groups, stride, padding):
    generator = torch.Generator().manual_seed(0)
    x, w, b = (torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
               for shape in ((1, 2, 6, 5), (2, 2 // groups, 3, 3), (2,)))
    module = layer(2, 2, 3, stride, padding, groups=groups)
    assert torch.autograd.gradcheck(lambda x, w, b: functional_call(module, {"weight": w, "bias": b}, (x,)), (x, w, b))
