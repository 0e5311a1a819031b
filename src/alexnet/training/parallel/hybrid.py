"""Hybrid parallelism, "one weird trick" (arXiv 1404.5997): convolutions data-parallel, fully connected layers split.

Convolutions do nine tenths of the arithmetic with one twentieth of the weights, so each process has all of them and its
part of every batch. The fully connected layers are the other way round: each process has its part of their units and
computes them for the images of all processes. (Scheme (a) of §4 there: all images are sent at once.)
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor, nn

from alexnet.training.parallel.collectives import Gather, TakeOwnRows
from alexnet.training.parallel.data_parallel import gradient_sync, sum_gradients
from alexnet.training.parallel.strategy import Strategy, micro_batch_parts, rows_of


class Hybrid(Strategy):
    """The classifier is split by the partition plan; the convolutions are under DistributedDataParallel."""

    parallel = "hybrid"

    def prepare_layers(self) -> None:
        self.use_global_layers(self.network.features)
        self.use_global_layers(nn.Sequential(self.network.classifier[0]))  # dropout before the first layer, if any

    def wrap(self) -> nn.Module:
        return _HybridModule(self)

    @property
    def evaluated(self) -> nn.Module:
        return self.module

    @property
    def evaluates_together(self) -> bool:
        return True

    def start_micro_batch(self, batch_images: int, step: int, number: int = 0, count: int = 1) -> None:
        super().start_micro_batch(batch_images, step, number, count)
        # The classifier, where dropout is, sees the images of all processes, one process's after another's.
        parts = micro_batch_parts(batch_images, self.processes.size, number, count)
        self.batch.begin(step, np.concatenate([rows_of(rank, parts) for rank in range(len(parts))]), self.device)

    def gradient_sync(self, enabled: bool) -> AbstractContextManager[object]:
        return gradient_sync(self.module.trunk, enabled) if isinstance(self.module, _HybridModule) else super(
            ).gradient_sync(enabled)


class _HybridModule(nn.Module):
    """Views of this process's images -> their logits; the classifier sees the images of all processes."""

    def __init__(self, strategy: Hybrid) -> None:
        super().__init__()
        network = strategy.network
        self.processes, self.batch, self.network = strategy.processes, strategy.batch, network
        self.trunk = sum_gradients(nn.Sequential(network.features, network.avgpool, nn.Flatten()), strategy.processes)

    def train(self, mode: bool = True) -> _HybridModule:
        """Set the mode of the network, whose frozen layers stay in evaluation mode."""
        self.training = mode
        self.network.train(mode)
        return self

    def forward(self, pixels_NCHW: Tensor) -> Tensor:
        own_ND = self.trunk(pixels_NCHW)
        lengths = self.batch.images_per_process if self.training else self._image_counts(len(own_ND))
        all_ND = Gather.apply(own_ND, self.processes, 0, lengths, False)
        return TakeOwnRows.apply(self.network.classifier(all_ND), self.processes, lengths)

    def _image_counts(self, own: int) -> list[int]:
        """Images of each process in evaluation, where the strategy does not know the batches."""
        counts = torch.zeros(self.processes.size, dtype=torch.int64, device=self.processes.device)
        counts[self.processes.rank] = own
        return self.processes.all_reduce_sum(counts).tolist()
