"""Tensors exchanged between processes, with their gradients: gather, take own rows, all-reduce.

These are ours, and not those of `torch.distributed.nn`, for three reasons: torch 2.13 deprecates its own in favor of a
private module; blocks here have different lengths, which gloo's all-gather rejects; and every byte that a step sends,
forward and backward, is counted, so that tests can compare the count with what is worked out from the architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from alexnet.training.parallel.process_group import ProcessGroup


class Gather(torch.autograd.Function):
    """Concatenate the blocks of all processes along a dimension, in order of rank. Blocks may differ in length.

    Backward: each process sends every other one the gradient of that one's block, and sums what it receives.
    replicated: all processes compute the same from the result, so each already has the gradient of its own block.
    """

    @staticmethod
    def forward(
        ctx: Any, own: Tensor, processes: ProcessGroup, dim: int, lengths: Sequence[int], replicated: bool,
    ) -> Tensor:
        ctx.processes, ctx.dim, ctx.lengths, ctx.replicated = processes, dim, lengths, replicated
        block = own.movedim(dim, 0).contiguous()
        parts = exchange(processes, [block] * processes.size, lengths)
        return torch.cat(parts).movedim(0, dim).contiguous(memory_format=memory_format_of(own))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, whole: Tensor) -> tuple[Tensor | None, ...]:
        processes, lengths = ctx.processes, ctx.lengths
        blocks = whole.movedim(ctx.dim, 0).split(lengths)
        if ctx.replicated:
            own = blocks[processes.rank]
        else:
            parts = exchange(processes, blocks, [lengths[processes.rank]] * processes.size)
            own = torch.stack(parts).sum(0)
        return own.movedim(0, ctx.dim).contiguous(memory_format=memory_format_of(whole)), None, None, None, None


class TakeOwnRows(torch.autograd.Function):
    """This process's rows of a tensor that all processes have. Backward: the gradients of all rows, concatenated."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, processes: ProcessGroup, lengths: Sequence[int]) -> Tensor:
        ctx.processes, ctx.lengths = processes, lengths
        return whole.split(lengths)[processes.rank].contiguous()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, own: Tensor) -> tuple[Tensor, None, None]:
        parts = exchange(ctx.processes, [own.contiguous()] * ctx.processes.size, ctx.lengths)
        return torch.cat(parts), None, None


class AllReduceSum(torch.autograd.Function):
    """The sum over processes, forward and backward."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, processes: ProcessGroup) -> Tensor:
        ctx.processes = processes
        processes.count_all_reduce("statistics", own)
        return processes.all_reduce_sum(own.clone())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.processes.count_all_reduce("statistics", gradient)
        return ctx.processes.all_reduce_sum(gradient.clone()), None


def exchange(processes: ProcessGroup, blocks: Sequence[Tensor], lengths: Sequence[int]) -> list[Tensor]:
    """Send blocks[r] to process r, and receive `lengths[r]` rows from each process r. Counts what a step sends."""
    if not torch.is_inference_mode_enabled():  # evaluation exchanges activations too, and is no step
        processes.sent["activations"] += sum(
            block.numel() * block.element_size() for rank, block in enumerate(blocks) if rank != processes.rank)
    return _all_to_all(blocks, lengths)


def gather_rows(own: Tensor, processes: ProcessGroup, lengths: Sequence[int]) -> Tensor:
    """Concatenate the rows of all processes, outside a training step: for checkpoints. All processes must call it."""
    return torch.cat(_all_to_all([own.detach().contiguous()] * processes.size, lengths))


def memory_format_of(maps: Tensor) -> torch.memory_format:
    """channels_last for maps and kernels, contiguous for all else."""
    return torch.channels_last if maps.ndim == 4 else torch.contiguous_format


def _all_to_all(blocks: Sequence[Tensor], lengths: Sequence[int]) -> list[Tensor]:
    received = blocks[0].new_empty((sum(lengths), *blocks[0].shape[1:]))
    dist.all_to_all_single(received, torch.cat(list(blocks)), list(lengths), [len(block) for block in blocks])
    return list(received.split(list(lengths)))
