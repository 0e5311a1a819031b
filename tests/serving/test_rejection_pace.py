"""A client's rejected requests have a rate over all its connections, by their bytes and, beside others, by number."""

import asyncio

import pytest

from alexnet.serving.rejection_pace import RejectionPace


def waits(*requests, longest=2.0, noted=()):
    """Seconds that the responses to rejected requests wait, which come at once. Of each: its client, its megabytes."""
    async def waited(pace, client, megabytes):
        began = asyncio.get_running_loop().time()
        await pace.wait(client, round(1e6 * megabytes))
        return asyncio.get_running_loop().time() - began

    async def run():
        pace = RejectionPace(20e6, 10.0, longest)
        for client in noted:
            pace.note(client)
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
    monkeypatch.setattr("alexnet.serving.rejection_pace._ACTIVE_SECONDS", 0.0)
    assert waits(("a", 0), ("a", 0), noted="ba") == pytest.approx([0, 0], abs=0.04)


def test_nobody_waits_longer_than_the_limit():
    assert waits(("a", 100), ("a", 100), longest=0.1) == pytest.approx([0.1, 0.1], abs=0.05)


def test_clients_whose_time_is_over_are_forgotten():
    async def run():
        pace = RejectionPace(20e6, 10.0, 2.0)
        for number in range(3_000):
            await pace.wait(str(number), 0)
        return len(pace._until)

    assert asyncio.run(run()) <= 1_001
