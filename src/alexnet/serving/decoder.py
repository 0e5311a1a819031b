"""Uploaded images -> pixels at the network's input side, in threads, with bounds on memory and on one request's share.

What an image costs is estimated from its header (`decode_memory`). Images with a usual cost are decoded in parallel,
within a budget of memory. A large one is decoded alone, in a thread of its own: many large images need no more memory
than one, and delay no small one. Large ones, and those whose decoder would stop all other threads, are decoded in
worker processes, for which the threads wait (`worker_process`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime.allocator import release_free_memory
from alexnet._runtime.notes import say
from alexnet.architecture.spec import InputSpec
from alexnet.data.decode_memory import DecodeCost, decode_cost
from alexnet.serving.admission import WorkEstimate
from alexnet.serving.decode_threads import DecodeThreads
from alexnet.serving.infer_request import InferRequest, is_large, parse_infer
from alexnet.serving.limits import Limits
from alexnet.serving.multipart import Upload
from alexnet.serving.request_record import Stopwatch
from alexnet.serving.responses import RequestError, UnavailableError
from alexnet.serving.worker_process import WorkerPool, decode_square

Decoded = NDArray[np.uint8] | RequestError
"""uint8 [side, side, 3], or why the image is not decoded: 422, or 503 for the excess of large ones."""


AT_ONCE_BYTES = 16_000_000
"""Memory up to which the only image of a request is decoded by the thread that has read its header."""


@dataclass(frozen=True)
class _Call:
    """What all images of a call of `ImageDecoder.decode` share: arguments, and the seconds of one image's header."""

    client: str
    side: int
    watch: Stopwatch
    header_seconds: float = 0.0


class ImageDecoder:
    """Decode uploads in threads.

    Attributes:
        limits: of pixels, memory and pending large images.
        estimate: measures the time of images that are not large.

    Args:
        cores: CPU cores; as many images are decoded in parallel, from two to eight.
        say: prints a line about worker processes.
    """

    def __init__(self, limits: Limits, estimate: WorkEstimate, cores: int, say: Callable[[str], object] = say) -> None:
        self.limits, self.estimate = limits, estimate
        self._parallel = max(2, min(8, cores))
        # One more than work in parallel, which one client cannot take.
        self._threads = DecodeThreads("decode", self._parallel + 1, limits.decode_bytes)
        self._large_thread = DecodeThreads("large", 1, limits.decode_bytes)
        self._parse_threads = DecodeThreads("parse", 2, limits.decode_bytes)
        self._workers = WorkerPool(limits, say)
        self._pending_large = Counter[str]()

    async def decode(self, client: str, uploads: Sequence[Upload], side: int,
                     watch: Stopwatch | None = None) -> list[Decoded]:
        """The pixels of each upload, or its error, in order.

        Args:
            client: whom the work counts for; clients take turns.
            uploads: the images of one request.
            side: side of the decoded squares, in pixels.
            watch: measures the time in which the images are being decoded.
        """
        call = _Call(client, side, watch or Stopwatch())
        if len(uploads) == 1:
            decoded = await self._threads.run(client, AT_ONCE_BYTES, lambda: self._decode_at_once(call, uploads[0]))
            if not isinstance(decoded, DecodeCost):
                return [decoded]
            costs = [decoded]
        else:
            costs, call = await self._threads.run(client, 0, lambda: _timed_costs(call, uploads))
        with_room = zip(uploads, costs, self._has_room(costs), strict=True)
        async with asyncio.TaskGroup() as group:  # if this is cancelled, so are the images that wait for their turn
            tasks = [group.create_task(self._decode_one(call, _name(upload, number, uploads), upload, cost, has_room))
                     for number, (upload, cost, has_room) in enumerate(with_room, 1)]
        return [task.result() for task in tasks]

    def _decode_at_once(self, call: _Call, upload: Upload) -> Decoded | DecodeCost:
        """The pixels of a request's only image, if that is a usual one; else what decoding it costs."""
        cost = decode_cost(upload.data)
        if self._needs_worker(cost) or cost.memory > min(AT_ONCE_BYTES, self.limits.large_bytes):
            return cost
        return self._timed_decode(call, _name(upload, 1, [upload]), upload.data, in_worker=False)

    def _needs_worker(self, cost: DecodeCost) -> bool:
        """Whether an image stops the other threads for long, or may take more memory than its header states."""
        return not cost.is_exact or (cost.holds_lock and cost.pixels > self.limits.locked_pixels)

    def _has_room(self, costs: Sequence[DecodeCost]) -> Iterator[bool]:
        """Whether an image is within `Limits.request_pixels` together with those before it."""
        total = 0
        for cost in costs:
            total += cost.pixels
            yield total <= max(self.limits.request_pixels, cost.pixels)

    async def _decode_one(self, call: _Call, name: str, upload: Upload, cost: DecodeCost, has_room: bool) -> Decoded:
        if not has_room:
            return RequestError(f"the request's images up to {name} have more than {self.limits.request_pixels:,} "
                                "pixels together", "send it in another request", status=413)
        if cost.memory <= self.limits.large_bytes or cost.pixels > self.limits.pixels:  # those are refused unread
            in_worker = self._needs_worker(cost) and cost.pixels <= self.limits.pixels
            memory = min(cost.memory, self.limits.large_bytes) if cost.is_exact else self.limits.large_bytes
            return await self._threads.run(call.client, memory,
                                           lambda: self._timed_decode(call, name, upload.data, in_worker))
        if self._pending_large.total() >= self.limits.large_images or (
                self._pending_large[call.client] >= max(1, self.limits.large_images - 1)):
            return UnavailableError(f"{name} is a large image, and too many of those are queued", "large_images")
        self._pending_large[call.client] += 1
        try:
            return await self._large_thread.run(call.client, 0, lambda: self._decode(call, name, upload.data, True))
        finally:
            self._pending_large[call.client] -= 1
            self._pending_large += Counter()  # drops clients without any

    async def parse_infer(self, client: str, body: bytes, spec: InputSpec) -> InferRequest:
        """Parse and check an inference request, as `infer_request.parse_infer`, for a network with this input."""
        def parse() -> InferRequest:
            return self._workers.parse_infer(body, spec) if is_large(body) else parse_infer(body, spec, self.limits)

        return await self._parse_threads.run(client, 0, parse)

    async def trim_memory(self) -> None:
        """Return freed memory to the system: one large image takes hundreds of megabytes."""
        await self._large_thread.run("", 0, release_free_memory)
        await self._large_thread.run("", 0, self._workers.trim)

    def shutdown(self) -> None:
        """Stop the threads and the worker processes, and drop what is queued."""
        self._workers.shutdown()
        for threads in (self._threads, self._large_thread, self._parse_threads):
            threads.shutdown()

    def _decode(self, call: _Call, name: str, data: bytes | memoryview, in_worker: bool) -> Decoded:
        with call.watch.running():
            if in_worker:
                return self._workers.decode(data, name, call.side)
            return decode_square(data, name, self.limits.pixels, call.side)

    def _timed_decode(self, call: _Call, name: str, data: bytes | memoryview, in_worker: bool) -> Decoded:
        with self.estimate.timed(self._parallel, call.header_seconds):
            return self._decode(call, name, data, in_worker)


def _timed_costs(call: _Call, uploads: Sequence[Upload]) -> tuple[list[DecodeCost], _Call]:
    """What decoding each image costs; and the call, with the time that this took for each."""
    began = time.monotonic()
    with call.watch.running():
        costs = [decode_cost(upload.data) for upload in uploads]
    return costs, replace(call, header_seconds=(time.monotonic() - began) / len(uploads))


def _name(upload: Upload, number: int, uploads: Sequence[Upload]) -> str:
    return upload.name or (f"image {number}" if len(uploads) > 1 else "the image")
