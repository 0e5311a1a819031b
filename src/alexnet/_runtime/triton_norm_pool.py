"""Bias, ReLU, response normalization and max pooling after a convolution in one pass, in Triton: norm_pool.py on CUDA.

A row of a tile is a group of GROUP neighboring maps at one pixel: 16 bytes, which one thread loads at once. It loads
the groups on both sides too, so all sums over neighboring maps (§3.3) are additions of its own registers (`_columns`).

Forward, a row is a pooled value of each map of the group. Overlapping windows share pixels, and a pixel is normalized
again for each of its windows: 2.25 times on average with the paper's 3 and 2. That is less time than writing the
normalized maps to memory and reading them.

Backward, a row is a block of STRIDE x STRIDE pixels. All of them lie in the same windows, at most two along each side,
so a program loads the gradient of each window and the offset of its maximum once. The gradient of the bias is summed
over a program's pixels, and the programs' sums are added afterwards, always in the same order.

Shapes: N images, C maps, H rows, W columns.
"""

# Tuples of tensors grow in unrolled loops, and Triton knows no `(*columns, column)`.
# mypy: disable-error-code="assignment"
# ruff: noqa: RUF005

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 128
"""Rows of a tile: one for each thread."""
BYTES = 16
"""Of a group of maps, the most that one instruction loads."""
SPAN = 8
"""Most neighboring groups that a program of the backward pass has; the rest of its rows are other pixels."""


# --- Groups of maps and their neighbors -------------------------------------------------------------------------------


@triton.jit
def _columns(tile, ROWS: tl.constexpr, GROUP: tl.constexpr):
    """The columns of a tile [ROWS, GROUP]: a tuple of GROUP tensors [ROWS]. A thread has a whole row: nothing moves."""
    parts = (tile,)
    for level in tl.static_range(GROUP.bit_length() - 1):
        even, odd = (), ()
        for number in tl.static_range(2**level):
            zero, one = tl.split(tl.reshape(parts[number], (ROWS, GROUP // 2 ** (level + 1), 2)))
            even = even + (zero,)
            odd = odd + (one,)
        parts = even + odd
    return parts


@triton.jit
def _tile(columns, ROWS: tl.constexpr, GROUP: tl.constexpr):
    """The reverse of `_columns`."""
    parts = columns
    for level in tl.static_range(GROUP.bit_length() - 1):
        joined = ()
        for number in tl.static_range(GROUP // 2 ** (level + 1)):
            pair = tl.join(parts[number], parts[number + GROUP // 2 ** (level + 1)])
            joined = joined + (pair,)
        parts = joined
    return tl.reshape(parts[0], (ROWS, GROUP))


@triton.jit
def _neighbor_sums(left, own, right, REACH: tl.constexpr, ROWS: tl.constexpr, GROUP: tl.constexpr):
    """Sums over the maps at distances -REACH to REACH, of tiles [ROWS, GROUP] of three groups side by side."""
    columns = _columns(left, ROWS, GROUP) + _columns(own, ROWS, GROUP) + _columns(right, ROWS, GROUP)
    sums = ()
    for number in tl.static_range(GROUP):
        total = columns[GROUP + number - REACH]
        for offset in tl.static_range(1 - REACH, REACH + 1):
            total += columns[GROUP + number + offset]
        sums = sums + (total,)
    return _tile(sums, ROWS, GROUP)


@triton.jit
def _powers(sums, BETA: tl.constexpr):
    """sums ^ -BETA and 1 / sums. For §3.3's 3/4 by two roots, each an instruction; a logarithm takes fifteen."""
    if BETA == 0.75:
        root = tl.rsqrt(sums)
        return root * tl.sqrt(root), root * root
    logarithm = tl.log2(sums)
    return tl.exp2(-BETA * logarithm), tl.exp2(-logarithm)


@triton.jit
def _activation(x, at, bias, inside):
    """ReLU of a convolution's output and its bias; 0 outside."""
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) + bias
    return tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _neighbor(x, at, bias, maps, has, inside):
    """`_activation` of a group beside this one; 0 where there is none in the tower."""
    neighbor_bias = tl.load(bias + maps, mask=has[:, None], other=0.0).to(tl.float32)
    return _activation(x, at, neighbor_bias, (has & inside)[:, None])


# --- Forward ----------------------------------------------------------------------------------------------------------


@triton.jit
def _norm_pool_forward(x, bias, y, offsets, rows, height, width, pooled_height, pooled_width, k, alpha,
                       MAPS: tl.constexpr, WIDTH: tl.constexpr, REACH: tl.constexpr, BETA: tl.constexpr,
                       KERNEL: tl.constexpr, STRIDE: tl.constexpr, NORM: tl.constexpr, EDGE: tl.constexpr,
                       ROWS: tl.constexpr, GROUP: tl.constexpr):
    """One program computes GROUP maps of ROWS pooled places, in memory order. EDGE: windows reach beyond the maps."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    exists = row < rows
    group, place = row % (MAPS // GROUP), row // (MAPS // GROUP)
    column, top = place % pooled_width * STRIDE, place // pooled_width % pooled_height * STRIDE
    image = place // (pooled_width * pooled_height)
    maps = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    own_bias = tl.load(bias + maps).to(tl.float32)
    has_left = exists & (group % (WIDTH // GROUP) != 0)  # else a tower begins here
    has_right = exists & ((group + 1) % (WIDTH // GROUP) != 0)
    best = tl.full((ROWS, GROUP), float("-inf"), tl.float32)
    offset = tl.zeros((ROWS, GROUP), tl.int32)
    for dy in tl.static_range(KERNEL):
        for dx in tl.static_range(KERNEL):
            inside = exists
            if EDGE:
                inside = exists & (top + dy < height) & (column + dx < width)
            at = ((image * height + top + dy) * width + column + dx).to(tl.int64)[:, None] * MAPS + maps
            value = _activation(x, at, own_bias, inside[:, None])
            if NORM:
                left = _neighbor(x, at - GROUP, bias, maps - GROUP, has_left, inside)
                right = _neighbor(x, at + GROUP, bias, maps + GROUP, has_right, inside)
                squares = _neighbor_sums(left * left, value * value, right * right, REACH, ROWS, GROUP)
                power, _ = _powers(k + alpha * squares, BETA)
                value *= power
            better = (value > best) | (value != value)  # the first maximum, but the last NaN: as torch.max_pool2d
            if EDGE:
                better &= inside[:, None]
            best = tl.where(better, value, best)
            offset = tl.where(better, dy * KERNEL + dx, offset)
    at = row.to(tl.int64)[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    tl.store(y + at, best.to(y.dtype.element_ty), mask=exists[:, None])
    tl.store(offsets + at, offset.to(tl.int8), mask=exists[:, None])


def norm_pool_forward(
    maps_NCHW: Tensor, bias_C: Tensor, kernel: int, stride: int, pooled_side: tuple[int, int], k: float, alpha: float,
    beta: float, n: int, towers: int,
) -> tuple[Tensor, Tensor]:
    """`norm_pool.forward` on CUDA."""
    x = maps_NCHW.contiguous(memory_format=torch.channels_last)
    (images, maps, height, width), (pooled_height, pooled_width) = x.shape, pooled_side
    y = torch.empty((images, maps, pooled_height, pooled_width), dtype=x.dtype, device=x.device,
                    memory_format=torch.channels_last)
    offsets = torch.empty_like(y, dtype=torch.int8)
    group = BYTES // x.element_size()
    rows = y.numel() // group
    edge = (pooled_height - 1) * stride + kernel > height or (pooled_width - 1) * stride + kernel > width
    if rows:
        with torch.cuda.device_of(x):
            _norm_pool_forward[(triton.cdiv(rows, ROWS),)](
                x, bias_C.contiguous(), y, offsets, rows, height, width, pooled_height, pooled_width, k, alpha,
                MAPS=maps, WIDTH=maps // towers, REACH=n // 2, BETA=beta, KERNEL=kernel, STRIDE=stride, NORM=n > 0,
                EDGE=edge, ROWS=ROWS, GROUP=group)
    return y, offsets


# --- Backward ---------------------------------------------------------------------------------------------------------


@triton.jit
def _windows(dy, offsets, maps, image, i, j, inside, pooled_height, pooled_width, MAPS: tl.constexpr,
             OVERLAP: tl.constexpr):
    """Gradients of the OVERLAP^2 windows that a block of pixels lies in, and the offsets of their maxima."""
    grads, places = (), ()
    for up in tl.static_range(OVERLAP):
        for back in tl.static_range(OVERLAP):
            y, x = i - up, j - back
            valid = (inside & (y >= 0) & (y < pooled_height) & (x >= 0) & (x < pooled_width))[:, None]
            at = ((image * pooled_height + y) * pooled_width + x).to(tl.int64)[:, None] * MAPS + maps
            grads = grads + (tl.load(dy + at, mask=valid, other=0.0).to(tl.float32),)
            places = places + (tl.load(offsets + at, mask=valid, other=-1),)
    return grads, places


@triton.jit
def _unpooled(grads, places, DY: tl.constexpr, DX: tl.constexpr, KERNEL: tl.constexpr, STRIDE: tl.constexpr,
              OVERLAP: tl.constexpr):
    """Gradient of the normalized maps at the pixel (DY, DX) of each block: of the windows whose maximum is there."""
    total = tl.zeros(grads[0].shape, tl.float32)
    for up in tl.static_range(OVERLAP):
        for back in tl.static_range(OVERLAP):
            if DY + up * STRIDE < KERNEL and DX + back * STRIDE < KERNEL:
                is_here = places[up * OVERLAP + back] == (DY + up * STRIDE) * KERNEL + DX + back * STRIDE
                total += tl.where(is_here, grads[up * OVERLAP + back], 0.0)
    return total


@triton.jit
def _norm_gradient(left, value, right, left_grad, grad, right_grad, k, alpha, slope, REACH: tl.constexpr,
                   BETA: tl.constexpr, ROWS: tl.constexpr, GROUP: tl.constexpr):
    """Gradient of a group's activations from those of three groups' normalized ones; response_norm.py has the formula.

    Its second sum takes the sums of the neighbors over their own neighbors. Those of the outer groups are right only
    for the REACH maps next to this group, and no others are used.
    """
    left_square, square, right_square = left * left, value * value, right * right
    left_power, left_inverse = _powers(
        k + alpha * _neighbor_sums(left_square, left_square, square, REACH, ROWS, GROUP), BETA)
    power, inverse = _powers(
        k + alpha * _neighbor_sums(left_square, square, right_square, REACH, ROWS, GROUP), BETA)
    right_power, right_inverse = _powers(
        k + alpha * _neighbor_sums(square, right_square, right_square, REACH, ROWS, GROUP), BETA)
    direct = grad * power
    through = _neighbor_sums(left_grad * left_power * left_inverse * left, direct * inverse * value,
                             right_grad * right_power * right_inverse * right, REACH, ROWS, GROUP)
    return direct - slope * value * through


@triton.jit
def _norm_pool_backward(x, bias, offsets, dy, dx, bias_sums, blocks, height, width, block_rows, block_columns,
                        pooled_height, pooled_width, k, alpha, slope, MAPS: tl.constexpr, WIDTH: tl.constexpr,
                        REACH: tl.constexpr, BETA: tl.constexpr, KERNEL: tl.constexpr, STRIDE: tl.constexpr,
                        OVERLAP: tl.constexpr, NORM: tl.constexpr, SPAN: tl.constexpr, ROWS: tl.constexpr,
                        GROUP: tl.constexpr):
    """One program computes SPAN neighboring groups of maps of ROWS / SPAN blocks. slope: 2 alpha beta."""
    entry = tl.arange(0, ROWS)
    span = tl.program_id(0) % (MAPS // GROUP // SPAN)
    program = tl.program_id(0) // (MAPS // GROUP // SPAN)
    block, group = program * (ROWS // SPAN) + entry // SPAN, span * SPAN + entry % SPAN
    exists = block < blocks
    j, i = block % block_columns, block // block_columns % block_rows
    image = block // (block_columns * block_rows)
    maps = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    grads, places = _windows(dy, offsets, maps, image, i, j, exists, pooled_height, pooled_width, MAPS, OVERLAP)
    has_left = exists & (group % (WIDTH // GROUP) != 0)
    has_right = exists & ((group + 1) % (WIDTH // GROUP) != 0)
    if NORM:
        left_grads, left_places = _windows(dy, offsets, maps - GROUP, image, i, j, has_left, pooled_height,
                                           pooled_width, MAPS, OVERLAP)
        right_grads, right_places = _windows(dy, offsets, maps + GROUP, image, i, j, has_right, pooled_height,
                                             pooled_width, MAPS, OVERLAP)
    bias_sum = tl.zeros((ROWS, GROUP), tl.float32)
    for down in tl.static_range(STRIDE):
        for along in tl.static_range(STRIDE):
            inside = (i * STRIDE + down < height) & (j * STRIDE + along < width)
            at = ((image * height + i * STRIDE + down) * width + j * STRIDE + along).to(tl.int64)[:, None] * MAPS + maps
            value = _activation(x, at, tl.load(bias + maps).to(tl.float32), (exists & inside)[:, None])
            grad = _unpooled(grads, places, down, along, KERNEL, STRIDE, OVERLAP)
            if NORM:
                left = _neighbor(x, at - GROUP, bias, maps - GROUP, has_left, inside)
                right = _neighbor(x, at + GROUP, bias, maps + GROUP, has_right, inside)
                left_grad = _unpooled(left_grads, left_places, down, along, KERNEL, STRIDE, OVERLAP)
                right_grad = _unpooled(right_grads, right_places, down, along, KERNEL, STRIDE, OVERLAP)
                grad = _norm_gradient(left, value, right, left_grad, grad, right_grad, k, alpha, slope, REACH, BETA,
                                      ROWS, GROUP)
            grad = tl.where(value <= 0, 0.0, grad)  # NaN passes, as through torch's ReLU
            bias_sum += grad
            tl.store(dx + at, grad.to(dx.dtype.element_ty), mask=(exists & inside)[:, None])
    sums_of_maps = tl.sum(tl.reshape(bias_sum, (ROWS // SPAN, SPAN * GROUP)), 0)
    tl.store(bias_sums + program * MAPS + span * SPAN * GROUP + tl.arange(0, SPAN * GROUP), sums_of_maps)


def norm_pool_backward(
    maps_NCHW: Tensor, bias_C: Tensor, offsets_NCHW: Tensor, grad_NCHW: Tensor, kernel: int, stride: int, k: float,
    alpha: float, beta: float, n: int, towers: int,
) -> tuple[Tensor, Tensor]:
    """`norm_pool.backward` on CUDA."""
    x = maps_NCHW.contiguous(memory_format=torch.channels_last)
    dy = grad_NCHW.to(x.dtype).contiguous(memory_format=torch.channels_last)
    dx, group = torch.empty_like(x), BYTES // x.element_size()
    images, maps, height, width = x.shape
    block_rows, block_columns = triton.cdiv(height, stride), triton.cdiv(width, stride)
    blocks, groups = images * block_rows * block_columns, maps // group
    span = span_of(groups)
    programs = triton.cdiv(blocks, ROWS // span)
    bias_sums = torch.empty((programs, maps), dtype=torch.float32, device=x.device)
    if programs:
        with torch.cuda.device_of(x):
            _norm_pool_backward[(programs * (groups // span),)](
                x, bias_C.contiguous(), offsets_NCHW, dy, dx, bias_sums, blocks, height, width, block_rows,
                block_columns, dy.shape[2], dy.shape[3], k, alpha, 2 * alpha * beta, MAPS=maps, WIDTH=maps // towers,
                REACH=n // 2, BETA=beta, KERNEL=kernel, STRIDE=stride, OVERLAP=triton.cdiv(kernel, stride), NORM=n > 0,
                SPAN=span, ROWS=ROWS, GROUP=group)
    return dx, bias_sums.sum(0).to(bias_C.dtype)


def span_of(groups: int) -> int:
    """Groups of a program of the backward pass: the largest power of two that divides their number, at most SPAN."""
    return min(SPAN, groups & -groups)
