"""The kernels of native/kernels.c once more, in Triton, for CUDA. Imported only where Triton and a CUDA tensor are.

Nothing here needs a GPU to be right: with TRITON_INTERPRET=1 in the environment, Triton runs these functions on a CPU,
number by number, and so the tests compare them with their twins in torch.
Shapes: N images, V views, C channels or maps, H rows, W columns.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# --- Response normalization (§3.3) ------------------------------------------------------------------------------------
# A row is one pixel's maps of one tower, as in C. Neighbors are read again rather than kept: they lie in the cache.


@triton.jit
def _sums(x, at, map_, inside, k, alpha, WIDTH: tl.constexpr, REACH: tl.constexpr):
    """k + alpha * (sum of squares over the neighbors) at every place."""
    total = tl.zeros(at.shape, tl.float32)
    for away in tl.static_range(-REACH, REACH + 1):
        near = map_ + away
        value = tl.load(x + at + away, mask=inside & (near >= 0) & (near < WIDTH), other=0.0).to(tl.float32)
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
    through = tl.zeros(at.shape, tl.float32)
    for away in tl.static_range(-REACH, REACH + 1):
        near = map_ + away
        there = inside & (near >= 0) & (near < WIDTH)
        sums = _sums(x, at + away, near, there, k, alpha, WIDTH, REACH)
        value = tl.load(x + at + away, mask=there, other=0.0).to(tl.float32)
        above = tl.load(dy + at + away, mask=there, other=0.0).to(tl.float32)
        through += above * value * tl.exp2(-(beta + 1) * tl.log2(sums))
    sums = _sums(x, at, map_, inside, k, alpha, WIDTH, REACH)
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    above = tl.load(dy + at, mask=inside, other=0.0).to(tl.float32)
    slope = above * tl.exp2(-beta * tl.log2(sums)) - 2 * alpha * beta * value * through
    tl.store(dx + at, slope.to(dx.dtype.element_ty), mask=inside)


def norm_forward(maps_NCHW: Tensor, *, k: float, alpha: float, beta: float, n: int, towers: int) -> Tensor:
    """As `kernels.norm_forward`."""
    x = maps_NCHW.contiguous(memory_format=torch.channels_last)
    y = torch.empty_like(x)
    _over_rows(_norm_forward, x, (x, y), k, alpha, beta, n, towers)
    return y


def norm_backward(
    maps_NCHW: Tensor, above_NCHW: Tensor, *, k: float, alpha: float, beta: float, n: int, towers: int,
) -> Tensor:
    """As `kernels.norm_backward`."""
    x = maps_NCHW.contiguous(memory_format=torch.channels_last)
    dy = above_NCHW.to(x.dtype).contiguous(memory_format=torch.channels_last)
    dx = torch.empty_like(x)
    _over_rows(_norm_backward, x, (x, dy, dx), k, alpha, beta, n, towers)
    return dx


def _over_rows(
    kernel: Any, x: Tensor, tensors: tuple[Tensor, ...], k: float, alpha: float, beta: float, n: int, towers: int,
) -> None:
    if not x.numel():
        return
    width = x.shape[1] // towers
    rows, block = x.numel() // width, triton.next_power_of_2(width)
    together = max(1, 1024 // block)  # about a thousand numbers a program
    kernel[(triton.cdiv(rows, together),)](*tensors, rows, k, alpha, beta, WIDTH=width, REACH=n // 2, ROWS=together,
                                           BLOCK=block)


# --- Views (§4.1) -----------------------------------------------------------------------------------------------------


@triton.jit
def _views(pixels, mean, scale, places, mirrored, shift, photo, out, side, mean_side, CROP: tl.constexpr,
           BGR: tl.constexpr, BLOCK: tl.constexpr):
    """One program makes BLOCK numbers of one view: numbers lie as they are stored, channels side by side."""
    view = tl.program_id(0).to(tl.int64)
    number = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = number < CROP * CROP * 3
    channel, column, row = number % 3, number // 3 % CROP, number // (3 * CROP)
    channel = 2 - channel if BGR else channel
    top, left = tl.load(places + 2 * view), tl.load(places + 2 * view + 1)
    column = tl.where(tl.load(mirrored + view) != 0, CROP - 1 - column, column)
    place = (top + row) * side + left + column
    value = tl.load(pixels + tl.load(photo + view) * side * side * 3 + place * 3 + channel, mask=inside, other=0)
    place = tl.where(mean_side == 1, 0, place)
    value = value.to(tl.float32) - tl.load(mean + place * 3 + channel, mask=inside, other=0.0)
    value += tl.load(shift + 3 * view + channel, mask=inside, other=0.0)
    value /= tl.load(scale + channel, mask=inside, other=1.0)
    tl.store(out + view * CROP * CROP * 3 + number, value.to(out.dtype.element_ty), mask=inside)


def windows(
    pixels_NHWC: Tensor, mean_HWC: Tensor, scale_C: Tensor, places_V2: Tensor, mirrored_V: Tensor | None,
    shift_VC: Tensor | None, crop: int, *, bgr: bool, dtype: torch.dtype, photo_V: Tensor | None = None,
) -> Tensor:
    """As `kernels.windows`, of images in a tensor."""
    count, side, device = len(places_V2), pixels_NHWC.shape[1], pixels_NHWC.device
    mirrored = torch.zeros(count, device=device) if mirrored_V is None else mirrored_V
    shift = torch.zeros(count, 3, device=device) if shift_VC is None else shift_VC
    photo = torch.arange(count, device=device) if photo_V is None else photo_V
    out = torch.empty((count, crop, crop, 3), dtype=dtype, device=device)
    block = 1024
    if count:
        _views[(count, triton.cdiv(crop * crop * 3, block))](
            pixels_NHWC.contiguous(), mean_HWC.float().contiguous(), scale_C.float(), places_V2.long().contiguous(),
            mirrored.to(torch.uint8), shift.float().contiguous(), photo.long(), out, side, mean_HWC.shape[0],
            CROP=crop, BGR=bgr, BLOCK=block)
    return out.permute(0, 3, 1, 2)


# --- The update (§5) --------------------------------------------------------------------------------------------------


@triton.jit
def _update(w, v, g, count, momentum, decay, rate, IN_VELOCITY: tl.constexpr, NESTEROV: tl.constexpr,
            BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    weight, velocity = tl.load(w + at, mask=inside), tl.load(v + at, mask=inside)
    slope = tl.load(g + at, mask=inside).to(tl.float32)
    if IN_VELOCITY:
        velocity = momentum * velocity - decay * rate * weight - rate * slope
        weight += velocity
    else:
        slope += decay * weight
        velocity = momentum * velocity + slope
        weight -= rate * (slope + momentum * velocity) if NESTEROV else rate * velocity
    tl.store(v + at, velocity, mask=inside)
    tl.store(w + at, weight, mask=inside)


def update(
    w: Tensor, v: Tensor, g: Tensor, *, momentum: float, decay: float, rate: float, lr_in_velocity: bool,
    nesterov: bool,
) -> None:
    """As `kernels.update`."""
    block = 1024
    _update[(triton.cdiv(w.numel(), block),)](w, v, g, w.numel(), momentum, decay, rate, IN_VELOCITY=lr_in_velocity,
                                              NESTEROV=nesterov, BLOCK=block)
