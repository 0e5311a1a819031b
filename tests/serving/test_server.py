"""The HTTP protocol: malformed requests, half-closed connections, and slow clients."""

import asyncio
import socket
import time

import pytest
import wire
from hypothesis import given, settings
from hypothesis import strategies as st
from served import image, post
from uvicorn.server import ServerState

from alexnet.inference.predictor import load
from alexnet.serving.limits import Limits
from alexnet.serving.served_model import ServedModel
from alexnet.serving.server import ServerConfig, TimeoutProtocol, bind
from alexnet.serving.service import Service
from inprocess import served

pytestmark = pytest.mark.usefixtures("one_thread")

SEEDS = wire.seeds()


def test_small_responses_do_not_wait_for_an_acknowledgement():
    with bind("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP  # asyncio sets TCP_NODELAY only then


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_a_damaged_request_gets_a_documented_status_or_none(request_, data):
    at = data.draw(st.integers(0, len(request_)))
    cut = data.draw(st.integers(0, 40))
    put = data.draw(st.one_of(st.binary(max_size=20), st.sampled_from([b"\r\n", b"HEAD ", b"--b", b"\0"])))
    wire.checked_statuses(request_[:at] + put + request_[at + cut :])


def test_a_half_closed_connection_gets_its_response():
    assert wire.checked_statuses(post(image())) == [200]
    assert wire.checked_statuses(post(image())[:-1]) == []


def test_noise_after_a_head_request_closes_the_connection():
    head = b"HEAD /predict HTTP/1.1\r\nHost: localhost\r\n"
    assert wire.checked_statuses(head + b"\r\nnoise\r\n\r\n") == [405, 400]
    assert wire.checked_statuses(
        b"HEAD / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nnoise\r\n") == [400]


@pytest.mark.parametrize(("target", "status"), [
    (f"/samples/{'9' * 5000}.png", 404), ("/samples/%C2%B2.png", 404), ("/predict/", 404), ("/samples/0.png", 200)])
def test_unusual_paths(target, status):
    assert wire.checked_statuses(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()) == [status]


def test_a_body_in_chunks_of_one_byte_closes_the_connection():
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    whole = b"%x\r\n%b\r\n0\r\n\r\n" % (1 << 20, bytes(1 << 20))
    assert wire.checked_statuses(head + whole) == [422]
    assert wire.checked_statuses(head + b"1\r\nA\r\n" * 400_000) == []


@pytest.mark.parametrize(("waiting", "resumes", "closed"), [
    ([9000] * 9, False, True), ([9000] * 9, True, False), (range(9000, 0, -100), False, False)])
def test_a_client_that_reads_nothing_of_its_response_is_disconnected(waiting, resumes, closed):
    """`waiting`: bytes of the response that wait for the client, each time that the server looks."""
    async def is_closed() -> bool:
        transport, sizes = wire.Transport(), iter(waiting)
        transport.get_write_buffer_size = lambda: next(sizes)
        config = ServerConfig(wire.wire().config.app, Limits(response_seconds=0.05))
        config.load()
        connection = TimeoutProtocol(config, ServerState(), {}, asyncio.get_running_loop())
        connection.connection_made(transport)
        connection.cycle = type("Cycle", (), {"response_complete": False, "disconnected": False})()
        connection._update_header_timer()
        connection.pause_writing()
        if resumes:
            connection.resume_writing()
        await asyncio.sleep(0.5)
        return transport.closing

    assert asyncio.run(is_closed()) == closed


def test_requests_on_new_connections_are_answered_while_the_server_drains(trained):
    service = Service([ServedModel(load(trained))], limits=Limits(accept_seconds=3.0))
    with served(service) as client:
        client.begin_shutdown()
        until = time.monotonic() + 2
        while not service.is_draining:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert client.request("/ready")[::2] == (503, {"status": "stopping"})
        status, headers, _ = client.predict(image())
        assert (status, headers["connection"]) == (200, "close")
    with pytest.raises(ConnectionRefusedError):
        client.request("/ready")


def test_an_idle_connection_stays_open_for_the_time_of_the_option():
    limits = Limits.from_options(20, 1.0, 0.5, 33)
    assert ServerConfig(wire.wire().config.app, limits).timeout_keep_alive == limits.keep_alive_seconds == 33
