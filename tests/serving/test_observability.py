"""Request ids, the log of requests, the times of the stages, rejections by reason, and the SHA-256 of the weights."""

import asyncio
import hashlib
import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from alexnet.inference.predictor import Model, load
from alexnet.models import checkpoint
from alexnet.serving import responses
from alexnet.serving.limits import Limits
from alexnet.serving.request_log import LOGGER
from alexnet.serving.request_record import Stopwatch
from alexnet.serving.responses import Unavailable
from alexnet.serving.served_model import ServedModel
from alexnet.serving.service import Service
from inprocess import encoded, served
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"  # the example of the W3C recommendation


@pytest.fixture(scope="module")
def model(trained) -> Model:
    return load(trained)


@pytest.fixture(scope="module")
def client(model):
    with served(Service([ServedModel(model)])) as client:
        yield client


@pytest.fixture(scope="module")
def png():
    return encoded(draw(np.random.default_rng(1), 2))


@pytest.fixture
def lines(monkeypatch):
    """The lines of the log."""
    logged = []
    monkeypatch.setattr(LOGGER, "info", lambda form, line: logged.append(line))
    return logged


def metric(client, line):
    """The value of a metric by its name with labels."""
    text = client.request("/metrics")[2].decode()
    return float(re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)[1])


def test_responses_name_the_weights_that_made_them(client, png, model, trained):
    digest = hashlib.sha256()
    for name, tensor in sorted(checkpoint.load(trained).weights.items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    assert client.request("/model")[2]["sha256"] == digest.hexdigest()
    assert client.predict(png)[1]["model-sha256"] == digest.hexdigest()
    assert client.post_form({"a.png": png}, "/explain")[1]["model-sha256"] == digest.hexdigest()
    assert client.request("/health")[1]["model-sha256"] is None


@pytest.mark.parametrize(("given", "is_kept"), [
    ("3f2a-77", True), ("!~" * 64, True), ("", False), ("x" * 129, False), ("two words", False), ("tab\there", False),
    ("\u00e9", False)])
def test_a_well_formed_request_id_is_returned_and_any_other_replaced(client, png, given, is_kept):
    for _, headers, _ in (client.predict(png, X_Request_Id=given), client.request("/nope", X_Request_Id=given)):
        returned = headers["x-request-id"]
        assert (returned == given) == is_kept
        assert is_kept or re.fullmatch("[0-9a-f]{32}", returned)


def test_requests_without_an_id_get_different_ones(client):
    assert len({client.request("/health")[1]["x-request-id"] for _ in range(3)}) == 3


@pytest.mark.parametrize(("traceparent", "logged"), [
    (TRACE, TRACE), (TRACE.upper(), None), ("ff" + TRACE[2:], None), (f"00-{'0' * 32}-{'1' * 16}-01", None),
    (f"00-{'1' * 32}-{'0' * 16}-01", None), (TRACE + "x", None)])
def test_the_log_has_the_trace_if_it_is_well_formed(model, lines, traceparent, logged):
    with served(Service([ServedModel(model)], log_format="json")) as client:
        client.request("/health", traceparent=traceparent)
    assert json.loads(lines[0])["traceparent"] == logged


def test_a_json_line_has_the_request_its_images_and_the_time_of_each_stage(model, lines, png):
    service = Service([ServedModel(model, name="trees")], log_format="json")
    forward = service.batcher.forward

    def slow(*arguments):
        time.sleep(0.2)
        return forward(*arguments)

    service.batcher.forward = slow
    with served(service) as client:
        lines.clear()
        status, headers, _ = client.request(
            "/predict?top=2", encoded(draw(np.random.default_rng(1), 2)), Content_Type="image/png", X_Request_Id="7")
        assert (status, headers["x-request-id"]) == (200, "7")
        client.request("/no%20where%0aat all?x=%0a".replace(" ", "%20"))
    first, second = map(json.loads, lines)
    assert list(first) == [
        "time", "id", "traceparent", "client", "method", "path", "query", "status", "bytes", "images", "model",
        "model_sha256", "rejection", "seconds", "queue_seconds", "decode_seconds", "network_seconds"]
    assert (first["id"], first["method"], first["path"], first["query"], first["status"]) == (
        "7", "POST", "/predict", "top=2", 200)
    assert (first["bytes"], first["images"], first["model"]) == (len(png), 1, "trees")
    assert first["model_sha256"] == service.default_model.sha256
    assert first["client"].startswith("127.0.0.1:")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", first["time"])
    assert 0.2 <= first["network_seconds"] < first["seconds"]
    assert first["decode_seconds"] > 0
    assert first["queue_seconds"] >= 0
    assert first["queue_seconds"] + first["decode_seconds"] + first["network_seconds"] <= first["seconds"]
    assert (second["path"], second["status"], second["images"], second["model"]) == (
        "/no%20where%0Aat%20all", 404, 0, None)


def test_a_text_line_is_one_line(model, lines):
    with served(Service([ServedModel(model)], log_format="text")) as client:
        client.request("/health?a=%0ab", X_Request_Id="abc")
    assert re.fullmatch(r'\S+ 127\.0\.0\.1:\d+ "GET /health\?a=%0ab" 200 \d\.\d{3}s abc', lines[0])


def test_waiting_for_the_network_counts_as_queueing(model, png):
    """Two requests one after the other, since ten views of an image are a batch of their own."""
    service = Service([ServedModel(model)], limits=Limits(max_queue_seconds=60))
    forward = service.batcher.forward

    def slow(*arguments):
        time.sleep(0.3)
        return forward(*arguments)

    with served(service) as client, ThreadPoolExecutor(2) as pool:
        service.batcher.forward = slow
        files = {"0.png": png}
        for status, _, _ in pool.map(lambda _: client.post_form(files, "/predict?views=10"), range(2)):
            assert status == 200
        label = '_sum{model="alexnet"}'
        assert 0.6 <= metric(client, f"alexnet_network_seconds{label}") < 0.9 + 0.6
        assert metric(client, f"alexnet_queue_seconds{label}") >= 0.2
        assert metric(client, f"alexnet_decode_seconds{label}") > 0
        assert metric(client, 'alexnet_decode_seconds_count{model="alexnet"}') == 2


async def end_batching(service):
    service.batcher._task.cancel()


def test_no_error_with_503_lacks_a_reason():
    """UnavailableError demands one; any other class could leave it out."""
    sources = {file.name: file.read_text() for file in Path(responses.__file__).parent.glob("*.py")}
    assert {name: text.count("status=503") for name, text in sources.items() if "status=503" in text} == {
        "responses.py": 1}


def test_rejections_are_counted_by_reason(model, png, lines, monkeypatch):
    limits = Limits(body_bytes=10_000, total_body_bytes=15_000, connections=3, large_bytes=10, large_images=1,
                    max_queue_seconds=0.5)
    with served(Service([ServedModel(model)], limits=limits, log_format="json")) as client:
        reasons = get_args(Unavailable)
        counts = {reason: f'alexnet_rejections_total{{reason="{reason}"}}' for reason in reasons}
        assert [metric(client, count) for count in counts.values()] == [0] * len(reasons)
        lines.clear()
        client.service.decoder._pending_large["other"] = 1
        assert client.predict(png)[0] == 503  # its only image is a large one
        client.service.decoder._pending_large.clear()
        assert json.loads(lines[0])["rejection"] == "large_images"
        with monkeypatch.context() as patch:
            patch.setattr("sys.executable", "/absent/python")
            client.service.decoder._workers._end_idle(0)
            assert client.predict(png)[0] == 503
        client.service.decoder._workers.shutdown()
        assert client.predict(png)[0] == 503
        assert [json.loads(line)["rejection"] for line in lines[1:3]] == ["workers", "shutdown"]
        admission = client.service.admission
        admission.views["alexnet"].seconds_per_item = 9.0
        with admission.admit("other", "alexnet", 1, 1):
            assert client.predict(png)[0] == 503
        admission.views["alexnet"].seconds_per_item = 0.0
        with socket.create_connection(("127.0.0.1", client.port), timeout=60) as unfinished:
            unfinished.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
                               b"Content-Length: 9999\r\n\r\n" + bytes(9_000))
            while client.service.uploads.held_bytes < 9_000:
                time.sleep(0.01)
            client.predict(bytes(9_000))
            assert unfinished.recv(4096).startswith(b"HTTP/1.1 503 ")
        idle = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(3)]
        assert client.predict(png, X_Request_Id="crowd")[:2][0] == 503
        for connection in idle:
            connection.close()
        until = time.monotonic() + 30
        while client.request("/health")[0] != 200:
            assert time.monotonic() < until
        client.service.decoder.limits = Limits()  # no image is a large one any more
        asyncio.run_coroutine_threadsafe(end_batching(client.service), client.service.batcher._task.get_loop()).result()
        assert client.request("/explain", png, Content_Type="image/png")[0] == 503
        assert json.loads(lines[-1])["rejection"] == "batching"
        assert [metric(client, counts[reason]) >= 1 for reason in reasons] == [True] * len(reasons)
        assert any(json.loads(line)["id"] == "crowd" and json.loads(line)["rejection"] == "connections"
                   for line in lines)


def test_a_single_large_image_of_a_request_counts_as_rejected_too(model, png):
    with served(Service([ServedModel(model)], limits=Limits(large_bytes=30_000, large_images=1))) as client:
        large = encoded(np.zeros((200, 200, 3), np.uint8))
        status, _, response = client.post_form({"a.png": large, "b.png": large, "c.png": png})
        assert status == 200
        assert sum("error" in image for image in response["images"]) == 1
        assert metric(client, 'alexnet_rejections_total{reason="large_images"}') == 1


def test_work_that_overlaps_is_measured_once():
    watch = Stopwatch()
    with watch.running(), watch.running():
        time.sleep(0.05)
    time.sleep(0.1)
    with watch.running():
        time.sleep(0.05)
    assert 0.1 <= watch.seconds < 0.15 + 0.05
