"""`Strategy`: what the trainer asks of a network that several processes may share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from alexnet.inference.metrics import Errors
from alexnet.models.alexnet import AlexNet
from alexnet.training.parallel.layers import BatchSlice, CounterDropout, global_batch_norm
from alexnet.training.parallel.plan import Parallel, partition_plan
from alexnet.training.parallel.process_group import ProcessGroup
from alexnet.training.parallel.split_network import SplitNetwork, replace_layer


class Strategy(ABC):
    """A network that is shared among the processes, in place, on its device.

    Every strategy gives what one process gives but for rounding, since nothing in a step depends on the rank: an
    image's view is a function of its number, and dropout draws by its position in the global batch.

    Args:
        network: on the CPU, with the weights that training starts from.
        device: where it will train.
        freeze: layers that do not train, as in `Recipe.freeze`.
        micro_batch: images that a process trains on at a time; None: its whole part of a batch.
        seed: of the run, by which dropout draws.

    Raises:
        UserError: if the network cannot be shared in this way, or has no layer of a name in `freeze`.
    """

    parallel: Parallel = "data"

    def __init__(
        self, network: AlexNet, processes: ProcessGroup, device: torch.device, freeze: str = "",
        micro_batch: int | None = None, seed: int = 0,
    ) -> None:
        self.network, self.processes, self.device, self.micro_batch = network, processes, device, micro_batch
        self.batch = BatchSlice(seed=seed)
        plan = partition_plan(network.arch, self.parallel, processes.size)
        self.split_network = SplitNetwork(network, plan, processes, self.batch)
        self.prepare_layers()
        network.freeze(freeze)
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.module: nn.Module = self.wrap()
        """What a training step calls: views NCHW -> logits NK of the images that this process reads."""
        processes.close_at_exit(self)

    @abstractmethod
    def prepare_layers(self) -> None:
        """Replace layers that would differ from those of a single process. The network is on the CPU."""

    def wrap(self) -> nn.Module:
        """The module that a training step calls. The network is on its device, and frozen where it should be."""
        return self.network

    @property
    def evaluated(self) -> nn.Module:
        """What evaluation calls."""
        return self.network

    @property
    def evaluates_together(self) -> bool:
        """Whether processes exchange data while each evaluates its own images."""
        return False

    @property
    def batch_part(self) -> tuple[int, int]:
        """Which part of every batch this process reads: (rank, world) of `loader.batches`."""
        return self.processes.rank, self.processes.size

    @property
    def reports(self) -> bool:
        """Whether this process's counts and losses are added to those of the others."""
        return True

    def sum_errors(self, batches: Sequence[Errors]) -> Errors:
        """As `ProcessGroup.sum_errors`, of those processes that report."""
        return self.processes.sum_errors(batches if self.reports else [Errors()] * len(batches))

    def sum_counts(self, counts: Tensor) -> Tensor:
        """As `ProcessGroup.sum_counts`, of those processes that report."""
        return self.processes.sum_counts(counts if self.reports else torch.zeros_like(counts))

    def micro_batch_count(self, batch_images: int) -> int:
        """Micro-batches into which the largest part of a batch is cut."""
        part = len(range(0, batch_images, self.batch_part[1]))
        return -(-part // self.micro_batch) if self.micro_batch else 1

    def start_micro_batch(self, batch_images: int, step: int, number: int = 0, count: int = 1) -> None:
        """Tell the layers which images of the global batch come next: micro-batch `number` of `count`."""
        rank, size = self.batch_part
        parts = micro_batch_parts(batch_images, size, number, count)
        self.batch.images_per_process = tuple(map(len, parts))
        self.batch.begin(step, rows_of(rank, parts), self.device)

    def gradient_sync(self, enabled: bool) -> AbstractContextManager[object]:
        """Sum gradients over processes in the backward pass inside this context, or, if not enabled, only here."""
        return nullcontext()

    def close(self) -> None:
        """Let go of everything that holds the process group."""
        self.module = self.network

    def use_global_layers(self, layers: nn.Sequential) -> None:
        """Let dropout and batch normalization of these layers be those of the global batch."""
        for layer in list(layers):
            if isinstance(layer, nn.Dropout):
                number = list(self.network.classifier).index(layer)
                replace_layer(self.network, layer, CounterDropout(layer.p, self.batch, number))
            elif isinstance(layer, _BatchNorm) and self.processes.size > 1:
                replace_layer(
                    self.network, layer, global_batch_norm(layer, self.processes, self.batch, self.device))


def micro_batch_parts(batch_images: int, size: int, number: int, count: int) -> list[range]:
    """For each process, which of the images that it reads are in micro-batch `number` of `count`."""
    counts = [len(range(rank, batch_images, size)) for rank in range(size)]
    return [range(number * images // count, (number + 1) * images // count) for images in counts]


def rows_of(rank: int, parts: list[range]) -> NDArray[np.int64]:
    """Positions in the global batch: the i-th image of process `rank` stands at rank + i * size."""
    return rank + np.array(parts[rank], np.int64) * len(parts)
