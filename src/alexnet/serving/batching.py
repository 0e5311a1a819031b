"""Images of many requests -> batches for one network, and each answer to whom it belongs. Knows nothing of HTTP.

A network answers 32 images in a few times what it takes for one, so those that wait together go through it
together. An idle network waits a few milliseconds for company; a busy one takes whatever has come meanwhile. Answers
come in the order of the questions. Who would have to wait too long is turned away at once (`Overloaded`): the wait is
worked out of all that is inside, and of what each kind of work took lately.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime.cpu_threads import lower_thread_priority

T = TypeVar("T")

Answer = Callable[[NDArray[np.uint8], int], Sequence[Any]]
"""uint8 [N, side, side, 3] and the number of views (1 or 10) -> what is said to each of N."""


class Overloaded(Exception):
    """More images are waiting than can be answered in the time that is set."""


@dataclass
class Work:
    """One kind of work: how many pieces of it are inside, and the seconds that one took lately."""

    inside: int = 0
    seconds_each: float = 0.0

    @contextlib.contextmanager
    def timed(self, pieces: float = 1) -> Iterator[None]:
        """So long as this lasts, so many pieces take together."""
        began = time.monotonic()
        try:
            yield
        finally:
            each = (time.monotonic() - began) / pieces
            # One that the system has kept waiting says little of the next; several do.
            each = min(each, 4 * self.seconds_each) if self.seconds_each else each
            self.seconds_each += (0.2 if self.seconds_each else 1.0) * (each - self.seconds_each)


class DynamicBatcher:
    """Batches for one network, which answers in a thread of its own.

    most: images in a batch, of one view each; of ten views a tenth as many.
    linger: seconds that an idle network waits for company.
    patience: seconds of work inside beyond which nobody is let in.
    on_batch: told the size of each batch.
    """

    def __init__(self, answer: Answer, *, most: int = 32, max_delay: float = 0.003, patience: float = 1.0,
                 on_batch: Callable[[int], object] = lambda size: None) -> None:
        self.answer, self.most, self.max_delay, self.patience, self.on_batch = answer, most, max_delay, patience, on_batch
        self.decodes, self.views, self.others = Work(), Work(), Work()
        """Images, whose decoding whoever asks has to time; views of them; and what is done `alone`."""
        self._waiting: deque[tuple[NDArray[np.uint8], int, asyncio.Future[Any]]] = deque()
        self._something = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "network", lower_thread_priority)

    def forget(self) -> None:
        """What each kind of work took so far."""
        for work in (self.decodes, self.views, self.others):
            work.seconds_each = 0.0

    async def rehearse(self, images: Sequence[NDArray[np.uint8]], views: int) -> None:
        """A batch that nobody asked for, to see how long one takes."""
        await self._in_thread(self._answer, list(images), views)

    @contextlib.contextmanager
    def admitted(self, images: int, views: int = 0, others: int = 0) -> Iterator[None]:
        """Counted among those inside while their answer is worked out. Raises Crowded where the wait would be long.

        Whoever finds nobody inside is let in, however slow the network is.
        """
        asked = ((self.decodes, images), (self.views, views), (self.others, others))
        wait = sum((work.inside + more) * work.seconds_each for work, more in asked)
        if self.decodes.inside and wait > self.patience:
            raise Overloaded
        for work, more in asked:
            work.inside += more
        try:
            yield
        finally:
            for work, more in asked:
                work.inside -= more

    async def ask(self, images: Sequence[NDArray[np.uint8]], views: int = 1) -> list[Any]:
        """What the network says to each, in order."""
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in images]
        self._waiting.extend((pixels, views, future) for pixels, future in zip(images, futures, strict=True))
        self._something.set()
        return await asyncio.gather(*futures)

    async def alone(self, work: Callable[[], T]) -> T:
        """Something else done with the network, between two batches."""

        def timed() -> T:
            with self.others.timed():
                return work()

        return await self._in_thread(timed)

    def _answer(self, images: list[NDArray[np.uint8]], views: int) -> Sequence[Any]:
        with self.views.timed(len(images) * views):
            return self.answer(np.stack(images), views)

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While this lasts, what is asked gets answered."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._thread.shutdown()

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                self._something.clear()
                await self._something.wait()
                await asyncio.sleep(self.max_delay)
            batch = self._next()
            try:
                said = await self._in_thread(self._answer, [pixels for pixels, _, _ in batch], batch[0][1])
            except Exception as problem:
                for _, _, future in batch:
                    if not future.done():  # whoever asked may have gone
                        future.set_exception(problem)
                continue
            self.on_batch(len(batch))
            for (_, _, future), one in zip(batch, said, strict=True):
                if not future.done():
                    future.set_result(one)

    def _next(self) -> list[tuple[NDArray[np.uint8], int, asyncio.Future[Any]]]:
        """The first that wait, as long as they ask for as many views as the first of them."""
        views = self._waiting[0][1]
        most = max(1, self.most // views)
        batch: list[tuple[NDArray[np.uint8], int, asyncio.Future[Any]]] = []
        while self._waiting and len(batch) < most and self._waiting[0][1] == views:
            batch.append(self._waiting.popleft())
        return batch
