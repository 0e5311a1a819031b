"""The limits of the server: each holds over a real connection, and docs/serving.md lists each with its value."""

import asyncio
import contextlib
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from alexnet.errors import UserError
from alexnet.inference.predictor import Model, load
from alexnet.serving.admission import AdmissionControl
from alexnet.serving.batching import DynamicBatcher
from alexnet.serving.fair_queue import client_key
from alexnet.serving.limits import Limits
from alexnet.serving.served_model import ServedModel
from alexnet.serving.service import Service
from inprocess import encoded, served
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")

NETWORK = SimpleNamespace(name="network")
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
    assert Limits.from_options(20, 1.0, 0.5, 75) == Limits()
    assert Limits.from_options(100, 1.0, 0.5, 75).total_body_bytes == 200_000_000


# --- Bodies and images ------------------------------------------------------------------------------------------------


def test_a_large_body_is_rejected_by_its_declared_and_by_its_received_length(model):
    with served(Service([ServedModel(model)], limits=Limits(body_bytes=10_000))) as client:
        status, _, response = client.predict(bytes(20_000))
        assert (status, response["error"]) == (413, {
            "problem": "the request is larger than 0.01 MB",
            "remedy": "send a smaller image, or fewer images per request"})
        chunks = (bytes(1000) for _ in range(100))
        status, _, _ = client.request("/predict", chunks, Content_Type="image/png")
        assert status == 413
        assert client.service.uploads.held_bytes == 0


def test_too_many_images_in_a_request_are_rejected(model):
    with served(Service([ServedModel(model)])) as client:
        status, _, response = client.post_form({f"{number}.png": b"x" for number in range(65)})
    assert (status, response["error"]["problem"]) == (400, "the request has 65 images, more than 64")


def test_an_image_with_too_many_pixels_is_rejected_before_it_is_decoded(model):
    with served(Service([ServedModel(model)])) as client:
        status, _, response = client.predict(b"P6 8000 8000 255\n" + bytes(100))
        assert status == 422
        assert "it has 8,000 x 8,000 pixels, more than 50,000,000" in response["error"]["problem"]
        assert client.predict(b"P6 100000 100000 255\n" + bytes(100))[0] == 422


def test_the_upload_with_the_largest_bytes_times_age_is_evicted(model, png):
    limits = Limits(body_bytes=10_000, total_body_bytes=15_000)
    with served(Service([ServedModel(model)], limits=limits)) as client, socket.create_connection(
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
    with served(Service([ServedModel(model)], limits=Limits(body_seconds=0.5))) as client, socket.create_connection(
            ("127.0.0.1", client.port), timeout=60) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nab")
        assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert client.service.uploads.held_bytes == 0


def test_a_connection_with_a_slow_header_is_closed(model):
    with served(Service([ServedModel(model)], limits=Limits(header_seconds=0.5))) as client, socket.create_connection(
            ("127.0.0.1", client.port), timeout=60) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost:")
        with contextlib.suppress(ConnectionResetError):  # or an orderly end
            assert slow.recv(4096) == b""


def test_an_idle_connection_outlives_the_header_timeout_but_no_half_header_does(model):
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    with served(Service([ServedModel(model)], limits=Limits(header_seconds=0.5))) as client, socket.create_connection(
            ("127.0.0.1", client.port), timeout=60) as connection:
        for _ in range(2):
            connection.sendall(request)
            response = b""
            while not response.endswith(b'{"status":"alive"}'):
                response += connection.recv(4096)
            assert response.startswith(b"HTTP/1.1 200 ")
            time.sleep(1)
        connection.sendall(request[:20])
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(4096) == b""


def from_another_address(port):
    """A connection of another client than `client`."""
    try:
        return socket.create_connection(("127.0.0.1", port), timeout=60, source_address=("127.0.0.2", 0))
    except OSError:
        pytest.skip("macOS has 127.0.0.1 alone")


def test_one_client_cannot_take_all_connections(model, png):
    """The other addresses of the loopback network are other clients, where the system has them."""
    service = Service([ServedModel(model)], limits=Limits(client_connections=2))
    with served(service) as client, contextlib.ExitStack() as idle:
        for _ in range(3):
            connection = idle.enter_context(from_another_address(client.port))
        connection.sendall(b"GET /model HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 503 ")
        assert client.predict(png)[0] == 200


def test_liveness_is_answered_on_a_connection_above_the_limit_which_then_closes(model):
    """A server that is only full must not be restarted."""
    service = Service([ServedModel(model)], limits=Limits(connections=2, client_connections=2))
    with served(service) as client, contextlib.ExitStack() as idle:
        connections = [idle.enter_context(socket.create_connection(("127.0.0.1", client.port), timeout=60))
                       for _ in range(3)]
        for path in ("/health", "/v2/health/live"):
            connections[-1].sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            response = b""
            while block := connections[-1].recv(4096):
                response += block
            assert response.startswith(b"HTTP/1.1 200 ")
            assert b"\r\nconnection: close\r\n" in response.lower()
            connections[-1] = idle.enter_context(socket.create_connection(("127.0.0.1", client.port), timeout=60))
        connections[-1].sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connections[-1].recv(4096).startswith(b"HTTP/1.1 503 ")


def test_connections_are_counted_by_the_key_of_the_fair_queue(model, monkeypatch):
    """By the exact address, a host with a network of IPv6 addresses took all connections."""
    monkeypatch.setattr("alexnet.serving.server.client_key", lambda address: "one client")
    service = Service([ServedModel(model)], limits=Limits(client_connections=2))
    with served(service) as client, contextlib.ExitStack() as idle:
        for _ in range(2):
            idle.enter_context(socket.create_connection(("127.0.0.1", client.port), timeout=60))
        connection = idle.enter_context(from_another_address(client.port))
        connection.sendall(b"GET /model HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 503 ")


def test_no_two_clients_take_all_connections():
    assert 4 * Limits().client_connections <= Limits().connections


@pytest.mark.parametrize(("address", "key"), [
    ("10.0.0.7", "10.0.0.7"), ("::ffff:10.0.0.7", "10.0.0.7"), ("2001:db8:1:2::5", "2001:db8:1:2::/64"),
    ("2001:db8:1:2:3::9", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64"), ("", "")])
def test_the_key_of_a_client(address, key):
    assert client_key(address) == key


@pytest.mark.parametrize(("drain", "keep_alive", "problem"), [
    (21, 75, "--drain 21 must be from 0 to 20 seconds"), (-1, 75, "--drain -1"), (0.5, 0, "--keep-alive 0 must be")])
def test_times_that_cannot_be_kept_are_refused(drain, keep_alive, problem):
    with pytest.raises(UserError, match=re.escape(problem)):
        Limits.from_options(20, 1.0, drain, keep_alive)


def test_a_connection_above_the_limit_gets_503(model, png):
    with served(Service([ServedModel(model)], limits=Limits(connections=2))) as client:
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

    def blocking(network, pixels_NHWC, views):
        with lock:
            return forward(network, pixels_NHWC, views)

    service.batcher.forward = blocking
    return lock


def wait_for_pending(service, images):
    while service.admission.decodes.pending.total() < images:
        time.sleep(0.01)


def test_images_that_are_queued_together_form_batches_of_eight(model, png):
    sizes = []
    service = Service([ServedModel(model)])
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
    assert sizes == [1, 8, 8, 3]


def test_an_overloaded_server_rejects_at_once_and_recovers(model, png):
    service = Service([ServedModel(model)], limits=Limits(max_queue_seconds=0.5))
    lock = gate(service)
    with served(service) as client, ThreadPoolExecutor(5) as pool:
        service.admission.views["alexnet"].seconds_per_item = 0.2
        with lock:
            waiting = [pool.submit(client.predict, png) for _ in range(2)]
            wait_for_pending(service, 2)
            status, headers, response = client.predict(png)
            assert (status, headers["retry-after"]) == (503, "1")
            assert response == {"error": {"problem": "too many images are queued", "remedy": "try again in a second"}}
        assert [future.result()[0] for future in waiting] == [200, 200]
        assert not service.admission.decodes.pending
        assert client.predict(png)[0] == 200


def test_the_warm_up_measures_every_kind_of_work(model):
    with served(Service([ServedModel(model)])) as client:
        admission = client.service.admission
        assert min(work.seconds_per_item for work in (
            admission.decodes, admission.views["alexnet"], admission.explanations["alexnet"])) > 0


# --- Clients take turns -----------------------------------------------------------------------------------------------


def outputs_in_order(submissions, work=()):
    """Submit images of clients while the network is busy; the batches that follow, as lists of the images' values."""
    batches, release = [], threading.Event()

    def forward(network, pixels_NHWC, views):
        assert release.wait(30)
        batches.append([int(pixels_HWC[0, 0, 0]) for pixels_HWC in pixels_NHWC])
        return [None] * len(pixels_NHWC)

    async def run():
        batcher = DynamicBatcher(forward, AdmissionControl(1.0), max_batch=4, max_delay=0)
        async with batcher.running():
            tasks = [asyncio.create_task(batcher.submit("first", NETWORK, [np.zeros((1, 1, 3), np.uint8)]))]
            await asyncio.sleep(0.05)
            for client, values, views in submissions:
                images = [np.full((1, 1, 3), value, np.uint8) for value in values]
                tasks.append(asyncio.create_task(batcher.submit(client, NETWORK, images, views)))
            for client, name in work:
                other = batcher.run_exclusive(client, "network", lambda name=name: batches.append(name))
                tasks.append(asyncio.create_task(other))
            await asyncio.sleep(0.05)
            release.set()
            await asyncio.gather(*tasks)

    asyncio.run(run())
    return batches[1:]


def test_a_batch_has_an_equal_number_of_each_client():
    assert outputs_in_order([("a", range(1, 7), 1), ("b", [11], 1), ("c", [21, 22], 1)]) == [
        [1, 11, 21], [2, 22], [3, 4, 5, 6]]


def test_a_batch_of_four_has_images_of_the_clients_whose_turn_it_is():
    assert outputs_in_order([(client, [first, first + 1], 1) for first, client in zip(
        (10, 20, 30, 40, 50), "abcde", strict=True)]) == [[10, 20, 30, 40], [50, 11, 21, 31], [41, 51]]


def test_no_client_waits_for_all_of_ten_views():
    assert outputs_in_order([("a", [1], 10), ("b", [11, 12], 1)]) == [[1] * 4, [11, 12], [1] * 4, [1] * 2]


def test_a_batch_takes_what_the_fewest_have_of_all():
    """With ten views of three images, a client has thirty views, the other twenty."""
    assert outputs_in_order([("a", [1], 10), ("b", [2], 10)]) == [[1, 2, 1, 2]] * 5


def test_other_work_takes_its_turn_between_batches():
    assert outputs_in_order([("a", [1, 2], 1), ("b", [11], 1)], [("a", "explain"), ("b", "explain too")]) == [
        [1, 11], [2], "explain too", "explain"]


def test_an_image_whose_client_is_gone_is_not_computed():
    sizes, release = [], threading.Event()

    def forward(network, pixels_NHWC, views):
        assert release.wait(30)
        sizes.append(len(pixels_NHWC))
        return [None] * len(pixels_NHWC)

    async def run():
        image = np.zeros((1, 1, 3), np.uint8)
        batcher = DynamicBatcher(forward, AdmissionControl(1.0), max_delay=0)
        async with batcher.running():
            first = asyncio.create_task(batcher.submit("a", NETWORK, [image]))
            await asyncio.sleep(0.05)
            gone = asyncio.create_task(batcher.submit("a", NETWORK, [image] * 5))
            other = asyncio.create_task(batcher.submit("a", NETWORK, [image] * 2))
            await asyncio.sleep(0.05)
            gone.cancel()
            await asyncio.sleep(0.05)
            release.set()
            await asyncio.gather(first, other)

    asyncio.run(run())
    assert sizes == [1, 2]


def test_a_request_asks_for_a_limited_number_of_views(model, png):
    with served(Service([ServedModel(model)], limits=Limits(views=20))) as client:
        status, _, response = client.post_form({"a.png": png, "b.png": png, "c.png": png}, "/predict?views=10")
        assert (status, response["error"]["problem"]) == (400, "3 images with 10 views each have more than 20 views")
        assert client.post_form({"a.png": png, "b.png": png}, "/predict?views=10")[0] == 200


def test_a_server_whose_network_fails_is_not_ready_until_it_answers_again(model, png, capsys):
    """`/ready` responds 503 from the third batch in a row that raises; `/health` stays as it is."""
    service = Service([ServedModel(model)])
    forward, broken = service.batcher.forward, threading.Event()

    def failing(network, pixels_NHWC, views):
        if broken.is_set():
            raise RuntimeError("out of memory")
        return forward(network, pixels_NHWC, views)

    service.batcher.forward = failing
    with served(service) as client:
        broken.set()
        answers = [(client.predict(png)[0], client.request("/ready")[0]) for _ in range(4)]
        assert answers == [(500, 200), (500, 200), (500, 503), (500, 503)]
        assert client.request("/ready")[2] == {"status": "failing"}
        assert client.request("/health")[0] == 200
        broken.clear()
        assert client.predict(png)[0] == 200
        assert client.request("/ready")[0] == 200
        service.batcher._task.get_loop().call_soon_threadsafe(service.batcher._task.cancel)
        time.sleep(0.2)
        assert client.request("/ready")[0] == 503
