"""Response normalization and dropout in Triton, for CUDA. operators.py imports this file for the first CUDA tensor.

Triton launches on the current device, whatever device its arguments are on, so every launch is inside `_device_of`.
With TRITON_INTERPRET=1 in the environment Triton interprets these functions on a CPU. The tests compare them with the
torch code that way, without a GPU.
Shapes: N images, V views, C channels or feature maps, H rows, W columns.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from alexnet._runtime.philox import Draw


def _device_of(tensor: Tensor) -> torch.cuda.device_of:
    """Inside, the tensor's GPU is the current device: `cuda:1` need not be the one that torch has set."""
    return torch.cuda.device_of(tensor)


# --- Response normalization (§3.3) ------------------------------------------------------------------------------------
# A row is one pixel's maps of one tower, as in the C kernels. Neighbors are loaded again; they are in the cache.

FORWARD_ELEMENTS, BACKWARD_ELEMENTS = 1024, 512
"""Elements of one program. The gradient keeps the squares of 4 REACH + 1 maps for each of its elements in registers."""


@triton.jit
def _sums(x, at, map_, inside, k, alpha, WIDTH: tl.constexpr, REACH: tl.constexpr):
    """k + alpha * (sum of squares over the neighboring maps), for each element."""
    total = tl.zeros(at.shape, tl.float32)
    for offset in tl.static_range(-REACH, REACH + 1):
        neighbor = map_ + offset
        value = tl.load(x + at + offset, mask=inside & (neighbor >= 0) & (neighbor < WIDTH), other=0.0).to(tl.float32)
        total += value * value
    return k + alpha * total


@triton.jit
def _norm_forward(x, y, rows, k, alpha, beta, WIDTH: tl.constexpr, REACH: tl.constexpr, ROWS: tl.constexpr,
                  BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    map_ = tl.arange(0, BLOCK)[None, :]
    inside = (row < rows) & (map_ < WIDTH)
    at = row.to(tl.int64) * WIDTH + map_
    sums = _sums(x, at, map_, inside, k, alpha, WIDTH, REACH)
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + at, (value * tl.exp2(-beta * tl.log2(sums))).to(y.dtype.element_ty), mask=inside)


@triton.jit
def _norm_backward(x, dy, dx, rows, k, alpha, beta, WIDTH: tl.constexpr, REACH: tl.constexpr, ROWS: tl.constexpr,
                   BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    map_ = tl.arange(0, BLOCK)[None, :]
    inside = (row < rows) & (map_ < WIDTH)
    at = row.to(tl.int64) * WIDTH + map_
    squares = ()  # of the maps at distances -2 REACH to 2 REACH, each loaded once
    for offset in tl.static_range(-2 * REACH, 2 * REACH + 1):
        neighbor = map_ + offset
        valid = inside & (neighbor >= 0) & (neighbor < WIDTH)
        value = tl.load(x + at + offset, mask=valid, other=0.0).to(tl.float32)
        squares = squares + (value * value,)  # type: ignore[assignment]  # noqa: RUF005  Triton has no stars
    neighbor_sum = tl.zeros(at.shape, tl.float32)
    direct, center = neighbor_sum, neighbor_sum
    for offset in tl.static_range(-REACH, REACH + 1):
        neighbor = map_ + offset
        valid = inside & (neighbor >= 0) & (neighbor < WIDTH)
        sums = tl.zeros(at.shape, tl.float32)
        for number in tl.static_range(2 * REACH + 1):
            sums += squares[offset + REACH + number]
        power = tl.log2(k + alpha * sums)
        value = tl.load(x + at + offset, mask=valid, other=0.0).to(tl.float32)
        grad = tl.load(dy + at + offset, mask=valid, other=0.0).to(tl.float32)
        neighbor_sum += grad * value * tl.exp2(-(beta + 1) * power)
        if offset == 0:
            direct, center = grad * tl.exp2(-beta * power), value
    tl.store(dx + at, (direct - 2 * alpha * beta * center * neighbor_sum).to(dx.dtype.element_ty), mask=inside)


def norm_forward(maps_NCHW: Tensor, *, k: float, alpha: float, beta: float, n: int, towers: int) -> Tensor:
    """`kernels.norm_forward` on CUDA."""
    x = maps_NCHW.contiguous(memory_format=torch.channels_last)
    y = torch.empty_like(x)
    _over_rows(_norm_forward, FORWARD_ELEMENTS, x, (x, y), k, alpha, beta, n, towers)
    return y


def norm_backward(
    maps_NCHW: Tensor, grad_NCHW: Tensor, *, k: float, alpha: float, beta: float, n: int, towers: int,
) -> Tensor:
    """`kernels.norm_backward` on CUDA."""
    x = maps_NCHW.contiguous(memory_format=torch.channels_last)
    dy = grad_NCHW.to(x.dtype).contiguous(memory_format=torch.channels_last)
    dx = torch.empty_like(x)
    _over_rows(_norm_backward, BACKWARD_ELEMENTS, x, (x, dy, dx), k, alpha, beta, n, towers)
    return dx


def _over_rows(
    kernel: Any, elements: int, x: Tensor, tensors: tuple[Tensor, ...], k: float, alpha: float, beta: float, n: int,
    towers: int,
) -> None:
    """Run a normalization kernel over all rows of x, on about so many elements in each program."""
    if not x.numel():
        return
    width = x.shape[1] // towers
    rows, block = x.numel() // width, triton.next_power_of_2(width)
    rows_per_program = max(1, elements // block)
    with _device_of(x):
        kernel[(triton.cdiv(rows, rows_per_program),)](
            *tensors, rows, k, alpha, beta, WIDTH=width, REACH=n // 2, ROWS=rows_per_program, BLOCK=block)


# --- Dropout (§4.2) ---------------------------------------------------------------------------------------------------


@triton.jit(do_not_specialize=["layer", "threshold"])
def _dropout(x, counter, y, units, first_unit, layer, threshold, scale, BLOCK: tl.constexpr):
    """One program computes BLOCK units of one image. Each unit computes the four words of its counter and takes one."""
    seed_low, seed_high, step = tl.load(counter), tl.load(counter + 1), tl.load(counter + 2)
    image = tl.program_id(0).to(tl.int64)
    unit = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = unit < units
    number = unit + first_unit
    zero = (number * 0).to(tl.uint32)
    word0, word1, word2, word3 = tl.philox(
        step << 32 | seed_low, (number // 4).to(tl.uint32), zero + tl.load(counter + 3 + image).to(tl.uint32),
        (zero + layer).to(tl.uint32), zero + seed_high.to(tl.uint32))
    which = number % 4
    word = tl.where(which == 0, word0, tl.where(which == 1, word1, tl.where(which == 2, word2, word3)))
    value = tl.load(x + image * units + unit, mask=inside, other=0.0).to(tl.float32)
    value *= tl.where(word >= threshold, scale, 0.0)
    tl.store(y + image * units + unit, value.to(y.dtype.element_ty), mask=inside)


def dropout(x_ND: Tensor, counter: Tensor, draw: Draw, first_unit: int) -> Tensor:
    """`kernels.dropout` on CUDA: seed, step and positions by `counter_words` on the device, p and layer by `draw`."""
    x, block = x_ND.contiguous(), 1024
    y = torch.empty_like(x)
    if x.numel():
        with _device_of(x):
            _dropout[(len(x), triton.cdiv(x.shape[1], block))](
                x, counter, y, x.shape[1], first_unit, draw.layer, draw.threshold, draw.scale, BLOCK=block)
    return y
