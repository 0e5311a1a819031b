"""Tensors that travel between processes, with their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from alexnet.training.parallel.process_group import ProcessGroup

# --- What travels -----------------------------------------------------------------------------------------------------


class Gather(torch.autograd.Function):
    """Every process's block along a dimension, in order of rank; blocks may be of different lengths.

    Backward is the other way: each process sends each other the gradient of that one's block, and sums what it gets.
    `as_one`: all processes go on to do the very same with the whole, so that each has its block's gradient already.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, world: ProcessGroup, dim: int, lengths: Sequence[int], as_one: bool) -> Tensor:
        ctx.world, ctx.dim, ctx.lengths, ctx.as_one = world, dim, lengths, as_one
        block = own.movedim(dim, 0).contiguous()
        parts = exchange(world, [block] * world.size, lengths)
        return torch.cat(parts).movedim(0, dim).contiguous(memory_format=memory_format_of(own))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, whole: Tensor) -> tuple[Tensor | None, ...]:
        world, lengths = ctx.world, ctx.lengths
        blocks = whole.movedim(ctx.dim, 0).split(lengths)
        if ctx.as_one:
            own = blocks[world.rank]
        else:
            parts = exchange(world, blocks, [lengths[world.rank]] * world.size)
            own = torch.stack(parts).sum(0)
        return own.movedim(0, ctx.dim).contiguous(memory_format=memory_format_of(whole)), None, None, None, None


class TakeOwn(torch.autograd.Function):
    """This process's rows of what all processes have. Backward: everyone's gradients of their own rows, together."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, world: ProcessGroup, lengths: Sequence[int]) -> Tensor:
        ctx.world, ctx.lengths = world, lengths
        return whole.split(lengths)[world.rank].contiguous()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, own: Tensor) -> tuple[Tensor, None, None]:
        parts = exchange(ctx.world, [own.contiguous()] * ctx.world.size, ctx.lengths)
        return torch.cat(parts), None, None


class Sum(torch.autograd.Function):
    """The sum over processes, forward and backward."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, world: ProcessGroup) -> Tensor:
        ctx.world = world
        world.all_reduced("statistics", own)
        return world.all_reduce_sum(own.clone())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None]:
        ctx.world.all_reduced("statistics", above)
        return ctx.world.all_reduce_sum(above.clone()), None


def exchange(world: ProcessGroup, blocks: Sequence[Tensor], lengths: Sequence[int]) -> list[Tensor]:
    """blocks[r] to process r, and from each process r the `lengths[r]` rows that it sent here."""
    row = blocks[0].shape[1:]
    got = blocks[0].new_empty((sum(lengths), *row))
    dist.all_to_all_single(got, torch.cat(list(blocks)), list(lengths), [len(block) for block in blocks])
    if not torch.is_inference_mode_enabled():  # evaluation sends as well, and is no step
        world.sent["activations"] += sum(
            block.numel() * block.element_size() for rank, block in enumerate(blocks) if rank != world.rank)
    return list(got.split(list(lengths)))


def memory_format_of(maps: Tensor) -> torch.memory_format:
    return torch.channels_last if maps.ndim == 4 else torch.contiguous_format
