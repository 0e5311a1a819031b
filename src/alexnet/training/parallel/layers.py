"""Dropout and batch normalization over the global batch, of which a process (or a micro-batch) holds a part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from alexnet.training.parallel.collectives import AllReduceSum
from alexnet.training.parallel.process_group import ProcessGroup


@dataclass
class BatchSlice:
    """Which images of the global batch a layer sees. The strategy sets it before each micro-batch."""

    step: int = 0
    """Number of the step, by which a layer recognizes the micro-batches of one batch."""
    batch_images: int = 0
    """Images in the global batch."""
    images_per_process: tuple[int, ...] = (0,)
    """Images in this micro-batch that each process reads."""
    rows: NDArray[np.int64] | None = None
    """Positions in the global batch of the images that dropout sees; None for all, in order."""


class GlobalDropout(nn.Dropout):
    """The mask that one process would draw for the global batch; of it, the rows and units that this process has.

    Args:
        p: probability of dropping a unit.
        batch: which images of the global batch are seen.
        units: which of the layer's units this process has.
        total: units of the whole layer; 0: as many as the input has.
    """

    def __init__(self, p: float, batch: BatchSlice, units: slice = slice(None), total: int = 0) -> None:
        super().__init__(p)
        self.batch, self.units, self.total = batch, units, total
        self.step, self.mask = -1, torch.empty(0)

    def forward(self, own_ND: Tensor) -> Tensor:
        if not self.training:
            return own_ND
        if self.step != self.batch.step:
            shape = self.batch.batch_images, self.total or own_ND.shape[1]
            mask = torch.empty(shape, dtype=own_ND.dtype, device=own_ND.device).bernoulli_(1 - self.p)
            self.step, self.mask = self.batch.step, mask[:, self.units].div_(1 - self.p)
        rows = self.batch.rows
        return own_ND * (self.mask if rows is None else self.mask[torch.from_numpy(rows).to(own_ND.device)])


class GlobalBatchNorm(_BatchNorm):
    """Batch normalization by the statistics of the global batch, whose images are spread over the processes.

    Not torch's SyncBatchNorm, which does not run on a CPU.
    """

    def __init__(self, layer: _BatchNorm, processes: ProcessGroup, batch: BatchSlice) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum)
        self.load_state_dict(layer.state_dict())
        self.processes, self.batch = processes, batch

    def _check_input_dim(self, maps: Tensor) -> None:
        pass

    def forward(self, maps: Tensor) -> Tensor:
        if not self.training:
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
            self.running_mean.lerp_(mean_C, self.momentum or 0.0)
            self.running_var.lerp_(variance_C * (count / max(1, count - 1)), self.momentum or 0.0)
        scale_C = self.weight * (variance_C + self.eps).rsqrt()
        return (centered * scale_C.view(per_map) + self.bias.view(per_map)).to(maps.dtype)
