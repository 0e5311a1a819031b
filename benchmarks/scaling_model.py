"""What a training step sends between processes and how long it takes, worked out from `explain`'s numbers; no torch.

The counts are exact: `ProcessGroup.sent` counts the same bytes while training (five control numbers a step aside).
The times are a model, with three numbers for the machine; docs/scaling.md sets it against what was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from alexnet.architecture.arithmetic import Layer, explain
from alexnet.architecture.spec import Arch
from alexnet.training.parallel.plan import Parallel, ranges

Sent = dict[str, float]
"""Bytes by what they are: gradients, activities, statistics."""

FLOAT = 4


def sent(
    arch: Arch, images: int, processes: int, parallel: Parallel, *, rank: int = 0,
    value_bytes: int = FLOAT,
) -> Sent:
    """Bytes that one process sends in one step.

    images: of the global batch. value_bytes: of an activity, 4 in fp32 and 2 in bf16; gradients and statistics are
    fp32 always. A sum over processes goes round a ring, in which each sends its share of everything twice, less once
    its own: 2 (n - 1) / n of the bytes.
    """
    n = processes
    if n == 1:
        return {"gradients": 0.0, "activities": 0.0, "statistics": 0.0}
    ring = 2 * (n - 1) / n * FLOAT
    layers = explain(arch).layers
    dense = [layer for layer in layers if layer.name.startswith("fc")]
    trunk = layers[:layers.index(dense[0])]
    summed = {"data": layers, "towers": (), "hybrid": trunk}[parallel]
    own = len(range(rank, images, n))
    return {
        "gradients": ring * sum(layer.parameters for layer in summed),
        # Sums and sums of squares, forward and backward.
        "statistics": ring * 4 * sum(layer.output_shape[0] for layer in summed if layer.kind.startswith("batch")),
        "activities": float(value_bytes * {
            "data": lambda: 0,
            "towers": lambda: _towers(images, n, trunk, dense),
            "hybrid": lambda: _hybrid(images, own, n, rank, dense),
        }[parallel]()),
    }


def _towers(images: int, n: int, trunk: tuple[Layer, ...], dense: list[Layer]) -> int:
    """Values: a layer that sees both towers has the other's maps sent to it, and sends their gradients back."""
    seeing = [layer for layer in trunk if layer.name.startswith("conv") and layer.groups == 1 and layer.name != "conv1"]
    inputs = sum(math.prod(layer.input_shape) for layer in (*seeing, *dense))
    return images * (n - 1) * (2 * inputs + dense[-1].output_shape[0]) // n


def _hybrid(images: int, own: int, n: int, rank: int, dense: list[Layer]) -> int:
    """Values: one's images to the others and their gradients back, units and theirs, and logits."""
    others = n - 1
    first, classes = math.prod(dense[0].input_shape), dense[-1].output_shape[0]
    values = own * first * others + (images - own) * first
    for layer in dense[1:]:
        units = len(ranges(math.prod(layer.input_shape), n)[rank])
        values += images * (units * others + math.prod(layer.input_shape) - units)
    return values + images * len(ranges(classes, n)[rank]) * others + own * classes * others


# --- Time -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """One process's device and its way to the others."""

    name: str
    multiply_adds: float
    """A second, in training, as a whole step of one process has them."""
    bandwidth: float
    """Bytes a second that a process sends while the others do, too."""
    latency: float = 20e-6
    """Seconds from one process to the next."""


@dataclass(frozen=True)
class Step:
    """Predicted seconds."""

    computing: float
    sending: float

    @property
    def apart(self) -> float:
        """Where nothing is sent while something is computed."""
        return self.computing + self.sending

    @property
    def overlapped(self) -> float:
        """Where all is, as far as there is computing to hide it."""
        return max(self.computing, self.sending)


def step(
    arch: Arch, images: int, processes: int, parallel: Parallel, machine: Machine, *,
    value_bytes: int = FLOAT,
) -> Step:
    """How long a step of `images` takes on that many of such machines.

    Training is three forward passes' arithmetic, less conv1's gradient for the image, which nobody wants.
    """
    layers = explain(arch).layers
    all_of_it = 3 * sum(layer.multiply_adds for layer in layers) - layers[0].multiply_adds
    computing = images * all_of_it / processes / machine.multiply_adds
    moved = sum(sent(arch, images, processes, parallel, value_bytes=value_bytes).values())
    # A ring has 2 (n - 1) turns; a gathering sends n - 1 messages; each layer that speaks does so there and back.
    dense = sum(layer.name.startswith("fc") for layer in layers)
    turns = 2 * (processes - 1) * (1 if parallel == "data" else dense + 1)
    return Step(computing, moved / machine.bandwidth + turns * machine.latency)
