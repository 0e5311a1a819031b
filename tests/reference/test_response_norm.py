"""Local response normalization (§3.3) in each source's convention, and code2012's norm within a map, against NumPy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from comparing import assert_layer_agrees, many_shapes, numbers
from hypothesis import given
from hypothesis import strategies as st
from numpy_layers import LRN_CAFFE, LRN_CODE2012, LRN_PAPER, map_norm, response_norm

from alexnet.architecture.presets import arch
from alexnet.architecture.spec import LRN
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


def test_code2012_norm_within_a_map():
    rng = np.random.default_rng(0)
    for sides in ((9, 7), (5, 5), (3, 8), (1, 1)):
        x = numbers(rng, 2, 3, *sides, scale=50)
        assert_layer_agrees(MapNorm(), map_norm(x), x, rng=rng)


@pytest.mark.parametrize("name", ["paper", "code2012", "caffe"])
@pytest.mark.parametrize("towers", [1, 2])
def test_gradcheck_passes_for_response_norm(name, towers):
    lrn = replace(arch(name).lrn, alpha=0.5, within_tower=towers > 1)  # so that numerical differences can see the sum
    x = torch.randn(2, 8, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(ResponseNorm(lrn, 8, towers).double(), x)
