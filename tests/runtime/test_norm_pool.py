"""`norm_pool` as an operator of torch: `torch.library.opcheck`, its values on a CPU, and for what there is a kernel."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from alexnet._runtime import kernels, native, norm_pool
from alexnet.architecture.spec import LRN
from alexnet.models.response_norm import ResponseNorm, norm_numbers

needs_kernels = pytest.mark.skipif(not native.level(), reason="no compiled kernels")
LRN_NUMBERS = (2.0, 1e-2, 0.75, 5, 2)
NO_NORM = (1.0, 0.0, 0.75, 0, 1)
CUDA = torch.device("cuda", 0)


def tensors(dtype: torch.dtype, requires_grad: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps and bias."""
    generator = torch.Generator().manual_seed(0)
    maps = (torch.randn(2, 16, 8, 7, generator=generator) * 5).to(dtype).contiguous(memory_format=torch.channels_last)
    return maps.requires_grad_(requires_grad), torch.randn(16, generator=generator).requires_grad_(requires_grad)


@needs_kernels
@pytest.mark.parametrize(("dtype", "numbers", "ceil"), [
    (torch.float32, LRN_NUMBERS, True), (torch.bfloat16, LRN_NUMBERS, False), (torch.float32, NO_NORM, False)])
def test_the_operators_are_what_they_say_to_be(dtype, numbers, ceil):
    """Schemas, shapes of tensors without memory, gradients, and tracing with symbolic sizes."""
    torch.library.opcheck(norm_pool.forward, (*tensors(dtype, True), 3, 2, ceil, *numbers))
    maps, bias = tensors(dtype)
    pooled, offsets = norm_pool.forward(maps, bias, 3, 2, ceil, *numbers)
    torch.library.opcheck(norm_pool.backward, (maps, bias, offsets, pooled, 3, 2, *numbers))


@needs_kernels
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("lrn", [None, LRN(alpha=1e-2, within_tower=True)], ids=str)
def test_the_operator_computes_what_the_layers_do(lrn, ceil):
    maps, bias = tensors(torch.float32, True)
    norm = ResponseNorm(lrn, 16, 2) if lrn else torch.nn.Identity()
    expected = F.max_pool2d(norm(F.relu(maps + bias[:, None, None])), 3, 2, ceil_mode=ceil)
    numbers = norm_numbers(norm) if isinstance(norm, ResponseNorm) else {}
    result = norm_pool.norm_pool(maps, bias, 3, 2, ceil=ceil, **numbers)
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-6)
    grads = [torch.autograd.grad(output.square().sum(), (maps, bias)) for output in (result, expected)]
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-5)


def supported(**other: object) -> bool:
    arguments = {"device": CUDA, "dtype": torch.bfloat16, "maps": 96, "kernel": 3, "stride": 2, "n": 5, "towers": 2}
    return norm_pool.supports_norm_pool(**{**arguments, **other})


@pytest.mark.parametrize("other", [
    {"device": torch.device("cpu")}, {"dtype": torch.float16}, {"dtype": torch.float64}, {"maps": 100}, {"towers": 5},
    {"kernel": 5}, {"kernel": 1}, {"kernel": 4, "stride": 4}, {"n": 7}], ids=str)
def test_for_what_there_is_a_kernel(monkeypatch, other):
    monkeypatch.setattr(kernels, "_has_triton", lambda: True)
    assert supported()
    assert supported(dtype=torch.float32, n=0, towers=1)
    assert not supported(**other)
    monkeypatch.setenv("ALEXNET_NATIVE", "0")
    assert not supported()
