"""Save checkpoints in a background thread, so that training does not wait for the disk."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from alexnet.models.checkpoint import Checkpoint, save


class Saver:
    """Saves checkpoints in a background thread: training waits for a copy of the tensors, and not for the disk.

    An error of a save is raised by the next `save`, or by `wait`.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="saver")
        self._pending: deque[Future[None]] = deque()

    def save(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Copy the tensors and queue a save of them; at most two saves are pending."""
        while self._pending and (len(self._pending) > 1 or self._pending[0].done()):
            self._pending.popleft().result()

        def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {key: tensor.detach().to("cpu", copy=True) for key, tensor in tensors.items()}

        snapshot = replace(checkpoint, weights=copied(checkpoint.weights), velocity=copied(checkpoint.velocity),
                           raw_weights=copied(checkpoint.raw_weights))
        self._pending.append(self._thread.submit(save, snapshot, folder))

    def wait(self) -> None:
        """Wait until every queued save is on the disk."""
        while self._pending:
            self._pending.popleft().result()
