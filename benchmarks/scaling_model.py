"""A model of data, tower and hybrid parallelism: bytes sent in a training step, and its time; no torch.

The counts are exact between CPUs: `ProcessGroup.sent` counts the same bytes during training, but for the control
numbers: five a step, and two more for each process in every tenth step. Between GPUs the statistics of batch
normalization are exchanged in another way (`layers.CudaGlobalBatchNorm`), and blocks of unequal length are filled up.
The times are a model with four numbers for a machine; docs/scaling.md compares it with measurements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from alexnet.architecture.arithmetic import Layer, explain
from alexnet.architecture.spec import Arch
from alexnet.training.parallel.plan import Parallel, ranges

Sent = dict[str, float]
"""Bytes by kind: gradients, activations, statistics."""

FLOAT = 4


def sent(
    arch: Arch, images: int, processes: int, parallel: Parallel, *, rank: int = 0,
    value_bytes: int = FLOAT,
) -> Sent:
    """Bytes that one process sends in one step.

    An all-reduce runs around a ring, in which each process sends 2 (n - 1) / n of the bytes.

    Args:
        images: Size of the global batch.
        value_bytes: Bytes of an activation: 4 in fp32, 2 in bf16. Gradients and statistics are always fp32.
    """
    n = processes
    if n == 1:
        return {"gradients": 0.0, "activations": 0.0, "statistics": 0.0}
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
        "activations": float(value_bytes * {
            "data": lambda: 0,
            "towers": lambda: _towers(images, n, trunk, dense),
            "hybrid": lambda: _hybrid(images, own, n, rank, dense),
        }[parallel]()),
    }


def _towers(images: int, n: int, trunk: tuple[Layer, ...], dense: list[Layer]) -> int:
    """Values sent by a tower: the inputs of layers that see both towers, and the gradients of those inputs."""
    connected = [layer for layer in trunk
                 if layer.name.startswith("conv") and layer.groups == 1 and layer.name != "conv1"]
    inputs = sum(math.prod(layer.input_shape) for layer in (*connected, *dense))
    return images * (n - 1) * (2 * inputs + dense[-1].output_shape[0]) // n


def _hybrid(images: int, own: int, n: int, rank: int, dense: list[Layer]) -> int:
    """Values sent by a process: its images' features and their gradients, hidden units and theirs, logits."""
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
    """A process's device, and its connection to the other processes."""

    name: str
    multiply_adds: float
    """Per second, measured as a whole training step of one process."""
    bandwidth: float
    """Bytes per second that a process sends while all others send too."""
    latency: float = 20e-6
    """Seconds of a message between two processes."""
    images_per_second: float = math.inf
    """That a process's loader reads, while all others read too."""


@dataclass(frozen=True)
class Step:
    """Predicted seconds of a training step."""

    computing: float
    sending: float
    reading: float = 0.0
    """Of the images. Threads read ahead, so a step takes longer only if this takes longer than all else."""

    @property
    def sequential(self) -> float:
        """Time of a step that never sends while it computes."""
        return max(self.computing + self.sending, self.reading)

    @property
    def overlapped(self) -> float:
        """Time of a step that sends while it computes, as far as possible."""
        return max(self.computing, self.sending, self.reading)

    @property
    def bound(self) -> str:
        """What takes longest of an overlapped step: computing, sending or reading."""
        return max(("computing", "sending", "reading"), key=lambda what: getattr(self, what))


def step(
    arch: Arch, images: int, processes: int, parallel: Parallel, machine: Machine, *,
    value_bytes: int = FLOAT,
) -> Step:
    """Predict the time of a step.

    Training costs three times the multiply-adds of a forward pass, minus conv1's input gradient, which is not needed.
    """
    layers = explain(arch).layers
    multiply_adds = 3 * sum(layer.multiply_adds for layer in layers) - layers[0].multiply_adds
    computing = images * multiply_adds / processes / machine.multiply_adds
    readers = 1 if parallel == "towers" else processes  # each of two towers reads all images
    reading = images / readers / machine.images_per_second
    moved = sum(sent(arch, images, processes, parallel, value_bytes=value_bytes).values())
    # A ring all-reduce has 2 (n - 1) rounds. A gather sends n - 1 messages, forward and backward for each layer.
    dense = sum(layer.name.startswith("fc") for layer in layers)
    rounds = 2 * (processes - 1) * (1 if parallel == "data" else dense + 1)
    return Step(computing, moved / machine.bandwidth + rounds * machine.latency, reading)
