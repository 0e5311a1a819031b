"""Write in a thread, and do not wait long: a slow disk must not keep a training step from its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

PATIENCE = 1.0
"""Seconds that a step waits for a write: a fraction of those after which other processes take this one for lost."""


class PatientWriter:
    """Does writes in order in a thread, and waits for each, but at most `PATIENCE` seconds.

    While one is late, those after it are queued and not waited for. They take little memory: lines of a log.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._pending: deque[Future[object]] = deque()

    def do(self, write: Callable[[], object]) -> None:
        """Do a write. Raises its error, or that of an earlier one that was late."""
        self._raise_errors()
        is_late = bool(self._pending)
        self._pending.append(self._thread.submit(write))
        if not is_late:
            wait(self._pending, PATIENCE)
            self._raise_errors()

    def wait(self) -> None:
        """Wait until all is written, however long that takes. Raises the error of a write."""
        while self._pending:
            self._pending.popleft().result()

    def _raise_errors(self) -> None:
        """Forget the writes that are done; raise the first error among them."""
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()
