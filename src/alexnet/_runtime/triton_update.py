"""The SGD update (§5) in Triton, for CUDA: one launch updates all tensors, and writes their copies in bf16."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
"""Elements of one program."""

MAX_TENSORS = 64
"""Tensors of one launch: CUDA allows a kernel 4 KB of arguments, and a tensor takes 48 bytes of them."""


@triton.jit
def _update_block(w, v, g, copy, learning_rate, count, decay, momentum, block, PARTIAL: tl.constexpr,
                  IN_VELOCITY: tl.constexpr, NESTEROV: tl.constexpr, COPIES: tl.constexpr, BLOCK: tl.constexpr):
    rate = tl.load(learning_rate)
    at = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count if PARTIAL else None
    weight, velocity = tl.load(w + at, mask=inside), tl.load(v + at, mask=inside)
    gradient = tl.load(g + at, mask=inside)
    if IN_VELOCITY:
        velocity = momentum * velocity - decay * rate * weight - rate * gradient
        weight += velocity
    else:
        gradient += decay * weight
        velocity = momentum * velocity + gradient
        weight -= rate * (gradient + momentum * velocity) if NESTEROV else rate * velocity
    tl.store(v + at, velocity, mask=inside)
    tl.store(w + at, weight, mask=inside)
    if COPIES:
        tl.store(copy + at, weight.to(tl.bfloat16), mask=inside)


@triton.jit
def _update(w, v, g, copies, rates, counts, decays, momentum, TENSORS: tl.constexpr, ALIGNED: tl.constexpr,
            IN_VELOCITY: tl.constexpr, NESTEROV: tl.constexpr, COPIES: tl.constexpr, BLOCK: tl.constexpr):
    """One program updates BLOCK elements of one tensor, which it finds by comparing its number with those of each.

    Addresses are chosen as numbers, so that there is one copy of the code for all tensors, and not one for each. A
    count of 1 is a constant of the code, since Triton makes it one.
    """
    program = tl.program_id(0)
    block, first = program, 0
    w_, v_, g_, rate = w[0].to(tl.int64), v[0].to(tl.int64), g[0].to(tl.int64), rates[0].to(tl.int64)
    copy = copies[0].to(tl.int64) if COPIES else w_
    count, decay = counts[0], decays[0]
    for number in tl.static_range(1, TENSORS):
        first += tl.cdiv(counts[number - 1], BLOCK)
        later = program >= first  # the program's tensor is this one, or one after it
        block = tl.where(later, program - first, block)
        w_ = tl.where(later, w[number].to(tl.int64), w_)
        v_ = tl.where(later, v[number].to(tl.int64), v_)
        g_ = tl.where(later, g[number].to(tl.int64), g_)
        if COPIES:
            copy = tl.where(later, copies[number].to(tl.int64), copy)
        rate = tl.where(later, rates[number].to(tl.int64), rate)
        count = tl.where(later, counts[number], count)
        decay = tl.where(later, decays[number], decay)
    # The compiler loads and stores 16 bytes at once where it knows that addresses are multiples of 16.
    alignment: tl.constexpr = 16 if ALIGNED else 4
    w_ = tl.multiple_of(w_.to(tl.pointer_type(tl.float32)), alignment)
    v_ = tl.multiple_of(v_.to(tl.pointer_type(tl.float32)), alignment)
    g_ = tl.multiple_of(g_.to(tl.pointer_type(tl.float32)), alignment)
    # Said to be multiples of 8, so that a thread stores the four numbers that it has computed, and not eight.
    copy = tl.multiple_of(copy.to(tl.pointer_type(tl.bfloat16)), 8 if ALIGNED else 2)
    rate = rate.to(tl.pointer_type(tl.float32))
    if (block + 1).to(tl.int64) * BLOCK <= count:  # no mask, which would split loads where a count is odd
        _update_block(w_, v_, g_, copy, rate, count, decay, momentum, block, False, IN_VELOCITY, NESTEROV, COPIES,
                      BLOCK)
    else:
        _update_block(w_, v_, g_, copy, rate, count, decay, momentum, block, True, IN_VELOCITY, NESTEROV, COPIES,
                      BLOCK)


def sgd_update(
    w: Sequence[Tensor], v: Sequence[Tensor], g: Sequence[Tensor], rates: Sequence[Tensor], decays: Sequence[float],
    copies: Sequence[Tensor], *, momentum: float, lr_in_velocity: bool, nesterov: bool,
) -> None:
    """`kernels.sgd_update` on CUDA.

    The addresses are arguments of the launch, and not a table in the GPU's memory: gradients are new tensors in each
    step, and a recorded launch keeps its arguments, where a table would have to be written after each recording.
    """
    for start in range(0, len(w), MAX_TENSORS):
        part = slice(start, start + MAX_TENSORS)
        lists = [tuple(tensors[part]) for tensors in (w, v, g, copies, rates)]
        counts = tuple(weight.numel() for weight in lists[0])
        blocks = sum(triton.cdiv(count, BLOCK) for count in counts)
        aligned = all(tensor.data_ptr() % 16 == 0 for tensors in lists[:4] for tensor in tensors)
        if blocks:
            with torch.cuda.device_of(w[0]):  # Triton launches on the current device
                _update[(blocks,)](
                    *lists, counts, tuple(decays[part]), momentum, TENSORS=len(counts), ALIGNED=aligned,
                    IN_VELOCITY=lr_in_velocity, NESTEROV=nesterov, COPIES=bool(copies), BLOCK=BLOCK)
