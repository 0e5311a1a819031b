"""One process trains the whole network, if need be in micro-batches."""

from __future__ import annotations

from alexnet.training.parallel.strategy import Strategy


class SingleProcess(Strategy):
    """The network as it is, with dropout's random numbers as several processes draw them."""

    def prepare_layers(self) -> None:
        self.use_global_layers(self.network.classifier)
