"""A client with many expensive images: another client's image that comes during a batch is in the next one."""

import asyncio
import threading
from types import SimpleNamespace

import numpy as np

from alexnet.serving.admission import AdmissionControl
from alexnet.serving.batching import DynamicBatcher

NETWORK = SimpleNamespace(name="network")


def test_an_image_that_comes_during_a_batch_is_in_the_next_one():
    """Ten views of an image are a batch of their own; client a has five of them."""
    batches, steps = [], threading.Semaphore(0)

    def forward(network, pixels_NHWC, views):
        assert steps.acquire(timeout=30)
        batches.append([int(pixels_HWC[0, 0, 0]) for pixels_HWC in pixels_NHWC])
        return [None] * len(pixels_NHWC)

    def images(*values):
        return [np.full((1, 1, 3), value, np.uint8) for value in values]

    async def run():
        batcher = DynamicBatcher(forward, AdmissionControl(1.0), max_delay=0)
        async with batcher.running():
            many = asyncio.create_task(batcher.submit("a", NETWORK, images(1, 2, 3, 4, 5), 10))
            await asyncio.sleep(0.05)
            other = asyncio.create_task(batcher.submit("b", NETWORK, images(11), 1))
            await asyncio.sleep(0.05)
            steps.release(2)
            await other
            assert batches == [[1], [11]]
            steps.release(4)
            await many

    asyncio.run(run())
    assert batches == [[1], [11], [2], [3], [4], [5]]


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
