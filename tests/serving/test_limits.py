"""The limits of the server: each holds over a real connection, and docs/serving.md lists each with its value."""

import contextlib
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from alexnet.inference.predictor import Model, load
from alexnet.serving.limits import Limits
from alexnet.serving.service import Service
from inprocess import encoded, served
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")

DOCUMENT = Path(__file__).parents[2] / "docs" / "serving.md"


@pytest.fixture(scope="module")
def model(trained) -> Model:
    return load(trained)


@pytest.fixture(scope="module")
def png():
    return encoded(draw(np.random.default_rng(1), 2))


def test_the_document_lists_every_limit_with_its_value():
    listed = dict(re.findall(r"^\| `(\w+)` \| ([\d,.e-]+)", DOCUMENT.read_text(), re.MULTILINE))
    assert {name: float(value.replace(",", "")) for name, value in listed.items()} == {
        field.name: field.default for field in fields(Limits)}


def test_two_of_the_largest_bodies_always_fit_into_memory():
    assert Limits.from_options(20, 1.0) == Limits()
    assert Limits.from_options(100, 1.0).total_body_bytes == 200_000_000


# --- Bodies and images ------------------------------------------------------------------------------------------------


def test_a_large_body_is_rejected_by_its_declared_and_by_its_received_length(model):
    with served(Service(model, limits=Limits(body_bytes=10_000))) as client:
        status, _, response = client.predict(bytes(20_000))
        assert (status, response["error"]) == (413, {
            "problem": "the request is larger than 0.01 MB",
            "remedy": "send a smaller image, or fewer images per request"})
        chunks = (bytes(1000) for _ in range(100))
        status, _, _ = client.request("/predict", chunks, Content_Type="image/png")
        assert status == 413
        assert client.service.uploads.held_bytes == 0


def test_too_many_images_in_a_request_are_rejected(model):
    with served(Service(model)) as client:
        status, _, response = client.post_form({f"{number}.png": b"x" for number in range(65)})
    assert (status, response["error"]["problem"]) == (400, "the request has 65 images, more than 64")


def test_an_image_with_too_many_pixels_is_rejected_before_it_is_decoded(model):
    with served(Service(model)) as client:
        status, _, response = client.predict(b"P6 8000 8000 255\n" + bytes(100))
        assert status == 422
        assert "it has 8,000 x 8,000 pixels, more than 50,000,000" in response["error"]["problem"]
        assert client.predict(b"P6 100000 100000 255\n" + bytes(100))[0] == 422


def test_the_upload_with_the_largest_bytes_times_age_is_evicted(model, png):
    limits = Limits(body_bytes=10_000, total_body_bytes=15_000)
    with served(Service(model, limits=limits)) as client, socket.create_connection(
            ("127.0.0.1", client.port), timeout=60) as unfinished:
        unfinished.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
                           b"Content-Length: 9999\r\n\r\n" + bytes(9_000))
        while client.service.uploads.held_bytes < 9_000:
            time.sleep(0.01)
        assert client.predict(bytes(9_000))[0] == 422
        assert unfinished.recv(4096).startswith(b"HTTP/1.1 503 ")
        assert client.predict(png)[0] == 200
        assert client.service.uploads.held_bytes == 0


# --- Connections ------------------------------------------------------------------------------------------------------


def test_a_slow_body_is_rejected_and_its_bytes_are_freed(model):
    with served(Service(model, limits=Limits(body_seconds=0.5))) as client, socket.create_connection(
            ("127.0.0.1", client.port), timeout=60) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nab")
        assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert client.service.uploads.held_bytes == 0


def test_a_connection_with_a_slow_header_is_closed(model):
    with served(Service(model, limits=Limits(header_seconds=0.5))) as client, socket.create_connection(
            ("127.0.0.1", client.port), timeout=60) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost:")
        with contextlib.suppress(ConnectionResetError):  # or an orderly end
            assert slow.recv(4096) == b""


def test_a_connection_above_the_limit_gets_503(model, png):
    with served(Service(model, limits=Limits(connections=2))) as client:
        with contextlib.ExitStack() as idle:
            for _ in range(2):
                idle.enter_context(socket.create_connection(("127.0.0.1", client.port)))
            status, headers, response = client.predict(png)
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        assert headers["x-content-type-options"] == "nosniff"
        assert "connections" in response["error"]["problem"]
        until = time.monotonic() + 30
        while client.predict(png)[0] != 200:
            assert time.monotonic() < until


# --- Queue ------------------------------------------------------------------------------------------------------------


def gate(service):
    """A lock that blocks the network while it is held."""
    lock, forward = threading.Lock(), service.batcher.forward

    def blocking(pixels_NHWC, views):
        with lock:
            return forward(pixels_NHWC, views)

    service.batcher.forward = blocking
    return lock


def wait_for_pending(service, images):
    while service.admission.decodes.pending < images:
        time.sleep(0.01)


def test_images_that_are_queued_together_form_one_batch(model, png):
    sizes = []
    service = Service(model)
    service.batcher.on_batch = sizes.append
    lock = gate(service)
    with served(service) as client, ThreadPoolExecutor(20) as pool:
        with lock:
            first = pool.submit(client.predict, png)
            wait_for_pending(service, 1)
            time.sleep(0.3)  # until the first image is in a batch of its own
            rest = [pool.submit(client.predict, png) for _ in range(19)]
            wait_for_pending(service, 20)
            time.sleep(0.3)
        assert {future.result()[0] for future in [first, *rest]} == {200}
    assert sizes == [1, 19]


def test_an_overloaded_server_rejects_at_once_and_recovers(model, png):
    service = Service(model, limits=Limits(max_queue_seconds=0.5))
    lock = gate(service)
    with served(service) as client, ThreadPoolExecutor(5) as pool:
        service.admission.views.seconds_per_item = 0.2
        with lock:
            waiting = [pool.submit(client.predict, png) for _ in range(2)]
            wait_for_pending(service, 2)
            status, headers, response = client.predict(png)
            assert (status, headers["retry-after"]) == (503, "1")
            assert response == {"error": {"problem": "too many images are queued", "remedy": "try again in a second"}}
        assert [future.result()[0] for future in waiting] == [200, 200]
        assert service.admission.decodes.pending == 0
        assert client.predict(png)[0] == 200


def test_the_warm_up_measures_every_kind_of_work(model):
    with served(Service(model)) as client:
        admission = client.service.admission
        assert min(work.seconds_per_item for work in (
            admission.decodes, admission.views, admission.explanations)) > 0
