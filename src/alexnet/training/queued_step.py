"""A training step whose result has not been read back from the device yet, and requests to the run meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from alexnet.data.loader import Batch


class QueuedStep(NamedTuple):
    """A queued step whose result has not been read back from the device yet."""

    step: int
    batch: Batch
    rate: float
    metrics: Tensor
    """Over all processes: mean loss, wrong predictions, how many got each of SIGNALS, and whether a save is due; with
    several processes and in logged steps, the `step_clock.own_times` of all."""
    began: float
    """When this process began to wait for the batch (time.perf_counter)."""
    waited: float
    """Seconds until it had it."""


@dataclass
class Requests:
    """What the run is asked to do between two steps, in all processes alike."""

    stop: int = 0
    """Number of a signal, or 0."""
    save: bool = False


def steps_behind(device: torch.device) -> int:
    """How many steps stay queued while the one before them is read back.

    Reading a loss waits for the GPU, so the loss of a step is read when the next step is queued, and the GPU always has
    work. A CPU has finished its step when the call returns.
    """
    return 1 if device.type == "cuda" else 0
