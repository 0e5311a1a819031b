"""Uploaded images -> pixels at the network's input side, in threads, with a bound on memory.

Small images are decoded in parallel. A large one is decoded alone: many large images need no more memory than one, and
delay no small one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime.allocator import release_free_memory
from alexnet._runtime.cpu_threads import lower_thread_priority
from alexnet.data.images import BadImage, decode, pixels_in, square
from alexnet.serving.admission import Overloaded, WorkEstimate
from alexnet.serving.limits import Limits
from alexnet.serving.multipart import Upload
from alexnet.serving.responses import RequestError

Decoded = NDArray[np.uint8] | RequestError
"""uint8 [side, side, 3], or why the image cannot be decoded (422)."""


class ImageDecoder:
    """Decode uploads in threads.

    Attributes:
        side: side of the decoded square, in pixels.
        limits: of pixels and of pending large images.
        estimate: measures the time of small images.
    """

    def __init__(self, side: int, limits: Limits, estimate: WorkEstimate) -> None:
        self.side, self.limits, self.estimate = side, limits, estimate
        self._thread_count = max(2, min(8, os.cpu_count() or 1))
        self._threads = ThreadPoolExecutor(self._thread_count, "decode", lower_thread_priority)
        self._large_thread = ThreadPoolExecutor(1, "large", lower_thread_priority)
        self._pending_large = 0

    async def decode(self, uploads: Sequence[Upload]) -> list[Decoded]:
        """The pixels of each upload, or its error, in order.

        Raises:
            Overloaded: if large images would have to wait for too many large ones of other requests.
        """
        loop, has_large = asyncio.get_running_loop(), False

        async def decode_one(number: int, upload: Upload) -> Decoded:
            nonlocal has_large
            name = upload.name or (f"image {number}" if len(uploads) > 1 else "the image")
            pixels = await loop.run_in_executor(self._threads, self._decode_unless_large, name, upload.data)
            if pixels is not None:
                return pixels
            if self._pending_large >= self.limits.large_images and not has_large:
                raise Overloaded
            has_large, self._pending_large = True, self._pending_large + 1
            try:
                return await loop.run_in_executor(self._large_thread, self._decode, name, upload.data)
            finally:
                self._pending_large -= 1

        return await asyncio.gather(*(decode_one(number, upload) for number, upload in enumerate(uploads, 1)))

    async def trim_memory(self) -> None:
        """Return freed memory to the system: one large image takes hundreds of megabytes."""
        await asyncio.get_running_loop().run_in_executor(self._large_thread, release_free_memory)

    def shutdown(self) -> None:
        """Stop the threads and drop what is queued."""
        for threads in (self._threads, self._large_thread):
            threads.shutdown(cancel_futures=True)

    def _decode(self, name: str, data: bytes | memoryview) -> Decoded:
        try:
            return square(decode(bytes(data), name, self.limits.pixels), self.side)
        except BadImage as error:
            return RequestError(error.problem, "send another image", status=422)

    def _decode_unless_large(self, name: str, data: bytes | memoryview) -> Decoded | None:
        if pixels_in(data) > self.limits.large_pixels:
            return None
        with self.estimate.timed(self._thread_count):
            return self._decode(name, data)
