"""Dropout by counter: Philox's published numbers, the same units in NumPy, C and Triton, and in any part of a batch."""

from __future__ import annotations

import importlib
import math
import os

import numpy as np
import pytest
import torch

from alexnet._runtime import kernels, native
from alexnet._runtime.philox import Draw, counter_words, keep_mask, philox
from alexnet.training.parallel.layers import BatchSlice, CounterDropout, dropped

DRAW = Draw(p=0.3, seed=5 << 32 | 7, step=11, layer=4)


@pytest.mark.parametrize(("counter", "key", "expected"), [
    # kat_vectors of Random123 1.14, the authors' own code: lines "philox4x32 10".
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
])
def test_philox_gives_the_numbers_of_its_authors(counter, key, expected):
    words = philox(tuple(np.array([word], np.uint64) for word in counter), key)
    assert tuple(int(word[0]) for word in words) == expected


def test_a_unit_is_kept_if_its_word_is_not_below_p():
    """The first counter above is that of seed, step, layer, image and group 0: words of 0.399, 0.880, 0.736, 0.605."""
    for p, kept in ((0.3, [True] * 4), (0.5, [False, True, True, True]), (0.7, [False, True, True, False])):
        assert keep_mask(np.zeros(1, np.int64), range(4), Draw(p, 0, 0, 0))[0].tolist() == kept


needs_kernels = pytest.mark.skipif(not native.level(), reason="no compiled kernels")


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("level", ["generic", native.level()])
@pytest.mark.parametrize(("first", "units"), [(0, 4096), (3, 130), (1, 1), (0, 0)])
def test_the_kernel_drops_what_numpy_drops(monkeypatch, dtype, level, first, units):
    monkeypatch.setenv("ALEXNET_NATIVE", level)
    x = torch.randn(9, units).to(dtype)
    rows = np.array([0, 5, 2, 131_071, 2**31, 7, 8, 9, 1])
    assert kernels.supports_dropout(x)
    keep = torch.from_numpy(keep_mask(rows, range(first, first + units), DRAW))
    expected = (x.float() * (keep.float() * (1 / 0.7))).to(dtype)
    assert torch.equal(kernels.dropout(x, rows, DRAW, first), expected)


@pytest.mark.parametrize("native_level", ["0", native.level() or "0"])
def test_nan_stays_nan_and_infinity_becomes_it(monkeypatch, native_level):
    monkeypatch.setenv("ALEXNET_NATIVE", native_level)
    x = torch.full((2, 50), math.nan)
    x[1] = math.inf
    result = dropped(x, np.arange(2), DRAW, 0)
    assert result[0].isnan().all()
    assert not result[1].isfinite().any()


@(pytest.mark.gpu if torch.cuda.is_available() else pytest.mark.slow)
@pytest.mark.needs("triton", "pip install -c constraints.txt '.[ci]' on Linux x86_64")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_triton_drops_what_numpy_drops(dtype):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported
    triton_norm_dropout = importlib.import_module("alexnet._runtime.triton_norm_dropout")
    rows = np.array([0, 5, 131_071])
    for draw, first in ((DRAW, 0), (DRAW, 3), (Draw(0.5, 2**64 - 1, 2**32 - 1, 1), 1), (Draw(0.5, 0, 0, 0), 0)):
        x = torch.randn(3, 1030, device=device).to(dtype)
        keep = torch.from_numpy(keep_mask(rows, range(first, first + 1030), draw)).to(device)
        counter = torch.from_numpy(counter_words(draw.seed, draw.step, rows)).to(device)
        result = triton_norm_dropout.dropout(x, counter, Draw(draw.p, 0, 0, draw.layer), first)
        assert torch.equal(result != 0, keep)
        exact = dtype == torch.float32
        torch.testing.assert_close(result, (x.float() * (keep.float() * draw.scale)).to(dtype), atol=0,
                                   rtol=0 if exact else 0.01)  # Triton's interpreter truncates to bf16


def layer(rows, number=4, seed=3, step=9, **options):
    made = CounterDropout(0.5, BatchSlice(step=step, rows=np.asarray(rows), seed=seed), number, **options)
    return made.train()


def test_a_process_draws_its_images_and_units_alone_as_one_process_draws_them():
    """Of a batch of 131,072 images, with 1,024 processes of 128, each drew a mask of 2.1 GB."""
    x = torch.rand(40, 64) + 1
    whole = layer(range(40))(x)
    for rank in range(4):
        rows = np.arange(rank, 40, 4)
        assert torch.equal(layer(rows)(x[rows]), whole[rows])
        units = slice(16 * rank, 16 * rank + 16)
        assert torch.equal(layer(range(40), first_unit=16 * rank)(x[:, units]), whole[:, units])
    assert torch.equal(layer([131_071, 39])(x[[0, 39]])[1], whole[39])


def test_the_gradient_is_dropped_like_the_units():
    x = torch.ones(6, 100, requires_grad=True)
    result = layer(range(6))(x)
    result.backward(torch.full((6, 100), 3.0))
    assert torch.equal(x.grad, 3 * result.detach())
    assert set(result.unique().tolist()) == {0.0, 2.0}


def test_half_of_the_units_are_kept_independently_of_image_unit_layer_step_and_seed():
    ones = torch.ones(400, 500)
    first = layer(range(400))(ones).bool()
    others = [first[:, 1:], first[1:], *(layer(range(400), **other)(ones).bool() for other in (
        {"number": 6}, {"step": 10}, {"seed": 4}, {"seed": 3 + (1 << 32)}))]
    for other in others:
        same = first[:len(other), : other.shape[1]] == other
        assert abs(same.double().mean().item() - 0.5) < 5 * 0.5 / math.sqrt(same.numel())
    assert abs(first.double().mean().item() - 0.5) < 5 * 0.5 / math.sqrt(first.numel())


def test_evaluation_drops_nothing():
    x = torch.rand(3, 5)
    assert torch.equal(layer(range(3)).eval()(x), x)
