"""The queue from which clients' items are taken in turns, and who a client is."""

import pytest
from starlette.requests import Request

from alexnet.serving.fair_queue import FairQueue, client_of


def test_clients_take_turns_and_each_ones_items_keep_their_order():
    queue = FairQueue()
    for client, item in [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("c", "c1"), ("b", "b2")]:
        queue.add(client, item)
    assert len(queue) == 6
    taken = [queue.take(next(queue.heads())[0]) for _ in range(6)]
    assert taken == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert len(queue) == 0
    assert not list(queue.heads())


def test_a_client_that_comes_again_has_its_turn_after_those_that_wait():
    queue = FairQueue()
    queue.add("a", 1)
    queue.add("b", 1)
    queue.take("a")
    queue.add("a", 2)
    assert [client for client, _ in queue.heads()] == ["b", "a"]


def test_a_discarded_item_is_gone_and_an_unknown_one_is_no_error():
    queue = FairQueue()
    queue.add("a", 1)
    queue.add("a", 2)
    queue.discard("a", 1)
    queue.discard("a", 7)
    queue.discard("b", 1)
    assert list(queue.heads()) == [("a", 2)]
    queue.discard("a", 2)
    assert not list(queue.heads())


@pytest.mark.parametrize(("address", "client"), [
    ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ("2001:db8:1:2::9", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64"), (None, "")])
def test_a_client_is_an_ipv4_address_or_the_half_of_an_ipv6_address_that_a_provider_gives(address, client):
    assert client_of(Request({"type": "http", "client": address and (address, 1234)})) == client


def test_a_client_whose_item_was_processed_has_its_turn_after_those_that_came_meanwhile():
    queue = FairQueue()
    for item in range(3):
        queue.add("a", item)
    queue.take("a")
    queue.add("b", 1)
    queue.add("c", 1)
    assert [client for client, _ in queue.heads()] == ["a", "b", "c"]
    queue.yield_turn({"a", "gone"})
    assert [client for client, _ in queue.heads()] == ["b", "c", "a"]
