"""Dropout and batch normalization over the global batch, of which a process (or a micro-batch) holds a part."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from alexnet._runtime import kernels
from alexnet._runtime.devices import to_device
from alexnet._runtime.philox import Draw, counter_words, keep_mask
from alexnet.training.parallel.collectives import AllReduceSum
from alexnet.training.parallel.process_group import ProcessGroup


@dataclass
class BatchSlice:
    """Which images of the global batch a layer sees. The strategy sets it before each micro-batch."""

    step: int = 0
    """Number of the step, by which dropout draws."""
    images_per_process: tuple[int, ...] = (0,)
    """Images in this micro-batch that each process reads."""
    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Positions in the global batch of the images that dropout sees."""
    seed: int = 0
    """Of the run, by which dropout draws."""
    counter: Tensor | None = None
    """`counter_words` of seed, step and rows, on the device. A CUDA graph reads them there when it is replayed."""

    def begin(self, step: int, rows_N: NDArray[np.int64], device: torch.device) -> None:
        """Begin a micro-batch."""
        self.step, self.rows = step, rows_N
        self.counter = to_device(counter_words(self.seed, step, rows_N), device)


class CounterDropout(nn.Dropout):
    """Dropout that draws each unit by its number and the image's position in the global batch.

    A process, or a micro-batch, draws for its own images and units only what one process draws for them: each unit's
    random number is a function of (seed, step, layer, image, unit). No mask is kept for the backward pass.

    Args:
        p: probability of dropping a unit.
        batch: which images of the global batch are seen.
        layer: number of this layer in the classifier.
        first_unit: number of the first unit that this process has.
    """

    def __init__(self, p: float, batch: BatchSlice, layer: int, first_unit: int = 0) -> None:
        super().__init__(p)
        self.batch, self.layer, self.first_unit = batch, layer, first_unit

    def forward(self, own_ND: Tensor) -> Tensor:
        if not self.training:
            return own_ND
        draw = Draw(self.p, self.batch.seed, self.batch.step, self.layer)
        assert len(self.batch.rows) == len(own_ND), "the strategy has not been told of this micro-batch"
        return _Dropout.apply(own_ND, self.batch.rows, draw, self.first_unit, self.batch.counter)


class _Dropout(torch.autograd.Function):
    """The same operation forward and backward."""

    @staticmethod
    def forward(
        ctx: Any, own_ND: Tensor, rows_N: NDArray[np.int64], draw: Draw, first_unit: int, counter: Tensor | None,
    ) -> Tensor:
        ctx.arguments = rows_N, draw, first_unit, counter
        return dropped(own_ND, *ctx.arguments)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient_ND: Tensor) -> tuple[Tensor, None, None, None, None]:
        return dropped(gradient_ND, *ctx.arguments), None, None, None, None


def dropped(
    own_ND: Tensor, rows_N: NDArray[np.int64], draw: Draw, first_unit: int, counter: Tensor | None = None,
) -> Tensor:
    """`kernels.dropout`, or the same without a kernel."""
    if kernels.supports_dropout(own_ND):
        return kernels.dropout(own_ND, rows_N, draw, first_unit, counter)
    keep_ND = torch.from_numpy(keep_mask(rows_N, range(first_unit, first_unit + own_ND.shape[1]), draw))
    wide = torch.promote_types(own_ND.dtype, torch.float32)
    return (own_ND.to(wide) * (keep_ND.to(own_ND.device, wide) * draw.scale)).to(own_ND.dtype)


class GlobalBatchNorm(_BatchNorm):
    """Batch normalization by the statistics of the global batch, whose images are spread over the processes; for CPUs.

    With a momentum of None it is that of the images it is given: for `reestimate_batch_norm`, which each process calls
    with the same images.
    """

    def __init__(self, layer: _BatchNorm, processes: ProcessGroup, batch: BatchSlice) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum)
        self.load_state_dict(layer.state_dict())
        self.processes, self.batch = processes, batch

    def _check_input_dim(self, maps: Tensor) -> None:
        pass

    def forward(self, maps: Tensor) -> Tensor:
        if not self.training or self.momentum is None:
            return super().forward(maps)
        wide = maps.float()
        reduced_dims = [dim for dim in range(maps.ndim) if dim != 1]
        per_map = (1, -1, *[1] * (maps.ndim - 2))
        count = sum(self.batch.images_per_process) * maps[0, 0].numel()
        mean_C = AllReduceSum.apply(wide.sum(reduced_dims), self.processes) / count
        centered = wide - mean_C.view(per_map)
        variance_C = AllReduceSum.apply(centered.square().sum(reduced_dims), self.processes) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean_C, self.momentum)
            self.running_var.lerp_(variance_C * (count / max(1, count - 1)), self.momentum)
        scale_C = self.weight * (variance_C + self.eps).rsqrt()
        return (centered * scale_C.view(per_map) + self.bias.view(per_map)).to(maps.dtype)


class CudaGlobalBatchNorm(nn.SyncBatchNorm):
    """The same on CUDA: torch's own, whose kernels are fused, with one exchange forward and one backward."""

    def __init__(self, layer: _BatchNorm, processes: ProcessGroup) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum)
        self.load_state_dict(layer.state_dict())
        self.processes = processes

    def forward(self, maps: Tensor) -> Tensor:
        if not self.training or self.momentum is None:
            return _BatchNorm.forward(self, maps)
        others, size = self.processes.size - 1, self.processes.size
        # Forward, every process receives mean, deviation and count of each; backward, two sums go around a ring.
        numbers = others * (2 * self.num_features + 1) + 2 * others / size * 2 * self.num_features
        self.processes.sent["statistics"] += numbers * torch.float32.itemsize
        return super().forward(maps)

    def _check_input_dim(self, maps: Tensor) -> None:
        pass


def global_batch_norm(
    layer: _BatchNorm, processes: ProcessGroup, batch: BatchSlice, device: torch.device,
) -> GlobalBatchNorm | CudaGlobalBatchNorm:
    """A layer with the weights and statistics of `layer`, for several processes whose devices are of this kind."""
    if device.type == "cuda":
        return CudaGlobalBatchNorm(layer, processes)
    return GlobalBatchNorm(layer, processes, batch)
