"""Straggler detection: how long each process works in a step, and how long it waits for the others.

In a synchronous step all processes take equally long: the slowest process computes while the others wait for it in a
collective operation. So the time in these operations is measured, on CUDA by events on the device, which hold nothing
up. Every few steps the processes add their times to a sum that they make anyway (`Trainer`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypedDict

import torch
from torch import Tensor


class SlowestRank(TypedDict, total=False):
    """The slowest process of the steps since the last report; empty without one. Seconds are means over these steps."""

    slowest_rank: int
    slowest_rank_seconds: float
    """What it worked in a step: waited for images, computed, updated."""
    slowest_rank_waiting: float
    """What it waited in a step for the sums of gradients and for other processes: the time that sending takes."""
    others_waiting: float
    """What the other processes waited in a step, on average."""


Mark = float | torch.cuda.Event
"""A moment: `time.perf_counter`, or an event in a queue of the GPU."""


@dataclass
class _Step:
    """A step between two marks, and the waits in it."""

    begin: Mark
    end: Mark
    waits: list[tuple[Mark, Mark]]

    def is_over(self) -> bool:
        return isinstance(self.end, float) or self.end.query()


@dataclass
class StepClock:
    """Times the steps of this process. It runs inside `running` only.

    Args:
        device: of the process.
        enabled: whether there are other processes; a single one keeps no times, which nobody would take.
    """

    device: torch.device
    enabled: bool = True
    _begin: Mark | None = None
    _waits: list[tuple[Mark, Mark]] = field(default_factory=list)
    _gradients_ready: Mark | None = None
    _gradients_summed: Mark | None = None
    _steps: deque[_Step] = field(default_factory=deque)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time the steps in this context."""
        self.restart()
        try:
            yield
        finally:
            self._begin = None

    def restart(self) -> None:
        """Let the step begin now: what was before it belongs to no step."""
        if self.enabled:
            self._begin, self._waits = self._mark(), []

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count this context, a collective operation, as waiting."""
        begin = self._mark() if self._begin is not None else None
        yield
        if begin is not None:
            self._waits.append((begin, self._mark()))

    def gradients_ready(self) -> None:
        """Call when this process has all gradients of a step, before it hands over the last ones to be summed."""
        self._gradients_ready = self._mark()

    def gradients_summed(self) -> None:
        """Call whenever some gradients are summed; the last call counts."""
        self._gradients_summed = self._mark()

    def end_step(self) -> None:
        """Call after the last collective operation of a step."""
        if self._begin is None:
            return
        if self._gradients_ready is not None and self._gradients_summed is not None:
            self._waits.append((self._gradients_ready, self._gradients_summed))
        end = self._mark()
        self._steps.append(_Step(self._begin, end, self._waits))
        self._begin, self._waits, self._gradients_ready, self._gradients_summed = end, [], None, None

    def take(self) -> tuple[float, float]:
        """Mean seconds that this process worked and waited, over the steps since the last call that are over."""
        worked = waited = 0.0
        count = 0
        while self._steps and self._steps[0].is_over():
            step = self._steps.popleft()
            waits = sum(_seconds(begin, end) for begin, end in step.waits)
            worked, waited, count = worked + _seconds(step.begin, step.end) - waits, waited + waits, count + 1
        return worked / max(1, count), waited / max(1, count)

    def _mark(self) -> Mark:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _seconds(begin: Mark, end: Mark) -> float:
    if isinstance(begin, float) or isinstance(end, float):
        assert isinstance(begin, float)
        assert isinstance(end, float)
        return max(0.0, end - begin)
    return max(0.0, begin.elapsed_time(end) / 1000)


def own_times(clock: StepClock, rank: int, size: int) -> Tensor:
    """What this process adds to a sum over processes that then has the times of all: [2 * size]."""
    times_R2 = torch.zeros(size, 2)
    times_R2[rank] = torch.tensor(clock.take())
    return times_R2.flatten()


def slowest_rank(times: Sequence[float]) -> SlowestRank:
    """The slowest process, by the sum of all `own_times`; nothing if there is none, or no step was timed."""
    worked, waited = times[::2], times[1::2]
    if not any(worked):
        return {}
    slowest = max(range(len(worked)), key=worked.__getitem__)
    others = [*waited[:slowest], *waited[slowest + 1:]]
    return {"slowest_rank": slowest, "slowest_rank_seconds": worked[slowest], "slowest_rank_waiting": waited[slowest],
            "others_waiting": sum(others) / len(others)}
