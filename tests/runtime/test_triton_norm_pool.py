"""The kernels of triton_norm_pool.py against torch's operators in float64: on a GPU if there is one (`make gpu`), else
in Triton's interpreter, which cuts float32 to bfloat16 where a GPU rounds. Nothing here calls norm_pool.py, which on
CUDA calls these kernels."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet.architecture.spec import LRN
from alexnet.models.response_norm import ResponseNorm, norm_numbers

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported

pytestmark = [
    pytest.mark.gpu if DEVICE == "cuda" else pytest.mark.slow,
    pytest.mark.needs("triton", "pip install -c constraints.txt '.[ci]' on Linux x86_64"),
]

NO_NORM: dict[str, Any] = {"k": 1.0, "alpha": 0.0, "beta": 0.75, "n": 0, "towers": 1}
BOUNDS = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.bfloat16: {"rtol": 1e-2, "atol": 1e-5}}
"""Of maps and gradients in the hundreds and ones: rounding in float32, and of the result."""


@pytest.fixture
def triton_norm_pool() -> Iterator[ModuleType]:
    """The module, and a default device for the test's tensors. It is imported late, since it needs Triton."""
    module = importlib.import_module("alexnet._runtime.triton_norm_pool")
    with torch.device(DEVICE):
        yield module


@dataclass(frozen=True)
class Case:
    """Shape of the maps, and the operations after the convolution."""

    shape: tuple[int, int, int, int]
    kernel: int = 3
    stride: int = 2
    ceil: bool = False
    lrn: LRN | None = None
    towers: int = 1

    def numbers(self) -> dict[str, Any]:
        return dict(norm_numbers(self.norm())) if self.lrn else NO_NORM

    def norm(self) -> ResponseNorm:
        assert self.lrn is not None
        return ResponseNorm(self.lrn, self.shape[1], self.towers)

    def expected(self, maps: Tensor, bias: Tensor, grad_of: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pooled maps, offsets of the maxima, gradients of the maps and of the bias, in float64."""
        maps, bias = maps.detach().double().requires_grad_(), bias.detach().double().requires_grad_()
        values = F.relu(maps + bias[:, None, None])
        if self.lrn:
            values = self.norm().double().banded(values)
        pooled, indices = F.max_pool2d(values, self.kernel, self.stride, ceil_mode=self.ceil, return_indices=True)
        pooled.backward(grad_of(pooled).double())
        assert maps.grad is not None
        assert bias.grad is not None
        return pooled.detach(), offsets_of(indices, self), maps.grad, bias.grad


def offsets_of(indices: Tensor, case: Case) -> Tensor:
    """torch's indices into the maps -> offsets within the windows."""
    rows, columns = (torch.arange(side) * case.stride for side in indices.shape[2:])
    return (indices // case.shape[3] - rows[:, None]) * case.kernel + indices % case.shape[3] - columns


def computed(module: ModuleType, case: Case, maps: Tensor, bias: Tensor, grad_of: Any) -> tuple[Tensor, ...]:
    """The same by the kernels."""
    sides = tuple((side - case.kernel + (case.stride - 1) * case.ceil) // case.stride + 1 for side in case.shape[2:])
    pooled, offsets = module.norm_pool_forward(maps, bias, case.kernel, case.stride, sides, **case.numbers())
    grad = grad_of(pooled)
    return pooled, offsets, *module.norm_pool_backward(
        maps, bias, offsets, grad, case.kernel, case.stride, **case.numbers())


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator(DEVICE).manual_seed(seed))


def channels_last(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype).contiguous(memory_format=torch.channels_last)


WITHIN = LRN(k=1.0, n=3, alpha=0.1, beta=0.5, within_tower=True)
CASES = [Case((3, 24, 7, 9), lrn=LRN()), Case((2, 32, 9, 11), lrn=LRN(within_tower=True), towers=2),
         Case((2, 16, 8, 6), ceil=True, lrn=WITHIN, towers=2), Case((2, 8, 6, 8), lrn=LRN()), Case((3, 16, 8, 7)),
         Case((2, 8, 7, 8), 2, 2, ceil=True), Case((2, 8, 4, 5), 2, 1), Case((1, 8, 8, 9), 3, 3),
         Case((1, 16, 2, 2), ceil=True, lrn=LRN(n=1, alpha=1.0))]
"""Odd and even sides, last pixels in no window, windows beyond the edge, one tower and two, one group of maps and more
than one program."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "x".join(map(str, case.shape)))
def test_all_that_follows_a_convolution_and_its_gradients(triton_norm_pool, case, dtype):
    maps, bias = channels_last(randn(*case.shape) * 30, dtype), randn(case.shape[1], seed=1) * 10

    def grad_of(pooled: Tensor) -> Tensor:
        return channels_last(randn(*pooled.shape, seed=2), dtype)

    results = computed(triton_norm_pool, case, maps, bias, grad_of)
    assert [result.dtype for result in results] == [dtype, torch.int8, dtype, torch.float32]
    expected = case.expected(maps, bias, grad_of)
    assert torch.equal(results[1].long(), expected[1])
    for result, exact in zip(results[::2], expected[::2], strict=True):
        assert result.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(result.double(), exact, **BOUNDS[dtype])
    torch.testing.assert_close(results[3].double(), expected[3], rtol=1e-5, atol=1e-5)  # a sum in float32


def test_after_a_convolution_of_the_images(triton_norm_pool):
    """With F.conv2d and its own bias, as the network has it."""
    images, weight, bias = randn(2, 3, 15, 15), randn(16, 3, 3, 3, seed=1), randn(16, seed=2)
    case = Case((2, 16, 7, 7), lrn=LRN(alpha=0.1))
    images, weight = images.double(), weight.double()  # a GPU would convolve float32 in TF32
    maps = channels_last(F.conv2d(images, weight, stride=2), torch.float32)
    pooled, *_ = computed(triton_norm_pool, case, maps, bias, torch.ones_like)
    exact = F.relu(F.conv2d(images, weight, bias.double(), 2))
    torch.testing.assert_close(
        pooled.double(), F.max_pool2d(case.norm().double().banded(exact), 3, 2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lrn", [None, LRN()], ids=str)
def test_of_equal_maxima_the_first_one_gets_the_gradient(triton_norm_pool, lrn):
    """Few values, so that most windows have their maximum several times, and many are all zero. The maps are equal, so
    that normalization leaves equal values equal."""
    case = Case((2, 16, 9, 8), ceil=True, lrn=lrn)
    pixels = torch.randint(-3, 2, (2, 1, 9, 8), generator=torch.Generator(DEVICE).manual_seed(3))
    maps = channels_last(pixels.expand(*case.shape), torch.float32)
    results = computed(triton_norm_pool, case, maps, torch.zeros(16), torch.ones_like)
    expected = case.expected(maps, torch.zeros(16), torch.ones_like)
    assert ((expected[0] == 0) & (expected[1] == 0)).any()
    assert torch.equal(results[1].long(), expected[1])
    torch.testing.assert_close(results[2].double(), expected[2], rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # the interpreter's, for infinity times zero
@pytest.mark.parametrize("n", [0, 5])
def test_nan_and_infinity_go_where_torch_lets_them_go(triton_norm_pool, n):
    """Among its neighbors' maps, through ReLU, as a window's maximum, and in the gradients; nowhere else."""
    maps, case = channels_last(randn(2, 24, 9, 9), torch.float32), Case((2, 24, 9, 9), ceil=True)
    for place, value in (((0, 9, 2, 2), "nan"), ((0, 9, 3, 3), "nan"), ((1, 0, 8, 8), "nan"), ((1, 13, 4, 5), "inf")):
        maps[place] = float(value)
    bias, numbers = torch.zeros(24), {**NO_NORM, "k": 2.0, "alpha": 1e-2, "n": n}
    pooled, offsets = triton_norm_pool.norm_pool_forward(maps, bias, 3, 2, (4, 4), **numbers)
    grads = triton_norm_pool.norm_pool_backward(maps, bias, offsets, torch.ones_like(pooled), 3, 2, **numbers)
    exact = maps.double().requires_grad_()
    values = F.relu(exact)
    if n:
        values = F.local_response_norm(values, n, alpha=n * 1e-2, beta=0.75, k=2.0)  # which divides alpha by n
    expected, indices = F.max_pool2d(values, 3, 2, ceil_mode=True, return_indices=True)
    expected.sum().backward()
    assert exact.grad is not None
    assert 0 < expected.isnan().sum() < expected.numel() / 2
    assert torch.equal(offsets.long(), offsets_of(indices, case))
    for result, right in ((pooled, expected), (grads[0], exact.grad), (grads[1], exact.grad.sum((0, 2, 3)))):
        torch.testing.assert_close(result.double(), right, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_no_images_are_no_work(triton_norm_pool):
    maps, bias = channels_last(torch.empty(0, 8, 5, 5), torch.float32), torch.ones(8)
    pooled, offsets = triton_norm_pool.norm_pool_forward(maps, bias, 3, 2, (2, 2), **NO_NORM)
    assert pooled.shape == offsets.shape == (0, 8, 2, 2)
    grads = triton_norm_pool.norm_pool_backward(maps, bias, offsets, pooled, 3, 2, **NO_NORM)
    assert [grad.shape for grad in grads] == [maps.shape, bias.shape]
    assert not grads[1].any()
