"""The memory of processes over time, and whether it is flat.

Memory is what a process has allocated (RssAnon). The shards that it maps are not part of it: the system takes these
pages back when it needs them. It is flat if it does not grow between the third and the last quarter of a process's
life; on a busy machine starting may take up the first two.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

GROWTH = 0.05
"""Memory is flat if it grows by at most this share, and some megabytes: a shard's labels, a checkpoint to be saved."""

STEP_SECONDS = 0.1
"""Between two samples of the memory."""


@dataclass
class Memory:
    """The memory of some processes over time, in bytes, of each a sample every STEP_SECONDS."""

    samples: dict[int, list[int]] = field(default_factory=dict)

    def growth(self) -> tuple[int, int]:
        """Of the process whose memory grew most from its third to its last quarter: both, by their medians."""
        both = []
        for samples in self.samples.values():
            quarter = max(1, len(samples) // 4)
            both.append((int(statistics.median(samples[-2 * quarter : -quarter] or samples)),
                         int(statistics.median(samples[-quarter:]))))
        return max(both, key=lambda pair: pair[1] - pair[0])

    def is_flat(self, slack_mb: int) -> bool:
        """Whether no process's memory grows by more than GROWTH and so many megabytes."""
        before, after = self.growth()
        return after <= (1 + GROWTH) * before + 1e6 * slack_mb

    def __str__(self) -> str:
        before, after = self.growth()
        return (f"memory {before / 1e6:,.0f} -> {after / 1e6:,.0f} MB, at most "
                f"{max(map(max, self.samples.values())) / 1e6:,.0f}")


@contextmanager
def repeated(sample: Callable[[], object], step_seconds: float) -> Iterator[None]:
    """Call a function in a thread of its own, again and again, while the context lasts."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(step_seconds):
            sample()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def watched(processes: Sequence[BaseProcess]) -> Iterator[Memory]:
    """Sample the memory of processes while they run."""
    memory = Memory({process.pid or 0: [] for process in processes})

    def sample() -> None:
        for pid, samples in memory.samples.items():
            if (used := allocated_bytes(pid)) is not None:
                samples.append(used)

    try:
        with repeated(sample, STEP_SECONDS):
            yield memory
    finally:
        memory.samples = {pid: samples for pid, samples in memory.samples.items() if samples}


def allocated_bytes(pid: int) -> int | None:
    """RssAnon; None of a process that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    line = next((line for line in status.splitlines() if line.startswith("RssAnon:")), None)
    return None if line is None else 1024 * int(line.split()[1])
