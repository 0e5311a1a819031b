"""Data-parallel training: each process has the whole network and its part of every batch; gradients are summed."""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from alexnet.training.parallel.process_group import ProcessGroup
from alexnet.training.parallel.strategy import Strategy


class DataParallel(Strategy):
    """torch's DistributedDataParallel, with batch normalization over the global batch."""

    def prepare_layers(self) -> None:
        self.use_global_layers(self.network.features)
        self.use_global_layers(self.network.classifier)

    def wrap(self) -> nn.Module:
        return sum_gradients(self.network, self.processes)

    def gradient_sync(self, enabled: bool) -> AbstractContextManager[object]:
        return gradient_sync(self.module, enabled)


def sum_gradients(module: nn.Module, processes: ProcessGroup) -> nn.Module:
    """The module under DistributedDataParallel, which sums its gradients over processes, and counts what is sent."""
    if not any(parameter.requires_grad for parameter in module.parameters()):
        return module
    # Buffers are equal in all processes without being sent; torch 2.13 has renamed the option.
    known = inspect.signature(DistributedDataParallel).parameters
    buffers: Any = {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}
    wrapped = DistributedDataParallel(module, gradient_as_bucket_view=True, **buffers)
    wrapped.register_comm_hook(processes, lambda processes, bucket: _all_reduce_sum(processes, bucket))
    return wrapped


def gradient_sync(module: nn.Module, enabled: bool) -> AbstractContextManager[object]:
    """Inside, a backward pass only adds up gradients in this process, unless enabled."""
    return nullcontext() if enabled or not isinstance(module, DistributedDataParallel) else module.no_sync()


def _all_reduce_sum(processes: ProcessGroup, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Sum a bucket of gradients. Not the mean, as by default: each loss is weighted by its fraction of the batch."""
    processes.count_all_reduce("gradients", bucket.buffer())
    if bucket.is_last():
        processes.clock.gradients_ready()
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None

    def summed(done: torch.futures.Future[list[Tensor]]) -> Tensor:
        processes.clock.gradients_summed()
        return done.value()[0]

    return work.get_future().then(summed)
