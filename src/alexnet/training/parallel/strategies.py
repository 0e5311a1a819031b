"""`parallelize`: the strategy by its name."""

from __future__ import annotations

import torch

from alexnet.models.alexnet import AlexNet
from alexnet.training.parallel.data_parallel import DataParallel
from alexnet.training.parallel.hybrid import Hybrid
from alexnet.training.parallel.plan import Parallel
from alexnet.training.parallel.process_group import ProcessGroup
from alexnet.training.parallel.single import SingleProcess
from alexnet.training.parallel.strategy import Strategy
from alexnet.training.parallel.towers import Towers


def parallelize(
    network: AlexNet, parallel: Parallel, processes: ProcessGroup, device: torch.device, *, freeze: str = "",
    micro_batch: int | None = None, seed: int = 0,
) -> Strategy:
    """Share a network among the processes, in place, and move it to its device. Arguments as for `Strategy`."""
    kinds: dict[Parallel, type[Strategy]] = {"data": DataParallel, "towers": Towers, "hybrid": Hybrid}
    kind = SingleProcess if processes.size == 1 and parallel == "data" else kinds[parallel]
    return kind(network, processes, device, freeze, micro_batch, seed)
