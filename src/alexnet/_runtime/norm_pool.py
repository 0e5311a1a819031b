"""Bias, ReLU, response normalization and max pooling after a convolution as one operator of torch, fast on CUDA.

Four operations of torch read and write the maps at full size between two convolutions. The operator reads the
convolution's output and writes the pooled maps, and for each the offset of the maximum within its window, in a byte
(torch's own index takes eight). For the backward pass it keeps the offsets and its input: the convolution has written
that anyway, and activations and normalized maps are computed from it in less time than they are read. Without the
offsets, the maximum of a window whose values are equal (often zeros) would be unknown.

triton_norm_pool.py has the kernels. The implementation for a CPU, by torch's operators, is for tests and for tracing.
Arithmetic is in float32. Shapes: N images, C maps, H rows, W columns.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet._runtime import c_kernels, kernels

MAX_STRIDE, MAX_REACH, GROUP = 3, 2, 8
"""Limits of the kernels: pixels of a block are unrolled; a group has the neighbors of its neighbor; maps of a group."""

_LIBRARY = torch.library.Library("alexnet", "FRAGMENT")  # operators.py has the others
_NUMBERS = "float k, float alpha, float beta, int n, int towers"
_LIBRARY.define("norm_pool(Tensor maps, Tensor bias, int kernel, int stride, bool ceil, "
                f"{_NUMBERS}) -> (Tensor, Tensor)")
_LIBRARY.define("norm_pool_backward(Tensor maps, Tensor bias, Tensor offsets, Tensor grad, int kernel, int stride, "
                f"{_NUMBERS}) -> (Tensor, Tensor)")
forward = torch.ops.alexnet.norm_pool.default
backward = torch.ops.alexnet.norm_pool_backward.default


def supports_norm_pool(
    device: torch.device, dtype: torch.dtype, maps: int, kernel: int, stride: int, n: int, towers: int,
) -> bool:
    """Whether there is a kernel for `norm_pool` on these maps: only on CUDA, for windows that overlap by half at most.

    Args:
        dtype: of the convolution's output.
        maps: their number.
    """
    return (device.type == "cuda" and dtype in (torch.float32, torch.bfloat16) and maps % (towers * GROUP) == 0
            and stride <= kernel <= 2 * stride and stride <= MAX_STRIDE and n // 2 <= MAX_REACH
            and kernels.available("cuda"))


def norm_pool(
    maps_NCHW: Tensor, bias_C: Tensor, kernel: int, stride: int, *, ceil: bool, k: float = 1.0, alpha: float = 0.0,
    beta: float = 0.75, n: int = 0, towers: int = 1,
) -> Tensor:
    """Add the bias, apply ReLU, normalize over neighboring maps of a tower (§3.3), and take the maximum of each window.

    Args:
        maps_NCHW: a convolution's output without its bias, float32 or bfloat16.
        kernel: side of the windows.
        stride: their distance.
        ceil: whether the number of windows is rounded up, as by torch's `ceil_mode`.
        n: neighbors of the normalization, the map itself included; 0: no normalization. The other numbers are those of
            `kernels.norm_forward`.

    Returns:
        The pooled maps, in the maps' dtype, channels-last. Ties and NaN are resolved as by `torch.nn.functional.
        max_pool2d`: the first of equal maxima, and NaN where a window has one.
    """
    pooled_NCHW: Tensor = forward(maps_NCHW, bias_C, kernel, stride, ceil, k, alpha, beta, n, towers)[0]
    return pooled_NCHW


def _pooled_side(side: int, kernel: int, stride: int, ceil: bool) -> int:
    """torch's rule; with a kernel that is at least as long as the stride, the last window begins inside the maps."""
    return (side - kernel + (stride - 1 if ceil else 0)) // stride + 1


# --- On a CPU ---------------------------------------------------------------------------------------------------------


def _cpu_forward(
    maps: Tensor, bias: Tensor, kernel: int, stride: int, ceil: bool, k: float, alpha: float, beta: float, n: int,
    towers: int,
) -> tuple[Tensor, Tensor]:
    active = _activations(maps, bias)
    values = c_kernels.norm_forward(active, k=k, alpha=alpha, beta=beta, n=n, towers=towers) if n else active
    pooled, indices = F.max_pool2d(values, kernel, stride, ceil_mode=ceil, return_indices=True)
    first = _first_pixels(pooled, maps.shape[3], stride)
    row, column = (indices - first) // maps.shape[3], (indices - first) % maps.shape[3]
    return (pooled.to(maps.dtype).contiguous(memory_format=torch.channels_last),
            (row * kernel + column).to(torch.int8).contiguous(memory_format=torch.channels_last))


def _cpu_backward(
    maps: Tensor, bias: Tensor, offsets: Tensor, grad: Tensor, kernel: int, stride: int, k: float, alpha: float,
    beta: float, n: int, towers: int,
) -> tuple[Tensor, Tensor]:
    active, width = _activations(maps, bias), maps.shape[3]
    indices = _first_pixels(offsets, width, stride) + offsets // kernel * width + offsets % kernel
    unpooled = torch.zeros(*maps.shape[:2], maps.shape[2] * width).scatter_add_(
        2, indices.flatten(2), grad.float().flatten(2)).view(maps.shape)
    if n:
        unpooled = c_kernels.norm_backward(active, unpooled, k=k, alpha=alpha, beta=beta, n=n, towers=towers)
    result = torch.where(active <= 0, 0.0, unpooled)
    return (result.to(maps.dtype).contiguous(memory_format=torch.channels_last),
            result.sum((0, 2, 3)).to(bias.dtype))


def _activations(maps: Tensor, bias: Tensor) -> Tensor:
    return F.relu(maps.float() + bias.float()[:, None, None])


def _first_pixels(pooled: Tensor, width: int, stride: int) -> Tensor:
    """Index of the first pixel of each window, in maps of that width: [pooled rows, pooled columns]."""
    rows, columns = (torch.arange(side) * stride for side in pooled.shape[2:])
    return rows[:, None] * width + columns


_LIBRARY.impl("norm_pool", _cpu_forward, "CPU")
_LIBRARY.impl("norm_pool_backward", _cpu_backward, "CPU")


# --- On CUDA ----------------------------------------------------------------------------------------------------------


def _cuda_forward(
    maps: Tensor, bias: Tensor, kernel: int, stride: int, ceil: bool, k: float, alpha: float, beta: float, n: int,
    towers: int,
) -> tuple[Tensor, Tensor]:
    from alexnet._runtime import triton_norm_pool

    rows, columns = (_pooled_side(side, kernel, stride, ceil) for side in maps.shape[2:])
    return triton_norm_pool.norm_pool_forward(maps, bias, kernel, stride, (rows, columns), k, alpha, beta, n, towers)


def _cuda_backward(
    maps: Tensor, bias: Tensor, offsets: Tensor, grad: Tensor, kernel: int, stride: int, k: float, alpha: float,
    beta: float, n: int, towers: int,
) -> tuple[Tensor, Tensor]:
    from alexnet._runtime import triton_norm_pool

    return triton_norm_pool.norm_pool_backward(maps, bias, offsets, grad, kernel, stride, k, alpha, beta, n, towers)


_LIBRARY.impl("norm_pool", _cuda_forward, "CUDA")
_LIBRARY.impl("norm_pool_backward", _cuda_backward, "CUDA")


# --- Shapes, for tensors without memory, and gradients ----------------------------------------------------------------


@torch.library.register_fake("alexnet::norm_pool", lib=_LIBRARY)
def _(maps: Tensor, bias: Tensor, kernel: int, stride: int, ceil: bool, *numbers: object) -> tuple[Tensor, Tensor]:
    torch._check(maps.device == bias.device, lambda: "tensors on different devices")
    images, count = maps.shape[:2]
    rows, columns = (_pooled_side(side, kernel, stride, ceil) for side in maps.shape[2:])
    pooled, offsets = (torch.empty((images, count, rows, columns), dtype=dtype, device=maps.device,
                                   memory_format=torch.channels_last) for dtype in (maps.dtype, torch.int8))
    return pooled, offsets


@torch.library.register_fake("alexnet::norm_pool_backward", lib=_LIBRARY)
def _(maps: Tensor, bias: Tensor, offsets: Tensor, grad: Tensor, *numbers: object) -> tuple[Tensor, Tensor]:
    torch._check(maps.device == bias.device == offsets.device == grad.device, lambda: "tensors on different devices")
    return torch.empty_like(maps, memory_format=torch.channels_last), torch.empty_like(bias)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    maps, bias, kernel, stride, _, *numbers = inputs
    ctx.numbers = kernel, stride, *numbers
    ctx.set_materialize_grads(False)  # the offsets have none
    ctx.save_for_backward(maps, bias, output[1])


def _gradient(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    others = [None] * 8
    if grad is None:
        return None, None, *others
    maps, bias, offsets = ctx.saved_tensors
    return *backward(maps, bias, offsets, grad, *ctx.numbers), *others


torch.library.register_autograd("alexnet::norm_pool", _gradient, setup_context=_save, lib=_LIBRARY)
