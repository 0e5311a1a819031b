"""Row 11: a server that is told to stop while it is asked from all sides.

    python benchmarks/reliability/sigterm.py --times 20

Clients come on connections of their own, stay on one for many requests, send the second half of a body late, or hold a
connection and say nothing. Whoever has a connection, has sent a whole request on it and has not seen it closed before
must be answered, 200 or 503. Every other time the signal comes twice.
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
from served import LOST, Reply, Served, connected, image, on_the_other_core, post, reply, untrained

STAYING, LATE, SILENT = 6, 3, 3
"""Clients of each kind; those on connections of their own come 60 times a second."""

GRACE = 35.0
"""Seconds within which it must have stopped: 30 for what is on its way, and what stopping itself takes."""


class Crowd:
    """All that ask one server, and what became of it."""

    def __init__(self, port: int, seed: int) -> None:
        self.port, self.request, self.random = port, post(image()), np.random.default_rng(seed)
        self.seen: Counter[str] = Counter()
        self.gone = asyncio.Event()
        """Set once the door is closed."""

    def note(self, kind: str, got: Reply) -> None:
        self.seen["answered" if got.status in (200, 503) else f"lost, {kind}" if got == LOST else str(got.status)] += 1

    async def alone(self) -> None:
        """One request on its own connection."""
        try:
            async with connected(self.port) as (reader, writer):
                writer.write(self.request)
                self.note("alone", await reply(reader))
        except ConnectionError:
            self.gone.set()

    async def coming(self) -> None:
        tasks = []
        while not self.gone.is_set():
            tasks.append(asyncio.create_task(self.alone()))
            await asyncio.sleep(self.random.exponential(1 / 60))
        await asyncio.gather(*tasks)

    async def staying(self) -> None:
        """Asks again and again on one connection, as long as it stays open."""
        while not self.gone.is_set():
            try:
                async with connected(self.port) as (reader, writer):
                    closing = False
                    while not closing and not reader.at_eof():
                        writer.write(self.request)
                        got = await reply(reader)
                        self.note("staying", got)
                        closing = got.closing or got == LOST
                        await asyncio.sleep(self.random.uniform(0, 0.1))
            except ConnectionError:
                self.gone.set()

    async def late(self) -> None:
        """Half of a request at once, the other a little later; once more after each answer."""
        while not self.gone.is_set():
            try:
                async with connected(self.port) as (reader, writer):
                    writer.write(self.request[: len(self.request) // 2])
                    await asyncio.sleep(self.random.uniform(0.2, 0.8))
                    writer.write(self.request[len(self.request) // 2 :])
                    self.note("late", await reply(reader))
            except ConnectionError:
                self.gone.set()

    async def silent(self) -> None:
        """A connection on which nothing is ever said."""
        async with connected(self.port) as (reader, _):
            await reader.read()


async def stop_once(server: Served, seed: int) -> tuple[Counter[str], float]:
    """What became of the requests, and the seconds that stopping took."""
    crowd = Crowd(server.port, seed)
    kinds = [crowd.coming, *[crowd.staying] * STAYING, *[crowd.late] * LATE, *[crowd.silent] * SILENT]
    tasks = [asyncio.create_task(kind()) for kind in kinds]
    await asyncio.sleep(crowd.random.uniform(0.5, 1.5))
    stopping = asyncio.create_task(asyncio.to_thread(server.stop, 2 * GRACE))
    if seed % 2:
        await asyncio.sleep(crowd.random.uniform(0.05, 0.9))
        server.process.send_signal(signal.SIGTERM)
    code, seconds = await stopping
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    if code != -signal.SIGTERM:
        crowd.seen[f"exit code {code}"] += 1
    if "Traceback" in server.said():
        crowd.seen["traceback"] += 1
    return crowd.seen, seconds


def measure(times: int) -> Finding:
    """Stop so many servers."""
    seen: Counter[str] = Counter()
    longest = 0.0
    with tempfile.TemporaryDirectory() as place, on_the_other_core():
        run = untrained(Path(place))
        for seed in range(times):
            with Served(run) as server:
                found, seconds = asyncio.run(stop_once(server, seed))
            seen, longest = seen + found, max(longest, seconds)
    answered = seen.pop("answered", 0)
    return Finding(
        "11", f"SIGTERM under load, {times} times, every other time twice",
        "no accepted request lost, ended by SIGTERM (143 to a shell), stopped within the grace",
        f"{answered:,} requests answered, {seen.total()} lost"
        f"{''.join(f', {name}: {count}' for name, count in seen.items())}; stopped within {longest:.1f} s",
        not seen and answered > 0 and longest < GRACE)


if __name__ == "__main__":
    ledger.main(measure, times=20)
