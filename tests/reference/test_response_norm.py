"""Local response normalization (§3.3) in each source's convention, and code2012's norm within a map, against NumPy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from comparing import assert_layer_agrees, many_shapes, numbers
from hypothesis import given
from hypothesis import strategies as st
from numpy_layers import LRN_CAFFE, LRN_CODE2012, LRN_PAPER, map_norm, response_norm

from alexnet.architecture.network_presets import arch
from alexnet.architecture.spec import LRN, MapLRN
from alexnet.models.layers import MapNorm
from alexnet.models.response_norm import ResponseNorm


@pytest.mark.parametrize(("name", "convention", "within_tower"), [
    ("paper", LRN_PAPER, True), ("code2012", LRN_CODE2012, True), ("caffe", LRN_CAFFE, False),
    ("caffenet", LRN_CAFFE, False)])
@many_shapes
@given(data=st.data())
def test_response_norm_in_each_sources_convention(name, convention, within_tower, data):
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    towers = draw(1, 3)
    rng, shape = np.random.default_rng(draw(0, 99)), (2, towers * draw(1, 7), draw(1, 4), draw(1, 4))
    x = numbers(rng, *shape, scale=80)  # at which alpha times the sum is about k, and no part of the formula is idle
    reference = response_norm(x, **convention, towers=towers if within_tower else 1)
    assert_layer_agrees(ResponseNorm(arch(name).lrn, shape[1], towers), reference, x, rng=rng)


@many_shapes
@given(data=st.data())
def test_response_norm_with_any_constants(data):
    n, towers = data.draw(st.sampled_from([1, 3, 5, 7, 9])), data.draw(st.integers(1, 2))
    alpha, beta, k = (data.draw(st.floats(0.1, 2.0)) for _ in range(3))
    rng = np.random.default_rng(n)
    x = numbers(rng, 2, towers * data.draw(st.integers(1, 8)), 3, 2)
    ours = ResponseNorm(LRN(k, n, alpha, beta, divide_by_n=True, within_tower=True), x.shape[1], towers)
    assert_layer_agrees(ours, response_norm(x, k, n, alpha / n, beta, towers), x, rng=rng)


@pytest.mark.parametrize(("name", "side", "alpha", "scale"), [
    ("code2012", 5, 0.001, 50),  # layer-params-145: scale 0.001; layers-145: size 5
    ("cifar-18pct", 3, 5e-5, 200),  # layers-18pct: sizeX 3, scale 0.00005
])
def test_norm_within_a_map_in_each_sources_constants(name, side, alpha, scale):
    rng = np.random.default_rng(0)
    for sides in ((9, 7), (5, 5), (3, 8), (1, 1)):
        x = numbers(rng, 2, 3, *sides, scale=scale)
        reference = map_norm(x, side, alpha)
        assert np.abs(reference[0] / x).min() < 0.9, "the norm has an effect"
        assert_layer_agrees(MapNorm(arch(name).map_lrn), reference, x, rng=rng)


def test_norm_within_a_map_by_hand():
    x = torch.tensor([[[[3.0, 4.0], [0.0, 12.0]]]])  # squares 9 + 16 + 0 + 144 = 169 in every 3x3 window
    expected = x / (1 + 0.9 / 9 * 169) ** 0.5
    torch.testing.assert_close(MapNorm(MapLRN(side=3, alpha=0.9, beta=0.5))(x), expected)


@pytest.mark.parametrize("name", ["paper", "code2012", "caffe"])
@pytest.mark.parametrize("towers", [1, 2])
def test_gradcheck_passes_for_response_norm(name, towers):
    lrn = replace(arch(name).lrn, alpha=0.5, within_tower=towers > 1)  # so that numerical differences can see the sum
    x = torch.randn(2, 8, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(ResponseNorm(lrn, 8, towers).double(), x)
