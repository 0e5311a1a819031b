"""Ctrl-C and SIGTERM while training: kept until the running step is done, so that a checkpoint can be written."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from alexnet.training.parallel.process_group import ProcessGroup

SIGNALS = (signal.SIGINT, signal.SIGTERM)

POLL_SECONDS = 2.0
"""While validating, the processes ask each other this often whether one of them got a signal."""

Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None
"""What `signal.signal` takes and returns."""


class StopSignal:
    """The signal that asked the run to stop."""

    def __init__(self) -> None:
        self.pending = 0
        """Its number, or 0."""

    @contextmanager
    def caught(self, *, repeatedly: bool) -> Iterator[None]:
        """Inside, SIGINT and SIGTERM only set `pending`.

        Args:
            repeatedly: whether a second signal does no more than the first. It should under a launcher, which passes on
                what the terminal has sent to all processes already; else, a second Ctrl-C ends the process. It also
                holds after an error: a launcher that notices a lost host sends SIGTERM while this process is still on
                its way to say so, and kills it soon enough if it never ends.
        """
        def remember(number: int, frame: FrameType | None) -> None:
            self.pending = number
            if not repeatedly:
                signal.signal(number, former[number])

        former: dict[int, Handler] = {}
        with suppress(ValueError):  # Python allows handlers in the main thread only
            former |= {number: signal.signal(number, remember) for number in SIGNALS}
        try:
            yield
        except BaseException:
            if not repeatedly:
                _restore(former)
            raise
        _restore(former)


class SignalPoll:
    """Lets all processes learn, every two seconds or so and at the same batch, that one of them got a signal."""

    def __init__(self, processes: ProcessGroup) -> None:
        self._processes = processes
        self._every = self._left = 1
        self._polled = time.monotonic()

    def stop_requested(self, pending: int) -> int:
        """Call it after each batch, equally often in every process. Returns the number of a signal, or 0.

        Args:
            pending: the signal that this process got, or 0.
        """
        if self._processes.size == 1:
            return pending
        self._left -= 1
        if self._left:
            return 0
        now = time.monotonic()
        # By the slowest process; at most four times as many batches as before, since the first ones may be slow.
        own = max(1, min(4 * self._every, int(self._every * POLL_SECONDS / max(now - self._polled, 1e-9))))
        stop, fewest = self._processes.largest(pending, -own)
        self._every = self._left = -fewest
        self._polled = now
        return stop


def _restore(handlers: dict[int, Handler]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
