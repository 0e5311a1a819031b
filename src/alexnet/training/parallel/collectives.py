"""Tensors exchanged between processes, with their gradients: gather, take own rows, all-reduce.

These are ours, and not those of `torch.distributed.nn`, for three reasons: torch 2.13 deprecates its own in favor of a
private module; blocks here have different lengths, which its all-gather rejects; and every byte that a step sends,
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
        whole = _gather_in_step(own.movedim(dim, 0).contiguous(), processes, lengths)
        return whole.movedim(0, dim).contiguous(memory_format=memory_format_of(own))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, whole: Tensor) -> tuple[Tensor | None, ...]:
        processes, lengths = ctx.processes, ctx.lengths
        rows = whole.movedim(ctx.dim, 0)
        own = rows.split(lengths)[processes.rank] if ctx.replicated else _sum_own_rows(rows, processes, lengths)
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
        return _gather_in_step(own.contiguous(), ctx.processes, ctx.lengths), None, None


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


def _gather_in_step(own: Tensor, processes: ProcessGroup, lengths: Sequence[int]) -> Tensor:
    """The rows of all processes, of which process r has `lengths[r]`. Counts what a step sends."""
    rows = max(lengths) if own.is_cuda else len(own)
    _count(processes, (processes.size - 1) * rows, own)
    with processes.clock.waiting():
        return gather_rows(own, processes, lengths)


def _sum_own_rows(whole: Tensor, processes: ProcessGroup, lengths: Sequence[int]) -> Tensor:
    """The sum over processes of the rows in `whole` that are this process's. Counts what a step sends."""
    own = lengths[processes.rank]
    _count(processes, (processes.size - 1) * max(lengths) if whole.is_cuda else len(whole) - own, whole)
    with processes.clock.waiting():
        if whole.is_cuda:
            return reduce_scatter(whole, processes, lengths)
        received = _all_to_all(whole.split(lengths), [own] * processes.size)
        return received.view(processes.size, own, *whole.shape[1:]).sum(0)


def _count(processes: ProcessGroup, rows: int, like: Tensor) -> None:
    if not torch.is_inference_mode_enabled():  # evaluation exchanges activations too, and is no step
        processes.sent["activations"] += rows * like.shape[1:].numel() * like.element_size()


def gather_rows(own: Tensor, processes: ProcessGroup, lengths: Sequence[int]) -> Tensor:
    """Concatenate the rows of all processes, in order of rank. All processes must call it. No gradient."""
    own = own.detach().contiguous()
    return all_gather(own, lengths) if own.is_cuda else _all_to_all([own] * processes.size, lengths)


def memory_format_of(maps: Tensor) -> torch.memory_format:
    """channels_last for maps and kernels, contiguous for all else."""
    return torch.channels_last if maps.ndim == 4 else torch.contiguous_format


# --- Between GPUs: NCCL's own operations need no copy of a block for each process, where blocks are equally long ---
# torch 2.13 has renamed both.


def all_gather(own: Tensor, lengths: Sequence[int]) -> Tensor:
    """The rows of all processes. NCCL needs blocks of one length: shorter ones are filled up with zeros and cut."""
    rows = max(lengths)
    gathered = own.new_empty((len(lengths) * rows, *own.shape[1:]))
    (getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor)(gathered, _filled(own, rows))
    if min(lengths) == rows:
        return gathered
    return torch.cat([block.narrow(0, 0, length) for block, length in zip(gathered.split(rows), lengths, strict=True)])


def reduce_scatter(whole: Tensor, processes: ProcessGroup, lengths: Sequence[int]) -> Tensor:
    """The sum of this process's rows, in the dtype of `whole`; filled up and cut as in `all_gather`."""
    rows = max(lengths)
    blocks = whole if min(lengths) == rows else torch.cat([_filled(block, rows) for block in whole.split(lengths)])
    summed = whole.new_empty((rows, *whole.shape[1:]))
    (getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor)(summed, blocks.contiguous())
    return summed.narrow(0, 0, lengths[processes.rank])


def _filled(block: Tensor, rows: int) -> Tensor:
    missing = rows - len(block)
    return torch.cat([block, block.new_zeros((missing, *block.shape[1:]))]) if missing else block


# --- Between CPUs: gloo would add in another order than that of the ranks, and so give other bits ---


def _all_to_all(blocks: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
    """Send blocks[r] to process r, and receive `lengths[r]` rows from each process r."""
    received = blocks[0].new_empty((sum(lengths), *blocks[0].shape[1:]))
    dist.all_to_all_single(received, torch.cat(list(blocks)), list(lengths), [len(block) for block in blocks])
    return received
