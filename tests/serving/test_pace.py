"""A client has a rate over all its connections: of its large bodies and, also by number, of its rejected requests."""

import asyncio
import time

import numpy as np
import pytest

from alexnet.inference.predictor import load
from alexnet.serving.limits import Limits
from alexnet.serving.pace import Activity, BodyPace, RejectionPace
from alexnet.serving.served_model import ServedModel
from alexnet.serving.service import Service
from inprocess import served


def waits(*requests, longest=2.0, noted=()):
    """Seconds that the responses to rejected requests wait, which come at once. Of each: its client, its megabytes."""
    async def waited(pace, client, megabytes):
        began = asyncio.get_running_loop().time()
        await pace.wait(client, round(1e6 * megabytes))
        return asyncio.get_running_loop().time() - began

    async def run():
        activity = Activity()
        for client in noted:
            activity.note(client)
        pace = RejectionPace(20e6, 10.0, longest, activity)
        return await asyncio.gather(*(waited(pace, *request) for request in requests))

    return asyncio.run(run())


def test_bodies_of_a_client_wait_one_after_the_other_at_20_mb_a_second():
    assert waits(("a", 4), ("a", 2), ("b", 1), ("b", 0)) == pytest.approx([0.2, 0.3, 0.05, 0.05], abs=0.04)


@pytest.mark.parametrize(("noted", "expected"), [
    ("a", [0, 0]), ("aa", [0, 0]), ("ba", [0.1, 0.2]), ("ab", [0.1, 0.2]), ("abaa", [0.1, 0.2]), ("b", [0.1, 0.2])])
def test_rejections_have_a_rate_while_another_client_is_active(noted, expected):
    """Ten a second of one client."""
    assert waits(("a", 0), ("a", 0), noted=noted) == pytest.approx(expected, abs=0.04)


def test_a_client_is_active_for_a_second(monkeypatch):
    monkeypatch.setattr("alexnet.serving.pace._ACTIVE_SECONDS", 0.0)
    assert waits(("a", 0), ("a", 0), noted="ba") == pytest.approx([0, 0], abs=0.04)


def test_nobody_waits_longer_than_the_limit():
    assert waits(("a", 100), ("a", 100), longest=0.1) == pytest.approx([0.075, 0.075], abs=0.06)


def test_many_that_would_wait_longer_do_not_come_back_at_once():
    """300 connections that were rejected together were answered together, and again, and stopped the event loop."""
    seconds = np.sort(waits(*[("a", 100)] * 200, longest=1.0))
    assert 0.45 < seconds[0] < 0.6
    assert 0.9 < seconds[-1] < 1.3
    assert np.histogram(seconds, 10)[0].max() < 50  # a tenth is 20 of 200


def test_clients_whose_time_is_over_are_forgotten():
    async def run():
        pace = RejectionPace(20e6, 10.0, 2.0, Activity())
        for number in range(3_000):
            await pace.wait(str(number), 0)
        return len(pace._turns)

    assert asyncio.run(run()) <= 1_001


def received(*bodies, noted="ba", piece=16_384):
    """Seconds in which bodies arrive that are sent at once. Of each: its client, its megabytes."""
    async def one(pace, client, megabytes):
        began, size = asyncio.get_running_loop().time(), round(1e6 * megabytes)
        for before in range(0, size, piece):
            await pace.wait(client, before, min(before + piece, size))
        return asyncio.get_running_loop().time() - began

    async def run():
        activity = Activity()
        for client in noted:
            activity.note(client)
        pace = BodyPace(20e6, 1_000_000, activity)
        return await asyncio.gather(*(one(pace, *body) for body in bodies))

    return asyncio.run(run())


@pytest.mark.parametrize(("bodies", "expected"), [
    ([("a", 1)], 0.0), ([("a", 5)], 0.2), ([("a", 3), ("a", 3)], 0.2), ([("a", 1)] * 3, 0.0)])
def test_large_bodies_of_a_client_have_one_rate_beyond_their_first_megabyte(bodies, expected):
    """20 MB a second: of one body of 5 MB, 4 MB count; of two of 3 MB, 2 MB each."""
    assert max(received(*bodies)) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(("noted", "seconds"), [("a", 0.0), ("", 0.0), ("ab", 0.2), ("b", 0.2)])
def test_a_client_alone_sends_as_fast_as_it_can(noted, seconds):
    assert received(("a", 5), noted=noted) == pytest.approx([seconds], abs=0.05)


def test_a_second_client_sends_beside_the_first():
    assert received(("a", 5), ("b", 5)) == pytest.approx([0.2, 0.2], abs=0.05)


@pytest.fixture(scope="module")
def model(trained):
    return load(trained)


SLOW = Limits(rejected_requests_per_second=2.5, rejected_bytes_per_second=1e7, drain_seconds=5.0)
"""0.4 seconds for a request beside another client's, and 0.1 for each megabyte."""

REJECTED = {
    "no such path": (404, ("/nope",), {}), "another method": (405, ("/predict",), {}),
    "another host": (403, ("/model",), {"Host": "example.org"}), "no host": (400, ("/model",), {"Host": "a/b"}),
    "wrong query": (400, ("/predict?top=x", b""), {}), "no image type": (415, ("/predict", b"x"), {}),
    "no model": (404, ("/v1/models/nope",), {})}


@pytest.mark.parametrize("name", REJECTED)
def test_every_kind_of_rejection_is_paced_beside_another_client(model, name, monkeypatch):
    """404, 405 and what access control rejects had no rate."""
    monkeypatch.setattr(Activity, "is_other_active", lambda *_: True)
    status, request, headers = REJECTED[name]
    with served(Service([ServedModel(model)], hosts=frozenset({"127.0.0.1"}), limits=SLOW)) as client:
        began = time.monotonic()
        assert client.request(*request, **headers)[0] == status
        assert time.monotonic() - began > 0.38


def test_a_wrong_token_is_paced_and_a_status_is_not(model, monkeypatch):
    monkeypatch.setattr(Activity, "is_other_active", lambda *_: True)
    service = Service([ServedModel(model)], "secret", limits=SLOW, has_started=lambda: False)
    with served(service) as client:
        began = time.monotonic()
        assert client.request("/metrics")[0] == 401
        assert time.monotonic() - began > 0.38
        began = time.monotonic()
        assert client.request("/ready")[0] == 503  # a balancer asks often, and rejects nothing
        assert time.monotonic() - began < 0.3


@pytest.mark.parametrize(("is_other_active", "least", "most"), [(True, 0.5, 5.0), (False, 0.0, 0.4)])
def test_a_large_body_has_its_rate_in_the_server(model, monkeypatch, is_other_active, least, most):
    """Of 6 MB, 5 MB at 10 MB a second. They are no image: beside another client, 0.1 s more for one rejection."""
    monkeypatch.setattr(Activity, "is_other_active", lambda *_: is_other_active)
    limits = Limits(large_body_bytes_per_second=1e7, rejected_bytes_per_second=1e12, rejected_requests_per_second=10)
    with served(Service([ServedModel(model)], limits=limits)) as client:
        began = time.monotonic()
        assert client.predict(bytes(6_000_000))[0] == 422
        assert least < time.monotonic() - began < most


@pytest.mark.parametrize(("max_mb", "rate"), [(20, 25e6), (250, 25e6), (1000, 100e6)])
def test_two_of_the_largest_bodies_arrive_in_time(max_mb, rate):
    limits = Limits.from_options(max_mb, 1.0, 0.5, 75)
    assert limits.large_body_bytes_per_second == rate
    assert 2e6 * max_mb / rate <= limits.body_seconds == 20


@pytest.mark.parametrize("path", ["/nope", "/predict"])
def test_a_body_that_is_read_after_the_rejection_counts_for_the_next_one(model, path):
    """Of 10 MB, at 10 MB a second. It is read while the next request may already come, so the third one waits."""
    with served(Service([ServedModel(model)], limits=SLOW)) as client:
        began = time.monotonic()
        for _ in range(3):
            assert client.request(path, bytes(10_000_000), Content_Type="text/plain")[0] in (404, 415)
        assert time.monotonic() - began > 0.9
