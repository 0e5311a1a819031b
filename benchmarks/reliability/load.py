"""Row 10: a server at 70% of its capacity, then at 200%, then without load.

    python benchmarks/reliability/load.py --seconds 600

The capacity is measured first: 16 clients, each of which sends a request as soon as it has a response. Then the load is
an open loop: requests are sent at times of a Poisson process, whether or not earlier ones have a response, and latency
counts from those times. So a slow client hides no waiting time. The server has one core and the client another.
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
from served import (
    NO_RESPONSE,
    Response,
    ServerProcess,
    image,
    on_the_client_core,
    post,
    read_response,
    send,
    untrained_run,
)

CLIENTS = 16
"""Clients that measure the capacity."""

SETTINGS = ("input.side=160", "input.crop=144", "classes=8")
"""Of the preset small: this network takes several times as long as the HTTP part."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class ConnectionPool:
    """Sends one request repeatedly, on connections that it keeps open."""

    port: int
    request: bytes
    idle: deque[tuple[float, Connection]] = field(default_factory=deque)

    async def send(self) -> Response:
        while self.idle:
            since, (reader, writer) = self.idle.pop()
            if time.monotonic() - since < 3 and not reader.at_eof():  # far below the server's 75 seconds
                break
            writer.close()
        else:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                return NO_RESPONSE
        writer.write(self.request)
        response = await read_response(reader)
        if response == NO_RESPONSE or response.is_last:
            writer.close()
        else:
            self.idle.append((time.monotonic(), (reader, writer)))
        return response


@dataclass
class Latencies:
    """The responses of one phase.

    Attributes:
        seconds: by status, for each request, from its scheduled time to its response.
        client_delays: for each request, from its scheduled time to its start: the client's part of the latency.
    """

    seconds: dict[int, list[float]] = field(default_factory=dict)
    client_delays: list[float] = field(default_factory=list)

    def add(self, status: int, seconds: float) -> None:
        self.seconds.setdefault(status, []).append(seconds)

    def errors(self, *allowed: int) -> Counter[int]:
        """Number of responses of each status that is not allowed."""
        return Counter({status: len(each) for status, each in self.seconds.items() if status not in allowed})

    def percentile_ms(self, percent: float, status: int = 200) -> float:
        return 1e3 * float(np.percentile(self.seconds.get(status, [0.0]), percent))


async def capacity(pool: ConnectionPool, seconds: float) -> float:
    """Responses per second, with as many clients as fill the batches without a queue."""
    until, count = time.monotonic() + seconds, 0

    async def client() -> None:
        nonlocal count
        while time.monotonic() < until:
            response = await pool.send()
            count += response.status == 200

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return count / seconds


async def open_loop(pool: ConnectionPool, rate: float, seconds: float, seed: int) -> Latencies:
    """Send `rate` requests per second at random times."""
    latencies, tasks, due = Latencies(), set[asyncio.Task[None]](), time.monotonic()
    gaps, end = np.random.default_rng(seed), due + seconds

    async def send_one(due: float) -> None:
        latencies.client_delays.append(time.monotonic() - due)
        status = (await pool.send()).status
        latencies.add(status, time.monotonic() - due)

    while (due := due + gaps.exponential(1 / rate)) < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(send_one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.wait(tasks or [asyncio.create_task(asyncio.sleep(0))], timeout=60)
    for task in tasks:
        task.cancel()
        latencies.add(0, 60.0)
    return latencies


async def recovery_seconds(port: int, request: bytes, normal: float, within: float) -> float:
    """Seconds until ten responses in a row take at most `normal` seconds; infinite if not `within` the limit."""
    began, in_a_row = time.monotonic(), 0
    while in_a_row < 10:
        if time.monotonic() - began > within:
            return float("inf")
        sent = time.monotonic()
        status = (await send(port, request)).status
        in_a_row = in_a_row + 1 if status == 200 and time.monotonic() - sent < normal else 0
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def measure(seconds: float, share: float = 0.7, overload: float = 2.0, slack: float = 1.0) -> Finding:
    """Measure latency below and above the capacity.

    Args:
        seconds: duration of the load below capacity; a tenth of it above.
        share: load below capacity, as a fraction of it.
        overload: load above capacity, as a multiple of it.
        slack: factor of all time limits, for a machine with other work.
    """
    request = post(image())

    async def run(port: int) -> tuple[float, Latencies, Latencies, float]:
        pool = ConnectionPool(port, request)
        await capacity(pool, min(3.0, seconds / 4))
        rate = await capacity(pool, min(20.0, seconds / 2))
        below = await open_loop(pool, share * rate, seconds, seed=0)
        above = await open_loop(pool, overload * rate, min(60.0, max(seconds / 10, 3.0)), seed=1)
        recovery = await recovery_seconds(port, request, 5 * below.percentile_ms(50) / 1e3 * slack, 5.0 * slack)
        for _, (_, writer) in pool.idle:
            writer.close()
        return rate, below, above, recovery

    with tempfile.TemporaryDirectory() as folder, ServerProcess(
            untrained_run(Path(folder), settings=SETTINGS)) as server, on_the_client_core():
        rate, below, above, recovery = asyncio.run(run(server.port))
        with contextlib.suppress(Exception):
            server.stop(40)
    return finding(seconds, share, overload, slack, rate, below, above, recovery)


def finding(seconds: float, share: float, overload: float, slack: float, rate: float, below: Latencies,
            above: Latencies, recovery: float) -> Finding:
    """The row of the ledger."""
    failed, rejected = below.errors(200), len(above.seconds.get(503, []))
    answered = len(above.seconds.get(200, []))
    p50, p99, rejection_p99 = below.percentile_ms(50), below.percentile_ms(99), above.percentile_ms(99, 503)
    longest = above.percentile_ms(100)
    holds = (not failed and p99 <= 5 * p50 * slack and not above.errors(200, 503) and rejected > 0 and answered > 0
             and rejection_p99 <= 100 * slack and longest <= 5000 * slack and recovery <= 5 * slack)
    errors = "".join(f" ({count} times {status})" for status, count in failed.items())
    delays = " and ".join(f"{1e3 * np.percentile(phase.client_delays, 99):.0f}" for phase in (below, above))
    return Finding(
        "10", f"{share:.0%} of capacity for {seconds:g} s, then {overload:g}x capacity, then no load; open loop, a "
        "core each",
        "below: no error, p99 at most 5 x p50; above: 503 within 100 ms (p99), every other response within 5 s; after: "
        "normal within 5 s",
        f"capacity {rate:.0f} requests/s (preset small at 144 pixels, 8 classes; each a PNG of 160 x 120 pixels; the "
        f"server on one core); below: {sum(map(len, below.seconds.values())):,} requests, "
        f"{failed.total()} errors{errors}, p50 {p50:.1f} ms, p99 {p99:.1f} ms; above: {answered:,} "
        f"answered, p50 {above.percentile_ms(50):.0f} ms, at most {longest:.0f} ms, {rejected:,} times 503, p99 "
        f"{rejection_p99:.0f} ms, {above.errors(200, 503).total()} errors; normal again after {recovery:.1f} s; "
        f"the client's part of the latencies is {delays} ms (p99)", holds)


if __name__ == "__main__":
    ledger.main(measure, seconds=600.0)
