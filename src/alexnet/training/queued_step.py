"""A training step whose result has not been read back from the device yet, and requests to the run meanwhile."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from alexnet._runtime.devices import to_device
from alexnet._runtime.readback import Readback
from alexnet.data.loader import Batch
from alexnet.training.parallel.process_group import ProcessGroup
from alexnet.training.parallel.step_clock import own_times
from alexnet.training.stop_signal import SIGNALS


class QueuedStep(NamedTuple):
    """A queued step whose result has not been read back from the device yet."""

    step: int
    batch: Batch
    rate: float
    results: Readback
    """Of `step_results`."""
    save_is_due: bool
    """In a single process."""
    began: float
    """When this process began to wait for the batch (time.perf_counter)."""
    waited: float
    """Seconds until it had it."""
    after: Readback | None = None
    """The results of the step before it, if that one was still in the queue."""

    def seconds(self) -> float:
        """How long the step took, once it has been read.

        Steps in the queue overlap: from the beginning of one to its reading, the device also does another. So the time
        between the ends of two such steps counts.
        """
        seconds = self.results.seconds_after(self.after) if self.after else None
        return time.perf_counter() - self.began if seconds is None else seconds


@dataclass
class Requests:
    """What the run is asked to do between two steps, in all processes alike."""

    stop: int = 0
    """Number of a signal, or 0."""
    save: bool = False

    def add(self, flags: Sequence[float]) -> None:
        """Take over what `step_results` summed: how many processes got each of SIGNALS, and whether a save is due."""
        *stops, due = flags
        self.stop = self.stop or next((int(number) for number, asked in zip(SIGNALS, stops, strict=True) if asked), 0)
        self.save = self.save or bool(due)


def step_results(
    loss: Tensor, wrong: Tensor, processes: ProcessGroup, *, signal: int, save: bool, timed: bool,
) -> Tensor:
    """A step's results over all processes, on the device. Nothing waits for it.

    With several processes also the requests to the run, so that all of them do the same, and, if `timed`, the
    `step_clock.own_times` of all. A single process need not send its requests to the device and back.

    Args:
        loss: this process's part of the batch's mean loss.
        wrong: its wrong predictions.
        processes: those that train together.
        signal: the signal that it got, or 0.
        save: whether it finds that a save is due.
        timed: whether the times of all processes are wanted after this step.

    Returns:
        The mean loss, the wrong predictions; for each of SIGNALS, how many processes got it; whether a save is due.
    """
    results = torch.stack([loss, wrong.float()])
    if processes.size == 1:
        return results
    own = [torch.tensor([*(float(signal == number) for number in SIGNALS), float(save)])]
    if timed:
        own.append(own_times(processes.clock, processes.rank, processes.size))
    summed = processes.all_reduce_sum(torch.cat([results, to_device(torch.cat(own), results.device)]))
    processes.clock.end_step()
    return summed


def steps_behind(device: torch.device) -> int:
    """How many steps stay queued while the one before them is read back.

    Reading a loss waits for its step, so it is read when the next step is queued, and the GPU always has work. A CPU
    has finished its step when the call returns.
    """
    return 1 if device.type == "cuda" else 0
