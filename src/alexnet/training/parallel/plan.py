"""The partition plan: which part of which layer each process holds, worked out from the `Arch` alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from alexnet.architecture.arithmetic import explain
from alexnet.architecture.spec import Arch
from alexnet.errors import UserError

Parallel = Literal["data", "towers", "hybrid"]
"""How several processes share a network."""

Ranges = tuple[range, ...]
"""One range for each process, in the order of ranks; together they cover a dimension."""


@dataclass(frozen=True)
class PartitionPlan:
    """How a network is split. A layer that is in neither dictionary is whole in every process."""

    outputs: dict[str, Ranges] = field(default_factory=dict)
    """Layer -> the outputs (maps or units) that each process computes: rows of its tensors, along dimension 0."""
    inputs: dict[str, Ranges] = field(default_factory=dict)
    """Layer that needs the outputs of all processes -> which of its inputs each process contributes before it."""


def partition_plan(arch: Arch, parallel: Parallel, size: int) -> PartitionPlan:
    """Split a network among `size` processes.

    Returns:
        `data`: an empty plan. `towers`: every layer is split. `hybrid`: the fully connected layers are split.

    Raises:
        UserError: if this network cannot be split in this way among `size` processes.
    """
    _check(arch, parallel, size)
    plan = PartitionPlan()
    if parallel == "data":
        return plan
    layers = explain(arch).layers
    first_dense = next(number for number, layer in enumerate(layers) if layer.name.startswith("fc"))
    for number, layer in enumerate(layers):
        if parallel == "hybrid" and number < first_dense:
            continue
        # conv1 reads the image; in `hybrid`, the strategy gathers the inputs of the first fully connected layer.
        needs_exchange = not (layer.groups > 1 or layer.name == "conv1" or (
            parallel == "hybrid" and number == first_dense))
        if layer.name.startswith(("conv", "fc", "norm")):
            plan.outputs[layer.name] = ranges(layer.output_shape[0], size)
        elif layer.name.startswith("dropout"):
            plan.outputs[layer.name] = ranges(math.prod(layer.output_shape), size)
        if layer.name.startswith("conv") and needs_exchange:
            plan.inputs[layer.name] = ranges(layer.input_shape[0], size)
        elif layer.name.startswith("fc") and needs_exchange:
            plan.inputs[layer.name] = ranges(math.prod(layer.input_shape), size)
    return plan


def ranges(total: int, size: int) -> Ranges:
    """Split 0..total as `torch.chunk` does: equal parts, rounded up; the last ones are shorter or empty."""
    part = -(-total // size)
    return tuple(range(min(rank * part, total), min((rank + 1) * part, total)) for rank in range(size))


def _check(arch: Arch, parallel: Parallel, size: int) -> None:
    if parallel != "data" and size == 1:
        raise UserError(f"--parallel {parallel} needs several processes, and this is one",
                        "write: torchrun --nproc-per-node 2 -m alexnet train ..., or leave out --parallel")
    if parallel != "towers":
        return
    if arch.towers == 1:
        raise UserError(f"--parallel towers needs a network of several towers, and {arch.name} has one",
                        "give --arch paper, or --parallel data")
    if arch.towers != size:
        raise UserError(f"--parallel towers gives each process one tower, and {arch.name} has {arch.towers} towers "
                        f"while there are {size} processes", f"start {arch.towers} processes, or give --parallel data")
    if arch.norm == "lrn" and not arch.lrn.within_tower and any("norm" in conv.post_ops for conv in arch.conv):
        raise UserError(f"{arch.name} normalizes across its towers, which would send every map to every process",
                        "add --set arch.lrn.within_tower=true, or give --parallel data")
    for number, conv in enumerate(arch.conv, 1):
        if conv.width % size:
            raise UserError(f"conv{number} of {arch.name} has {conv.width} maps, which {size} towers cannot share "
                            "equally", f"set arch.conv{number}.width to a multiple of {size}, or give --parallel data")
