"""Dynamic batching: combine the images of many requests into batches for one network.

A batch of 32 images takes a few times as long as one image. When idle, the batcher waits up to `max_delay` for more
requests; when busy, it batches everything that is queued, up to `max_batch`. Results come in the order of the requests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime.cpu_threads import lower_thread_priority
from alexnet.serving.admission import AdmissionControl

Output = TypeVar("Output")
Result = TypeVar("Result")


@dataclass(frozen=True)
class QueuedImage(Generic[Output]):
    """One image that waits for its batch."""

    pixels_HWC: NDArray[np.uint8]
    views: int
    result: asyncio.Future[Output]


class DynamicBatcher(Generic[Output]):
    """Batches for one network, which runs in a thread of its own.

    Attributes:
        forward: uint8 [N, side, side, 3] and the number of views (1 or 10) -> one output for each of N.
        admission: measures the time of the views and of the exclusive work.
        on_batch: called with the size of each batch.
        max_batch: images in a batch of one view each; of ten views a tenth.
        max_delay: seconds for which an idle batcher waits for more requests.
    """

    def __init__(self, forward: Callable[[NDArray[np.uint8], int], Sequence[Output]], admission: AdmissionControl, *,
                 on_batch: Callable[[int], object] = lambda size: None, max_batch: int = 32,
                 max_delay: float = 0.003) -> None:
        self.forward, self.admission, self.on_batch = forward, admission, on_batch
        self.max_batch, self.max_delay = max_batch, max_delay
        self._queue: deque[QueuedImage[Output]] = deque()
        self._is_queued = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "network", lower_thread_priority)

    async def submit(self, images: Sequence[NDArray[np.uint8]], views: int = 1) -> list[Output]:
        """The output for each image, in order."""
        loop = asyncio.get_running_loop()
        queued = [QueuedImage(pixels_HWC, views, loop.create_future()) for pixels_HWC in images]
        self._queue.extend(queued)
        self._is_queued.set()
        return await asyncio.gather(*(image.result for image in queued))

    async def warm_up(self, images: Sequence[NDArray[np.uint8]], views: int) -> None:
        """Run a batch that `on_batch` does not count, to measure its time."""
        await self._in_thread(lambda: self._forward(images, views))

    async def run_exclusive(self, work: Callable[[], Result]) -> Result:
        """Run other work with the network, between two batches."""

        def timed() -> Result:
            with self.admission.explanations.timed():
                return work()

        return await self._in_thread(timed)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Process the queue while the context lasts."""
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
            if not self._queue:
                self._is_queued.clear()
                await self._is_queued.wait()
                await asyncio.sleep(self.max_delay)
            batch = self._next_batch()
            images, views = [image.pixels_HWC for image in batch], batch[0].views
            try:
                outputs = await self._in_thread(partial(self._forward, images, views))
            except Exception as error:
                for image in batch:
                    if not image.result.done():  # cancelled, where the client has disconnected
                        image.result.set_exception(error)
                continue
            self.on_batch(len(batch))
            for image, output in zip(batch, outputs, strict=True):
                if not image.result.done():
                    image.result.set_result(output)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _forward(self, images: Sequence[NDArray[np.uint8]], views: int) -> Sequence[Output]:
        with self.admission.views.timed(len(images) * views):
            return self.forward(np.stack(images), views)

    def _next_batch(self) -> list[QueuedImage[Output]]:
        """Take images from the head of the queue, as long as they need as many views as the first of them."""
        views = self._queue[0].views
        size = max(1, self.max_batch // views)
        batch: list[QueuedImage[Output]] = []
        while self._queue and len(batch) < size and self._queue[0].views == views:
            batch.append(self._queue.popleft())
        return batch
