"""Pace of one client's bodies and rejections, so that it does not occupy the event loop that all clients share."""

from __future__ import annotations

import asyncio
import random

_MOST_CLIENTS = 1_000
"""When more clients are remembered, those whose wait is over are forgotten."""

_ACTIVE_SECONDS = 1.0
"""After its last request, for which a client counts as active."""

_SHORTEST_WAIT = 0.01
"""Seconds: a body waits rarely and for this long, not after each of its pieces."""


class Activity:
    """Whether another client is active: only then must a client leave it time."""

    def __init__(self) -> None:
        self._latest, self._before = ("", float("-inf")), ("", float("-inf"))
        """The client of the latest request and its time, and those of the latest request of any other client."""

    def note(self, client: str) -> None:
        """Note that a request of this client has come."""
        if client != self._latest[0]:
            self._before = self._latest
        self._latest = client, asyncio.get_running_loop().time()

    def is_other_active(self, client: str) -> bool:
        """Whether a request of another client has come within the last second."""
        latest = self._before if self._latest[0] == client else self._latest
        return asyncio.get_running_loop().time() - latest[1] < _ACTIVE_SECONDS


class _Turns:
    """Time of the event loop until which each client has used what its rate allows."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def use(self, client: str, seconds: float, now: float, longest: float = float("inf")) -> float:
        """Use so many seconds more of a client's time, and return when they end; at most `longest` are remembered."""
        if len(self._until) > _MOST_CLIENTS:
            self._until = {other: end for other, end in self._until.items() if end > now}
        until = max(self._until.get(client, now), now) + seconds
        self._until[client] = min(until, now + longest)
        return until


class BodyPace:
    """Delays the reception of a client's large bodies while another client is active.

    While the event loop receives a body as fast as this machine can, threads that decode and classify another client's
    image wait for it: 12 ms of work take 60 to 100.

    Args:
        bytes_per_second: of all large bodies of one client together.
        free_bytes: at the begin of each body, which are not delayed: those of an ordinary photo.
        activity: of all clients.
    """

    def __init__(self, bytes_per_second: float, free_bytes: int, activity: Activity) -> None:
        self.bytes_per_second, self.free_bytes, self._activity = bytes_per_second, free_bytes, activity
        self._turns = _Turns()

    async def wait(self, client: str, before: int, after: int) -> None:
        """Wait, where the client's rate demands it, when a body has grown from `before` to `after` bytes."""
        paced = after - max(before, self.free_bytes)
        if paced > 0 and self._activity.is_other_active(client):
            now = asyncio.get_running_loop().time()
            seconds = self._turns.use(client, paced / self.bytes_per_second, now) - now
            if seconds > _SHORTEST_WAIT:
                await asyncio.sleep(seconds)


class RejectionPace:
    """Delays the responses to rejected requests, by the time that they take of the event loop.

    The rejections of a client have a rate, however many connections it has: always by the bytes of their bodies, and by
    their number while another client is active. A client alone, or a proxy, gets its 503 at once.

    Args:
        bytes_per_second: of one client's rejected bodies.
        requests_per_second: of one client's rejected requests, while another client is active.
        longest: seconds that a response is delayed at most. One that would be delayed longer gets a random delay of at
            least half of it.
        activity: of all clients.
    """

    def __init__(self, bytes_per_second: float, requests_per_second: float, longest: float, activity: Activity) -> None:
        self.bytes_per_second, self.requests_per_second, self.longest = bytes_per_second, requests_per_second, longest
        self._activity = activity
        self._turns = _Turns()

    async def wait(self, client: str, received_bytes: int, requests: int = 1) -> None:
        """Wait until the client's rejections, with this one, have had their time; 0 requests: more bytes of one."""
        now = asyncio.get_running_loop().time()
        seconds = received_bytes / self.bytes_per_second
        if self._activity.is_other_active(client):
            seconds += requests / self.requests_per_second
        until = self._turns.use(client, seconds, now, self.longest)
        if until > now + self.longest:  # with many connections; if all waited as long, all would come back at once
            until = now + self.longest * random.uniform(0.5, 1.0)
        if until > now:
            await asyncio.sleep(until - now)
