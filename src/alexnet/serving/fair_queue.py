"""A queue of many clients' items, from which they are taken in turns: one of each client, then the next of each."""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Container, Iterator
from typing import Generic, TypeVar

from starlette.requests import Request

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items that wait, by client.

    An item of a client with a single one waits for at most one item of each other client, however many these have.
    """

    def __init__(self) -> None:
        self._by_client: dict[str, deque[Item]] = {}  # in the order of their turns

    def __len__(self) -> int:
        return sum(map(len, self._by_client.values()))

    def add(self, client: str, item: Item) -> None:
        """Append an item to those of its client."""
        self._by_client.setdefault(client, deque()).append(item)

    def heads(self) -> Iterator[tuple[str, Item]]:
        """Each client with its oldest item, in the order of their turns."""
        yield from [(client, items[0]) for client, items in self._by_client.items()]

    def take(self, client: str) -> Item:
        """Remove a client's oldest item. Its next one has its turn after all other clients."""
        items = self._by_client.pop(client)
        item = items.popleft()
        if items:
            self._by_client[client] = items
        return item

    def yield_turn(self, clients: Container[str]) -> None:
        """Move these clients' turns behind those of all others, which may have come during the last turn."""
        self._by_client = dict(sorted(self._by_client.items(), key=lambda entry: entry[0] in clients))

    def discard(self, client: str, item: Item) -> None:
        """Remove an item, if it still waits."""
        items = self._by_client.get(client, deque())
        if item in items:
            items.remove(item)
            if not items:
                del self._by_client[client]


def client_of(request: Request) -> str:
    """The client that a request counts for: `client_key` of its address."""
    return client_key(request.client.host if request.client else "")


def client_key(address: str) -> str:
    """The client that an address counts for: an IPv4 address, or the first half of an IPv6 address.

    An IPv6 host has 2^64 addresses of its own. All clients behind one reverse proxy have the proxy's address, so the
    proxy must limit each of them itself.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # a Unix socket
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)
