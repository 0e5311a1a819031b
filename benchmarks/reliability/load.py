"""Row 10: a server at 70% of what it can do, then at twice that, then left in peace.

    python benchmarks/reliability/load.py --seconds 600

What it can do is measured first, by 16 clients who ask again as soon as they are answered. Then requests are sent at
times drawn beforehand (a Poisson process), whether or not earlier ones have been answered, and their seconds count from
those times, so that no wait hides in a client that waits itself. The server has one core and the client another.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import ledger
import numpy as np
from ledger import Finding
from served import LOST, Reply, Served, ask, image, on_the_other_core, post, reply, untrained

CLOSED = 16
"""Clients that measure the capacity."""

NETWORK = ("input.side=160", "input.crop=144", "classes=8")
"""Of the preset small: one that takes several times as long as HTTP itself does."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Client:
    """Asks over connections that it keeps, as many as it takes."""

    port: int
    request: bytes
    idle: deque[tuple[float, Connection]] = field(default_factory=deque)

    async def ask(self) -> Reply:
        while self.idle:
            since, (reader, writer) = self.idle.pop()
            if time.monotonic() - since < 3 and not reader.at_eof():  # the server keeps them for 5 seconds
                break
            writer.close()
        else:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                return LOST
        writer.write(self.request)
        got = await reply(reader)
        if got == LOST or got.closing:
            writer.close()
        else:
            self.idle.append((time.monotonic(), (reader, writer)))
        return got


@dataclass
class Seen:
    """What became of the requests of a phase."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    """By status, each from the time at which it was to be sent."""
    late: list[float] = field(default_factory=list)
    """Seconds by which each was sent too late: the client's own share."""

    def add(self, status: int, seconds: float) -> None:
        self.seconds.setdefault(status, []).append(seconds)

    def errors(self, *allowed: int) -> Counter[int]:
        return Counter({status: len(each) for status, each in self.seconds.items() if status not in allowed})

    def ms(self, percent: float, status: int = 200) -> float:
        return 1e3 * float(np.percentile(self.seconds.get(status, [0.0]), percent))


async def capacity(client: Client, seconds: float) -> float:
    """Answers a second, asked by as many clients as make full batches and no queue."""
    until, answered = time.monotonic() + seconds, 0

    async def one() -> None:
        nonlocal answered
        while time.monotonic() < until:
            got = await client.ask()
            answered += got.status == 200

    await asyncio.gather(*(one() for _ in range(CLOSED)))
    return answered / seconds


async def open_loop(client: Client, rate: float, seconds: float, seed: int) -> Seen:
    """Requests at drawn times, whatever becomes of those before."""
    seen, tasks, due = Seen(), set[asyncio.Task[None]](), time.monotonic()
    gaps, end = np.random.default_rng(seed), due + seconds

    async def one(due: float) -> None:
        seen.late.append(time.monotonic() - due)
        status = (await client.ask()).status
        seen.add(status, time.monotonic() - due)

    while (due := due + gaps.exponential(1 / rate)) < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.wait(tasks or [asyncio.create_task(asyncio.sleep(0))], timeout=60)
    for task in tasks:
        task.cancel()
        seen.add(0, 60.0)
    return seen


async def recovered(port: int, request: bytes, normal: float, within: float) -> float:
    """Seconds until ten answers in a row have come in normal time; infinite where they do not within the limit."""
    began, row = time.monotonic(), 0
    while row < 10:
        if time.monotonic() - began > within:
            return float("inf")
        sent = time.monotonic()
        status = (await ask(port, request)).status
        row = row + 1 if status == 200 and time.monotonic() - sent < normal else 0
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def measure(seconds: float, share: float = 0.7, times: float = 2.0, slack: float = 1.0) -> Finding:
    """seconds: of the load below capacity; a tenth of it above. share, times: of capacity. slack: what the limits of
    time are multiplied by."""
    request = post(image())

    async def go(port: int) -> tuple[float, Seen, Seen, float]:
        client = Client(port, request)
        await capacity(client, min(3.0, seconds / 4))
        most = await capacity(client, min(20.0, seconds / 2))
        calm = await open_loop(client, share * most, seconds, seed=0)
        storm = await open_loop(client, times * most, min(60.0, max(seconds / 10, 3.0)), seed=1)
        back = await recovered(port, request, 5 * calm.ms(50) / 1e3 * slack, 5.0 * slack)
        for _, (_, writer) in client.idle:
            writer.close()
        return most, calm, storm, back

    with tempfile.TemporaryDirectory() as place, Served(
            untrained(Path(place), settings=NETWORK)) as server, on_the_other_core():
        most, calm, storm, back = asyncio.run(go(server.port))
        with contextlib.suppress(Exception):
            server.stop(40)
    failed, refused = calm.errors(200), len(storm.seconds.get(503, []))
    answered = len(storm.seconds.get(200, []))
    holds = (not failed and calm.ms(99) <= 5 * calm.ms(50) * slack and not storm.errors(200, 503) and refused > 0
             and answered > 0 and storm.ms(99, 503) <= 100 * slack and storm.ms(100) <= 5000 * slack
             and back <= 5 * slack)
    errors = "".join(f" ({count} times {status})" for status, count in failed.items())
    late = " and ".join(f"{1e3 * np.percentile(phase.late, 99):.0f}" for phase in (calm, storm))
    return Finding(
        "10", f"{share:.0%} of capacity for {seconds:g} s, then {times:g} times it, then peace; open loop, a core each",
        "below: no error, p99 at most 5 x p50; above: 503 within 100 ms (p99), every other answer within 5 s; after: "
        "normal within 5 s",
        f"capacity {most:.0f} requests a second; below: {sum(map(len, calm.seconds.values())):,} requests, "
        f"{failed.total()} errors{errors}, p50 {calm.ms(50):.1f} ms, p99 {calm.ms(99):.1f} ms; above: {answered:,} "
        f"answered, p50 {storm.ms(50):.0f} ms, at most {storm.ms(100):.0f} ms, {refused:,} times 503, p99 "
        f"{storm.ms(99, 503):.0f} ms, {storm.errors(200, 503).total()} errors; normal again after {back:.1f} s; of "
        f"these, the client's own share is {late} ms (p99)", holds)


if __name__ == "__main__":
    ledger.main(measure, seconds=600.0)
