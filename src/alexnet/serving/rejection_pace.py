"""Pace of rejections: a client that sends large rejected requests again at once does not occupy the server."""

from __future__ import annotations

import asyncio

_MOST_CLIENTS = 1_000
"""When more clients are remembered, those whose wait is over are forgotten."""


class RejectionPace:
    """Delays the responses to rejected requests, by the size of the bodies that were received of them.

    Receiving and parsing a body takes the event loop's time, which all clients share. The rejected bodies of a client
    are answered at one rate, however many connections it has.

    Args:
        bytes_per_second: of one client's rejected bodies.
        longest: seconds that a response is delayed at most.
    """

    def __init__(self, bytes_per_second: float, longest: float) -> None:
        self.bytes_per_second, self.longest = bytes_per_second, longest
        self._until: dict[str, float] = {}

    async def wait(self, client: str, received_bytes: int) -> None:
        """Wait until the client's rejected bodies, with this one, have had their time."""
        now = asyncio.get_running_loop().time()
        if len(self._until) > _MOST_CLIENTS:
            self._until = {other: until for other, until in self._until.items() if until > now}
        until = max(self._until.get(client, now), now) + received_bytes / self.bytes_per_second
        self._until[client] = until = min(until, now + self.longest)
        await asyncio.sleep(until - now)
