"""Pace of rejections: a client that sends rejected requests again at once does not occupy the server."""

from __future__ import annotations

import asyncio
import random

_MOST_CLIENTS = 1_000
"""When more clients are remembered, those whose wait is over are forgotten."""

_ACTIVE_SECONDS = 1.0
"""After its last request, for which a client counts as active."""


class RejectionPace:
    """Delays the responses to rejected requests, by the time that they take of the event loop.

    All clients share the event loop, which receives and parses requests. The rejections of a client have a rate,
    however many connections it has: always by the bytes of their bodies, and by their number while another client is
    active. A client alone, or a proxy, gets its 503 at once.

    Args:
        bytes_per_second: of one client's rejected bodies.
        requests_per_second: of one client's rejected requests, while another client is active.
        longest: seconds that a response is delayed at most. One that would be delayed longer gets a random delay of at
            least half of it.
    """

    def __init__(self, bytes_per_second: float, requests_per_second: float, longest: float) -> None:
        self.bytes_per_second, self.requests_per_second, self.longest = bytes_per_second, requests_per_second, longest
        self._until: dict[str, float] = {}
        self._latest, self._before = ("", float("-inf")), ("", float("-inf"))
        """The client of the latest request and its time, and those of the latest request of any other client."""

    def note(self, client: str) -> None:
        """Note that a request of this client has come."""
        if client != self._latest[0]:
            self._before = self._latest
        self._latest = client, asyncio.get_running_loop().time()

    async def wait(self, client: str, received_bytes: int, requests: int = 1) -> None:
        """Wait until the client's rejections, with this one, have had their time; 0 requests: more bytes of one."""
        now = asyncio.get_running_loop().time()
        if len(self._until) > _MOST_CLIENTS:
            self._until = {other: until for other, until in self._until.items() if until > now}
        seconds = received_bytes / self.bytes_per_second
        if self._is_other_active(client, now):
            seconds += requests / self.requests_per_second
        until = max(self._until.get(client, now), now) + seconds
        if until > now + self.longest:  # with many connections; if all waited as long, all would come back at once
            self._until[client], until = now + self.longest, now + self.longest * random.uniform(0.5, 1.0)
        else:
            self._until[client] = until
        if until > now:
            await asyncio.sleep(until - now)

    def _is_other_active(self, client: str, now: float) -> bool:
        latest = self._before if self._latest[0] == client else self._latest
        return now - latest[1] < _ACTIVE_SECONDS
