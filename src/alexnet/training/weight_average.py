"""Exponential moving average (EMA) of a network's weights (`Recipe.ema_decay`), swapped in for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The moving average of a network's weights and batch statistics, or of this process's part of them.

    Args:
        network: on its device. The average starts as a copy of its tensors.
        decay: share of the old average in the new one, once enough steps are done.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._in_network = network.state_dict()
        """The tensors in the network: the weights that are trained, or, inside `swapped`, their average."""
        self._aside = {key: tensor.clone() for key, tensor in self._in_network.items()}
        """The others."""
        self._swapped = False

    @property
    def average(self) -> dict[str, Tensor]:
        """The average, by key of the state dict."""
        return self._in_network if self._swapped else self._aside

    @property
    def trained(self) -> dict[str, Tensor]:
        """The weights that are trained."""
        return self._aside if self._swapped else self._in_network

    def load(self, average: Mapping[str, Tensor]) -> None:
        """Go on with the average of a checkpoint."""
        for key, tensor in self.average.items():
            tensor.copy_(average[key])

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after a step into the average.

        Args:
            step: steps taken. The first averages span few steps: the decay is at most (1 + step) / (10 + step), as in
                TensorFlow, so that the random initial weights are soon forgotten.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        pairs = [(average, self.trained[key]) for key, average in self.average.items()]
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([average for average, _ in floats], [weight for _, weight in floats], 1 - decay)
        for average, weight in pairs:
            if not average.is_floating_point():  # batch normalization's count of batches
                average.copy_(weight)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the network computes with the average."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for key, tensor in self._in_network.items():
            kept = tensor.clone()
            tensor.copy_(self._aside[key])
            self._aside[key].copy_(kept)
        self._swapped = not self._swapped
