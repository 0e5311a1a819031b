"""conv1 by space-to-depth gives what the direct convolution gives, and its gradients, to the rounding of float64."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("kernel", "stride", "padding", "side"), [
    (11, 4, 2, 224), (11, 4, 2, 67), (11, 4, 2, 65), (5, 2, 1, 16)])
def test_blocks_are_an_exact_rearrangement(monkeypatch, kernel, stride, padding, side):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from conv1_blocks import BlockConv2d, blocks

    layer = nn.Conv2d(3, 8, kernel, stride, padding, dtype=torch.float64)
    pixels = torch.randn(2, 3, side, side, dtype=torch.float64)
    expected = layer(pixels)
    above = torch.randn_like(expected)
    gradients = torch.autograd.grad(expected, list(layer.parameters()), above)
    result = BlockConv2d(layer)(pixels)
    assert result.shape == expected.shape
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(result, list(layer.parameters()), above), gradients, rtol=1e-11,
                               atol=1e-11)
    assert "benchmarks" in str(sys.modules["conv1_blocks"].__file__)
    # By hand: two blocks of 2 x 2 pixels with one channel, beside each other.
    assert blocks(torch.tensor([[[[1, 2, 3, 4], [5, 6, 7, 8]]]]), 2)[0, :, 0].T.tolist() == [[1, 2, 5, 6], [3, 4, 7, 8]]
