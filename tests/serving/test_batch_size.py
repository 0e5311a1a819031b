"""A client with many images: another client's image waits for at most eight of them and one."""

import asyncio
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from alexnet.inference.predictor import load
from alexnet.serving.admission import AdmissionControl
from alexnet.serving.batching import DynamicBatcher
from alexnet.serving.served_model import ServedModel
from alexnet.serving.service import Service


def test_an_image_waits_for_eight_images_of_another_client():
    batches, steps = list[list[int]](), threading.Semaphore(0)

    def forward(network, pixels_NHWC, views):
        assert steps.acquire(timeout=30)
        batches.append([int(pixels_HWC[0, 0, 0]) for pixels_HWC in pixels_NHWC])
        return [None] * len(pixels_NHWC)

    async def run():
        batcher = DynamicBatcher(forward, AdmissionControl(1.0), max_delay=0)
        network = SimpleNamespace(name="network")
        async with batcher.running():
            images = [np.full((1, 1, 3), value, np.uint8) for value in range(64)]
            many = asyncio.create_task(batcher.submit("a", network, images))
            await asyncio.sleep(0.05)
            other = asyncio.create_task(batcher.submit("b", network, [np.full((1, 1, 3), 100, np.uint8)]))
            await asyncio.sleep(0.05)
            steps.release(2)
            await other
            before = [*batches]
            steps.release(100)
            await many
        return before

    first, second = asyncio.run(run())
    assert first == [*range(8)]
    assert second == [100, 8], "an equal number of each client"
    assert sorted(value for batch in batches for value in batch) == [*range(64), 100]


@pytest.mark.parametrize(("fixed", "each", "size"), [(0.02, 0.001, 8), (0.0, 0.01, 1), (0.02, 0.02, 4)])
def test_a_batch_is_as_small_as_it_may_be_without_taking_longer_for_an_image(fixed, each, size):
    """Seconds of an image in batches of 1, 2, 4, 8: 0.021 to 0.0035; 0.01 in all; 0.04, 0.03, 0.025, 0.0225."""
    clock, sizes = [0.0], list[int]()

    def forward(network, pixels_NHWC, views):
        clock[0] += fixed + each * len(pixels_NHWC)
        sizes.append(len(pixels_NHWC))
        return [None] * len(pixels_NHWC)

    async def run():
        batcher = DynamicBatcher(forward, AdmissionControl(1.0), max_delay=0)
        network, other = SimpleNamespace(name="network"), SimpleNamespace(name="other")
        images = [np.zeros((1, 1, 3), np.uint8)] * 8
        async with batcher.running():
            await batcher.measure_batches(network, images[0])
            for measured, largest in ((network, size), (other, 8)):
                sizes.clear()
                await batcher.submit("a", measured, images)
                assert sizes == [largest] * (8 // largest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("alexnet.serving.batching.time", SimpleNamespace(perf_counter=lambda: clock[0]))
        asyncio.run(run())


@pytest.mark.parametrize(("device", "most"), [("cpu", 8), ("meta", 32)])
def test_only_a_cpu_has_small_batches(device, most):
    model = load("tiny-imagenet-200")
    model.preprocess.to(device)
    assert Service([ServedModel(model)]).batcher.max_batch == most
