"""Threads that decode images: their memory has a budget, and clients take turns."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from alexnet._runtime.cpu_threads import lower_thread_priority
from alexnet.serving.fair_queue import FairQueue

Result = TypeVar("Result")


@dataclass(eq=False)
class _Job:
    """Work that waits for a thread.

    Attributes:
        memory: bytes that it takes at most.
        begun: set by the event loop when the job is given to a thread or is cancelled.
    """

    memory: int
    begun: asyncio.Future[None]


class DecodeThreads:
    """Threads with a budget of memory.

    No client uses all threads, if there are several: a thread is always free for a client that has nothing running.

    Attributes:
        count: threads.
        memory: bytes that all running jobs may take; a job that needs more runs alone.
    """

    def __init__(self, name: str, count: int, memory: int) -> None:
        self.count, self.memory = count, memory
        # Below the network's thread: another client's images must not take its time while it has a batch.
        self._pool = ThreadPoolExecutor(count, name, lower_thread_priority, (10,))
        self._waiting = FairQueue[_Job]()
        self._running = Counter[str]()
        self._used_memory = 0

    async def run(self, client: str, memory: int, work: Callable[[], Result]) -> Result:
        """Run the work in a thread when the client has its turn and the memory is there.

        If the caller is cancelled, work that has not begun is dropped. Work that has begun cannot be interrupted; then
        this returns when it ends, since its memory and the data that it reads are in use until then.
        """
        loop = asyncio.get_running_loop()
        job = _Job(memory, loop.create_future())
        self._waiting.add(client, job)
        self._begin()
        try:
            await job.begun
        except asyncio.CancelledError:
            if job.begun.cancelled():
                self._waiting.discard(client, job)
            else:  # cancelled between its turn and this task's next step
                self._end(client, memory)
            raise
        try:
            return await _uninterrupted(loop.run_in_executor(self._pool, work))
        finally:
            self._end(client, memory)

    def shutdown(self) -> None:
        """Stop the threads and drop what is queued."""
        self._pool.shutdown(cancel_futures=True)

    def _begin(self) -> None:
        """Give free threads to the clients whose turn it is."""
        while (client := self._next_client()) is not None:
            job = self._waiting.take(client)
            if not job.begun.cancelled():
                self._running[client] += 1
                self._used_memory += job.memory
                job.begun.set_result(None)

    def _end(self, client: str, memory: int) -> None:
        """Return a job's thread and memory."""
        self._running[client] -= 1
        self._running += Counter()  # drops clients with nothing running
        self._used_memory -= memory
        self._begin()

    def _next_client(self) -> str | None:
        if self._running.total() >= self.count:
            return None
        for client, job in self._waiting.heads():
            if self._running[client] < max(1, self.count - 1):
                fits = self._used_memory + job.memory <= self.memory or not self._running.total()
                return client if fits else None  # not another's smaller job: large ones would wait forever
        return None


async def _uninterrupted(future: asyncio.Future[Result]) -> Result:
    """Wait for a future to end, also when the waiting task is cancelled meanwhile, which is raised at the end."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled
    return future.result()
