"""Turns of clients with many images, and what becomes of images whose request has ended."""

import asyncio
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from alexnet.serving.admission import AdmissionControl
from alexnet.serving.batching import DynamicBatcher

NETWORK = SimpleNamespace(name="network")


def test_an_image_that_comes_during_a_batch_is_in_the_next_one():
    """Client a has ten views of each of two images."""
    batches, steps = [], threading.Semaphore(0)

    def forward(network, pixels_NHWC, views):
        assert steps.acquire(timeout=30)
        batches.append((views, [int(pixels_HWC[0, 0, 0]) for pixels_HWC in pixels_NHWC]))
        return views or [None] * len(pixels_NHWC)

    def images(*values):
        return [np.full((1, 1, 3), value, np.uint8) for value in values]

    async def run():
        batcher = DynamicBatcher(forward, AdmissionControl(1.0), max_delay=0)
        async with batcher.running():
            many = asyncio.create_task(batcher.submit("a", NETWORK, images(1, 2), 10))
            await asyncio.sleep(0.05)
            other = asyncio.create_task(batcher.submit("b", NETWORK, images(11), 1))
            await asyncio.sleep(0.05)
            steps.release(2)
            await other
            assert batches == [([*range(8)], [1] * 8), (None, [11])]
            steps.release(2)
            outputs = await many
            assert outputs == [*range(10)] * 2, "those for the ten views of each image, in order"

    asyncio.run(run())
    assert batches == [([*range(8)], [1] * 8), (None, [11]), ([8, 9, 0, 1, 2, 3, 4, 5], [1, 1, *[2] * 6]),
                       ([*range(6, 10)], [2] * 4)]


def test_pixels_and_inputs_of_a_network_are_not_in_one_batch():
    kinds = []

    def forward(network, array, views):
        kinds.append((array.dtype.name, len(array)))
        return [None] * len(array)

    async def run():
        batcher = DynamicBatcher(forward, AdmissionControl(1.0), max_delay=0.05)
        async with batcher.running():
            await asyncio.gather(
                batcher.submit("a", NETWORK, [np.zeros((1, 1, 3), np.uint8)] * 2),
                batcher.submit("b", NETWORK, [np.zeros((3, 1, 1), np.float32)] * 3))

    asyncio.run(run())
    assert sorted(kinds) == [("float32", 3), ("uint8", 2)]


def test_images_of_a_request_that_has_failed_are_not_computed():
    """A batch of the first images fails, so the request has; what waits of it is removed, and so is other work."""
    batches = []

    def forward(network, pixels_NHWC, views):
        batches.append(len(pixels_NHWC))
        time.sleep(0.05)  # as a network takes its time: the request hears of the failure before its third batch
        raise RuntimeError("broken")

    async def run():
        batcher = DynamicBatcher(forward, AdmissionControl(1.0), max_batch=8, max_delay=0)
        async with batcher.running():
            for failed in range(1, 4):
                with pytest.raises(RuntimeError, match="broken"):
                    await batcher.submit("a", NETWORK, [np.zeros((1, 1, 3), np.uint8)] * 64)
                assert len(batcher._queue) == 0
                assert len(batches) <= 2 * failed  # one of the next images may have begun

    asyncio.run(run())


@pytest.mark.parametrize("work", [
    lambda batcher: batcher.submit("a", NETWORK, [np.zeros((1, 1, 3), np.uint8)] * 3),
    lambda batcher: batcher.run_exclusive("a", "network", lambda: None)])
def test_what_waits_of_a_request_that_is_abandoned_leaves_the_queue(work):
    async def run():
        batcher = DynamicBatcher(lambda *arguments: [], AdmissionControl(1.0))  # not running: everything waits
        waiting = asyncio.create_task(work(batcher))
        await asyncio.sleep(0)
        assert len(batcher._queue) > 0
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert len(batcher._queue) == 0

    asyncio.run(run())
