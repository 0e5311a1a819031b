"""Ctrl-C and SIGTERM while training: kept until the running step is done, so that a checkpoint can be written."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

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


def _restore(handlers: dict[int, Handler]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
