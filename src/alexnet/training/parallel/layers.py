"""Dropout and batch normalization over the global batch, when each process holds a share of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet.training.parallel.collectives import Sum
from alexnet.training.parallel.process_group import ProcessGroup

# --- Layers that know of the others -----------------------------------------------------------------------------------


@dataclass
class BatchSlice:
    """Which images of the global batch a layer has before it."""

    images: int = 0
    """In the global batch."""
    rows: NDArray[np.int64] | None = None
    """Their places in it; None for all, in order."""
    rows_together: int = 0
    """How many all processes have before them: those that batch normalization's statistics are of."""
    step: int = 0
    """Counts up, so that a layer which sees one batch in parts knows that it is the same."""


class Dropout(nn.Dropout):
    """The mask that one process would draw for the global batch, and of it the rows and units that are here."""

    def __init__(self, p: float, sight: BatchSlice, units: slice = slice(None), of: int = 0) -> None:
        super().__init__(p)
        self.sight, self.units, self.of = sight, units, of
        self.step, self.mask = -1, torch.empty(0)

    def forward(self, own_ND: Tensor) -> Tensor:
        if not self.training:
            return own_ND
        sight = self.sight
        if self.step != sight.step:
            shape = sight.images, self.of or own_ND.shape[1]
            mask = torch.empty(shape, dtype=own_ND.dtype, device=own_ND.device).bernoulli_(1 - self.p)
            self.step, self.mask = sight.step, mask[:, self.units].div_(1 - self.p)
        mask = self.mask if sight.rows is None else self.mask[torch.from_numpy(sight.rows).to(own_ND.device)]
        return own_ND * mask


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalization by the statistics of the global batch, whose images are spread over the processes."""

    def __init__(self, layer: nn.modules.batchnorm._BatchNorm, world: ProcessGroup, sight: BatchSlice) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum)
        self.load_state_dict(layer.state_dict())
        self.world, self.sight = world, sight

    def _check_input_dim(self, maps: Tensor) -> None:
        pass

    def forward(self, maps: Tensor) -> Tensor:
        if not self.training:
            return super().forward(maps)
        wide = maps.float()
        others = [dim for dim in range(maps.ndim) if dim != 1]
        across = (1, -1, *[1] * (maps.ndim - 2))
        count = self.sight.rows_together * maps[0, 0].numel()
        mean_C = Sum.apply(wide.sum(others), self.world) / count
        apart = wide - mean_C.view(across)
        variance_C = Sum.apply(apart.square().sum(others), self.world) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean_C, self.momentum or 0.0)
            self.running_var.lerp_(variance_C * (count / max(1, count - 1)), self.momentum or 0.0)
        scale_C = self.weight * (variance_C + self.eps).rsqrt()
        return (apart * scale_C.view(across) + self.bias.view(across)).to(maps.dtype)
