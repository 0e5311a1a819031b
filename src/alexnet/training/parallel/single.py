"""One process trains the whole network, if need be in micro-batches."""

from __future__ import annotations

from alexnet.training.parallel.strategy import Strategy


class SingleProcess(Strategy):
    """The network as it is. With micro-batches, dropout draws one mask for the whole batch."""

    def prepare_layers(self) -> None:
        if self.micro_batch:
            self.use_global_layers(self.network.classifier)
