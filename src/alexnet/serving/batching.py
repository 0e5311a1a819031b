"""Dynamic batching: combine the images of many requests into batches, each for one network.

In a batch an image takes less time than alone, but every other client waits for the whole batch. So on a CPU the
batcher measures each network when the server starts, and takes the smallest batch in which an image takes little longer
than in the best one. On a GPU the times have not been measured; its batches are larger. When idle, the batcher waits up
to `max_delay` for more requests; when busy, it batches everything that is queued, up to that size, an equal number of
views for each client. Ten views of an image may be in several batches.

All networks share one thread. Two at once would compete for the same cores, and no estimate of the waiting time would
hold. A network that is replaced needs no queue of its own: its images end in batches of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime.cpu_threads import lower_thread_priority
from alexnet.serving.admission import AdmissionControl
from alexnet.serving.fair_queue import FairQueue
from alexnet.serving.request_record import Stopwatch
from alexnet.serving.responses import UnavailableError


class Named(Protocol):
    """Any network with a name, by which its times and its failures are known."""

    @property
    def name(self) -> str: ...


ImageArray = NDArray[np.uint8 | np.float32]
"""One image: uint8 [side, side, 3], pixels; or float32 [3, crop, crop], a network's input."""

Network = TypeVar("Network", bound=Named)
Output = TypeVar("Output")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class QueuedImage(Generic[Network, Output]):
    """One view of an image, which waits for its batch.

    Attributes:
        network: for which it waits.
        array: the image.
        view: its number among ten views; None: the center crop, or a network's input.
        watch: measures the time of its batch.
        result: the output for this view.
    """

    network: Network
    array: ImageArray
    view: int | None
    watch: Stopwatch
    result: asyncio.Future[Output]

    def shares_batch(self, other: QueuedImage[Network, Output]) -> bool:
        """Whether both can be in one batch."""
        return (self.network is other.network and (self.view is None) == (other.view is None)
                and self.array.dtype == other.array.dtype)


@dataclass(frozen=True, eq=False)
class QueuedWork:
    """Other work with a network, which waits for its turn between two batches."""

    model: str
    work: Callable[[], object]
    watch: Stopwatch
    result: asyncio.Future[Any]


CPU_BATCH, GPU_BATCH = 8, 32
"""Most images in a batch. On a CPU an image takes as long in 8 as in 32; 32 on a GPU has not been measured."""

LONGER_THAN_BEST = 1.2
"""How much longer an image may take than in the best size of batch, if the batch is smaller for it."""


class BatchingEndedError(UnavailableError):
    """503: the task that makes the batches has ended by a fault of this package. The server needs a restart."""

    def __init__(self) -> None:
        super().__init__("the server's batching has stopped", "batching", "restart the server", is_temporary=False)


class DynamicBatcher(Generic[Network, Output]):
    """Batches for networks, which run in one thread.

    Attributes:
        forward: network, N images as one array, and the number of each one's view among ten, or None for center crops
            -> one output for each of N.
        admission: measures the time of the views and of the exclusive work.
        on_batch: called with the size of each batch.
        max_batch: views in a batch, if `measure_batches` has not found a smaller number.
        max_delay: seconds for which an idle batcher waits for more requests.
        failures: by the network's name: batches in a row that raised.
    """

    def __init__(self, forward: Callable[[Network, ImageArray, Sequence[int] | None], Sequence[Output]],
                 admission: AdmissionControl, *, on_batch: Callable[[int], object] = lambda size: None,
                 max_batch: int = CPU_BATCH, max_delay: float = 0.003) -> None:
        self.forward, self.admission, self.on_batch = forward, admission, on_batch
        self.max_batch, self.max_delay = max_batch, max_delay
        self.failures = Counter[str]()
        self._batch_sizes: dict[str, int] = {}
        self._queue = FairQueue[QueuedImage[Network, Output] | QueuedWork]()
        self._is_queued = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "network", lower_thread_priority, (5,))

    async def submit(self, client: str, network: Network, images: Sequence[ImageArray], views: int = 1,
                     watch: Stopwatch | None = None) -> list[Output]:
        """The output for each image, in order; with ten views, the outputs for those of each image.

        `watch` measures the time of the batches with these images. Raises BatchingEndedError if nothing processes the
        queue any more.
        """
        loop, watch = asyncio.get_running_loop(), watch or Stopwatch()
        numbers = [None] if views == 1 else range(views)
        queued = [QueuedImage[Network, Output](network, array, number, watch, loop.create_future())
                  for array in images for number in numbers]
        for image in queued:
            self._queue.add(client, image)
        self._is_queued.set()
        try:
            return await self._unless_ended(asyncio.gather(*(image.result for image in queued)))
        finally:  # where a batch has failed or the client has disconnected, the others are computed for nobody
            for image in queued:
                self._discard(client, image)

    async def warm_up(self, network: Network, images: Sequence[ImageArray], views: Sequence[int] | None) -> None:
        """Run a batch that `on_batch` does not count, to measure its time."""
        await self._in_thread(lambda: self._forward(network, images, views))

    def batch_size(self, name: str) -> int:
        """The most views in a batch for a network, by its name."""
        return self._batch_sizes.get(name, self.max_batch)

    async def measure_batches(self, network: Network, image: ImageArray, rounds: int = 3) -> None:
        """Measure batches of 1, 2, 4, ... `max_batch` images, and set the size of the network's batches."""
        sizes = [1 << power for power in range(self.max_batch.bit_length())]

        def seconds_per_image(size: int) -> float:
            began = time.perf_counter()
            self.forward(network, np.stack([image] * size), None)
            return (time.perf_counter() - began) / size

        def measured() -> list[float]:
            rows = [[seconds_per_image(size) for size in sizes] for _ in range(rounds)]
            return [min(seconds) for seconds in zip(*rows, strict=True)]  # the least disturbed of each size

        seconds = await self._in_thread(measured)
        self._batch_sizes[network.name] = next(
            size for size, each in zip(sizes, seconds, strict=True) if each <= LONGER_THAN_BEST * min(seconds))

    async def run_exclusive(self, client: str, model: str, work: Callable[[], Result],
                            watch: Stopwatch | None = None) -> Result:
        """Run other work with a network, by its name, between two batches. `watch` measures its time.

        Raises BatchingEndedError as `submit`.
        """
        queued = QueuedWork(model, work, watch or Stopwatch(), asyncio.get_running_loop().create_future())
        self._queue.add(client, queued)
        self._is_queued.set()
        try:
            result: Result = await self._unless_ended(queued.result)
        finally:
            self._discard(client, queued)
        return result

    async def _unless_ended(self, results: asyncio.Future[Result]) -> Result:
        """Wait for results, unless the task that makes the batches ends before: they would never come."""
        results.add_done_callback(lambda done: done.cancelled() or done.exception())  # else asyncio logs it as unseen
        if self._task is not None:
            either: list[asyncio.Future[Any]] = [results, self._task]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not results.done():
                results.cancel()
                raise BatchingEndedError
        return await results

    def _discard(self, client: str, item: QueuedImage[Network, Output] | QueuedWork) -> None:
        """Remove an item from the queue, if it still waits there: nobody awaits its result any more."""
        if not item.result.done() or item.result.cancelled():
            item.result.cancel()
            self._queue.discard(client, item)

    @property
    def is_running(self) -> bool:
        """Whether the queue is being processed."""
        return self._task is not None and not self._task.done()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Process the queue while the context lasts."""
        self._task = task = asyncio.create_task(self._run_until_fault())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._thread.shutdown()

    async def _run_until_fault(self) -> None:
        try:
            await self._run()
        except Exception:  # of this package; `is_running` is false from now on
            traceback.print_exc()

    async def _run(self) -> None:
        while True:
            if not self._queue:
                self._is_queued.clear()
                await self._is_queued.wait()
                await asyncio.sleep(self.max_delay)
            client, first = next(self._queue.heads())
            if isinstance(first, QueuedWork):
                self._queue.take(client)
                await self._run_work(first)
                self._queue.yield_turn({client})
            else:
                batch, clients = self._take_images(first)
                await self._run_batch(batch)
                self._queue.yield_turn(clients)

    async def _run_batch(self, batch: Sequence[QueuedImage[Network, Output]]) -> None:
        batch = [image for image in batch if not image.result.done()]  # cancelled, where the client has disconnected
        if not batch:
            return
        try:
            outputs = await self._in_thread(partial(self._timed_forward, batch))
        except Exception as error:
            self.failures[batch[0].network.name] += 1
            for image in batch:
                if not image.result.done():
                    image.result.set_exception(error)
            return
        self.failures[batch[0].network.name] = 0
        self.on_batch(len(batch))
        for image, output in zip(batch, outputs, strict=True):
            if not image.result.done():
                image.result.set_result(output)

    async def _run_work(self, queued: QueuedWork) -> None:
        def timed() -> object:
            with self.admission.explanations[queued.model].timed(), queued.watch.running():
                return queued.work()

        if queued.result.done():
            return
        try:
            result = await self._in_thread(timed)
        except Exception as error:
            if not queued.result.done():
                queued.result.set_exception(error)
        else:
            if not queued.result.done():
                queued.result.set_result(result)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _timed_forward(self, batch: Sequence[QueuedImage[Network, Output]]) -> Sequence[Output]:
        with contextlib.ExitStack() as watches:
            for watch in {image.watch for image in batch}:
                watches.enter_context(watch.running())
            views = [image.view for image in batch if image.view is not None]
            return self._forward(batch[0].network, [image.array for image in batch], views or None)

    def _forward(self, network: Network, images: Sequence[ImageArray], views: Sequence[int] | None) -> Sequence[Output]:
        with self.admission.views[network.name].timed(len(images)):
            return self.forward(network, np.stack(images), views)

    def _take_images(
        self, first: QueuedImage[Network, Output],
    ) -> tuple[list[QueuedImage[Network, Output]], set[str]]:
        """Take a batch of views that can be in one batch with the first; and the clients whose images they are of.

        Each client has the same number, that of the client with the fewest, so that a single image waits for few.
        """
        def ready() -> list[str]:
            return [client for client, item in self._queue.heads()
                    if isinstance(item, QueuedImage) and item.shares_batch(first)]

        batch, most = list[QueuedImage[Network, Output]](), self.batch_size(first.network.name)
        clients = ready()[:most]
        while len(batch) < most and set(clients) <= set(ready()):
            for client in clients[:most - len(batch)]:
                item = self._queue.take(client)
                assert isinstance(item, QueuedImage)
                batch.append(item)
        return batch, set(clients)
