"""Save checkpoints in a background thread, so that training does not wait for the disk."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from alexnet._runtime.readback import begin_copies
from alexnet.models.checkpoint import Checkpoint, save


class Saver:
    """Saves checkpoints in a background thread: training waits for a copy of the tensors, and not for the disk.

    From a GPU it does not wait for the copy either: the thread does.

    An error of a save is raised by the next `save`, or by `wait`.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="saver")
        self._pending: deque[Future[None]] = deque()

    def save(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Copy the tensors and queue a save of them; at most two saves are pending."""
        while self._pending and (len(self._pending) > 1 or self._pending[0].done()):
            self._pending.popleft().result()

        weights, velocity, raw_weights = map(
            begin_copies, (checkpoint.weights, checkpoint.velocity, checkpoint.raw_weights))

        def save_copies() -> None:
            save(replace(checkpoint, weights=weights(), velocity=velocity(), raw_weights=raw_weights()), folder)

        self._pending.append(self._thread.submit(save_copies))

    def wait(self) -> None:
        """Wait until every queued save is on the disk."""
        while self._pending:
            self._pending.popleft().result()
