"""Where the task that makes the batches has ended, requests are rejected, and /health and /ready say so."""

import asyncio
import json
from types import SimpleNamespace

import numpy as np
import pytest

from alexnet.inference.predictor import load
from alexnet.serving.admission import AdmissionControl
from alexnet.serving.batching import BatchingEndedError, DynamicBatcher
from alexnet.serving.request_log import LOGGER
from alexnet.serving.served_model import ServedModel
from alexnet.serving.service import Service
from inprocess import encoded, served
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")


def test_requests_of_a_dead_batching_task_are_rejected_and_the_probes_fail(trained, capfd, monkeypatch):
    """Formerly /predict waited forever, and /health said that the server was alive, so that nothing restarted it."""
    service = Service([ServedModel(load(trained))], log_format="json")
    png, lines = encoded(draw(np.random.default_rng(1), 2)), []
    monkeypatch.setattr(LOGGER, "info", lambda form, line: lines.append(json.loads(line)))

    def faulty(first):
        raise RuntimeError("a fault in the batcher")

    with served(service) as client:
        assert client.request("/health")[::2] == (200, {"status": "alive"})
        assert client.request("/v2/health/live")[::2] == (200, {"live": True})
        service.batcher._take_images = faulty
        for _ in range(2):  # the one that waits, and one that comes afterwards
            status, headers, response = client.predict(png)
            assert (status, response) == (503, {"error": {
                "problem": "the server's batching has stopped", "remedy": "restart the server"}})
            assert headers["retry-after"] is None
        assert client.request("/explain", png, Content_Type="image/png")[0] == 503
        assert client.request("/health")[::2] == (503, {"status": "dead"})
        assert client.request("/v2/health/live")[::2] == (503, {"live": False})
        assert client.request("/ready")[::2] == (503, {"status": "failing"})
        assert client.request("/v2/models/alexnet/ready")[0] == 503
        metrics = client.request("/metrics")[2].decode()
        assert 'alexnet_pending_images 0.0\n' in metrics
        assert 'alexnet_rejections_total{reason="batching"} 3.0\n' in metrics
        rejections = [line["rejection"] for line in lines if line["method"] == "POST"]
        assert rejections == ["batching"] * 3
    assert "RuntimeError: a fault in the batcher" in capfd.readouterr().err


def test_what_waits_in_the_queue_fails_with_the_task():
    network, pixels = SimpleNamespace(name="network"), [np.zeros((1, 1, 3), np.uint8)]

    async def run():
        batcher = DynamicBatcher(lambda network, images, views: [None] * len(images), AdmissionControl(1.0))
        async with batcher.running():
            assert await batcher.submit("a", network, pixels) == [None]
            batcher._task.cancel()
            waiting = [batcher.submit("a", network, pixels, 10), batcher.submit("b", network, pixels),
                       batcher.run_exclusive("c", "network", int)]
            async with asyncio.timeout(30):
                outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [BatchingEndedError] * 3
            assert not batcher._queue

    asyncio.run(run())
