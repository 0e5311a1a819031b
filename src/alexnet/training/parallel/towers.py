"""The paper's two GPUs (§3.5): each process has one tower and the whole of every batch.

The processes exchange activations before the layers that see both towers: conv3 and the fully connected layers.
"""

from __future__ import annotations

from alexnet.training.parallel.strategy import Strategy


class Towers(Strategy):
    """Every layer is split by the partition plan; all processes read the same images."""

    parallel = "towers"

    def prepare_layers(self) -> None:
        pass

    @property
    def batch_part(self) -> tuple[int, int]:
        return 0, 1

    @property
    def reports(self) -> bool:
        return self.processes.first
