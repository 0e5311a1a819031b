"""Row 11: a server under load receives SIGTERM; no accepted request may be lost.

    python benchmarks/reliability/sigterm.py --times 20

Four kinds of clients: one connection for each request; one connection for many requests; the second half of a request
sent late; an idle connection. A client that has sent a whole request before it sees the connection closed must receive
200 or 503. Every other time the signal is sent twice.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections import Counter
from pathlib import Path

import ledger
import numpy as np
from ledger import Finding
from served import (
    NO_RESPONSE,
    Response,
    ServerProcess,
    connect,
    image,
    on_the_client_core,
    post,
    read_response,
    untrained_run,
)

PERSISTENT, LATE, IDLE = 6, 3, 3
"""Clients of each kind. Clients with a connection for each request come 60 times a second."""

SHUTDOWN_SECONDS = 35.0
"""Time in which the server must exit: 30 for accepted requests, and the shutdown itself."""


class Load:
    """All clients of one server, and a count of what each request received."""

    def __init__(self, port: int, seed: int) -> None:
        self.port, self.request, self.random = port, post(image()), np.random.default_rng(seed)
        self.outcomes: Counter[str] = Counter()
        self.is_closed = asyncio.Event()
        """Set once the server accepts no connections."""

    def count(self, kind: str, response: Response) -> None:
        if response.status in (200, 503):
            self.outcomes["answered"] += 1
        else:
            self.outcomes[f"lost, {kind}" if response == NO_RESPONSE else str(response.status)] += 1

    async def single_request(self) -> None:
        """One request on a connection of its own."""
        try:
            async with connect(self.port) as (reader, writer):
                writer.write(self.request)
                self.count("single", await read_response(reader))
        except ConnectionError:
            self.is_closed.set()

    async def single(self) -> None:
        """New connections at random times."""
        tasks = []
        while not self.is_closed.is_set():
            tasks.append(asyncio.create_task(self.single_request()))
            await asyncio.sleep(self.random.exponential(1 / 60))
        await asyncio.gather(*tasks)

    async def persistent(self) -> None:
        """Many requests on one connection, for as long as it stays open."""
        while not self.is_closed.is_set():
            try:
                async with connect(self.port) as (reader, writer):
                    is_last = False
                    while not is_last and not reader.at_eof():
                        writer.write(self.request)
                        response = await read_response(reader)
                        self.count("persistent", response)
                        is_last = response.is_last or response == NO_RESPONSE
                        await asyncio.sleep(self.random.uniform(0, 0.1))
            except ConnectionError:
                self.is_closed.set()

    async def late(self) -> None:
        """Half of a request at once, the other half later."""
        while not self.is_closed.is_set():
            try:
                async with connect(self.port) as (reader, writer):
                    writer.write(self.request[: len(self.request) // 2])
                    await asyncio.sleep(self.random.uniform(0.2, 0.8))
                    writer.write(self.request[len(self.request) // 2 :])
                    self.count("late", await read_response(reader))
            except ConnectionError:
                self.is_closed.set()

    async def idle(self) -> None:
        """A connection without a request."""
        async with connect(self.port) as (reader, _):
            await reader.read()


async def stop_once(server: ServerProcess, seed: int) -> tuple[Counter[str], float]:
    """Stop a server under load; return the outcomes of the requests and the seconds until the exit."""
    load = Load(server.port, seed)
    kinds = [load.single, *[load.persistent] * PERSISTENT, *[load.late] * LATE, *[load.idle] * IDLE]
    tasks = [asyncio.create_task(kind()) for kind in kinds]
    await asyncio.sleep(load.random.uniform(0.5, 1.5))
    stopping = asyncio.create_task(asyncio.to_thread(server.stop, 2 * SHUTDOWN_SECONDS))
    if seed % 2:
        await asyncio.sleep(load.random.uniform(0.05, 0.9))
        server.process.send_signal(signal.SIGTERM)
    code, seconds = await stopping
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    if code != -signal.SIGTERM:
        load.outcomes[f"exit code {code}"] += 1
    if "Traceback" in server.output():
        load.outcomes["traceback"] += 1
    return load.outcomes, seconds


def measure(times: int) -> Finding:
    """Start and stop a server `times` times."""
    outcomes: Counter[str] = Counter()
    longest = 0.0
    with tempfile.TemporaryDirectory() as folder, on_the_client_core():
        run = untrained_run(Path(folder))
        for seed in range(times):
            with ServerProcess(run) as server:
                counted, seconds = asyncio.run(stop_once(server, seed))
            outcomes, longest = outcomes + counted, max(longest, seconds)
    answered = outcomes.pop("answered", 0)
    return Finding(
        "11", f"SIGTERM under load, {times} times, every other time twice",
        "no accepted request lost; exit by SIGTERM (143 in a shell) within the shutdown time",
        f"{answered:,} requests answered, {outcomes.total()} lost"
        f"{''.join(f', {name}: {count}' for name, count in outcomes.items())}; longest shutdown {longest:.1f} s",
        not outcomes and answered > 0 and longest < SHUTDOWN_SECONDS)


if __name__ == "__main__":
    ledger.main(measure, times=20)
