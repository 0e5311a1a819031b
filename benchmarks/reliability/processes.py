"""Row 24: `alexnet serve --processes N` with one thread each, against one process with N threads.

    python benchmarks/reliability/processes.py

Both servers run on all cores of the machine, and the client with them, which takes the same from both. They take turns,
round by round; meanwhile the other one is idle. In a turn 16 clients send one photo each, and the next one as soon as
they have the response, on connections that are new in each turn. A ratio is the median over the rounds of
`--processes N` / one process, with its lowest and highest value.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import ledger
from ledger import Finding
from load import CLIENTS, ConnectionPool, capacity
from served import CORES, ServerProcess, image, post, send, untrained_run

NETWORKS = {"small at 56 pixels": ("small", ("input.side=64", "input.crop=56", "classes=200")), "paper": ("paper", ())}
"""One that takes a part of the time of decoding and HTTP, and one that takes nearly all of it."""

PHOTO = (500, 375)
"""Pixels of the JPEG file that is sent: ImageNet's usual size."""


async def until_ready(port: int) -> None:
    """Wait until all processes of a server accept connections."""
    until = time.monotonic() + 120
    while (await send(port, b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")).status != 200:
        if time.monotonic() > until:
            raise RuntimeError("the server did not become ready")
        await asyncio.sleep(0.1)


def rate(port: int, seconds: float) -> float:
    """Responses per second to the clients of one turn."""
    async def turn() -> float:
        pool = ConnectionPool(port, post(image(kind="JPEG", size=PHOTO), kind="image/jpeg"))
        answered = await capacity(pool, seconds)
        for _, (_, writer) in pool.idle:
            writer.close()
        return answered

    return asyncio.run(turn())


def compare(run: Path, processes: int, rounds: int, seconds: float) -> tuple[list[float], list[float]]:
    """The rates of each round: of one process, and of several."""
    with ExitStack() as stack:
        one, several = (stack.enter_context(ServerProcess(run, *options, cores=CORES, threads=threads))
                        for options, threads in (((), processes), (("--processes", str(processes)), 1)))
        for server in (one, several):
            asyncio.run(until_ready(server.port))
            rate(server.port, seconds / 2)
        pairs = [(rate(one.port, seconds), rate(several.port, seconds)) for _ in range(rounds)]
        for server in (one, several):
            server.stop(40)
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def spread(values: Sequence[float], form: str) -> str:
    """The median, and in parentheses the lowest and the highest value."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def measure(processes: int, rounds: int, seconds: float) -> Finding:
    """Compare the throughput of several server processes with that of one.

    Args:
        processes: of the one server; threads of the other.
        rounds: in each of which both servers have a turn.
        seconds: duration of a turn.
    """
    found, holds = [], True
    for name, (preset, settings) in NETWORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            one, several = compare(untrained_run(Path(folder), preset, settings), processes, rounds, seconds)
        ratios = [b / a if a else 0.0 for a, b in zip(one, several, strict=True)]
        holds = holds and statistics.median(ratios) >= 1
        found.append(f"{name}: {spread(one, '.0f')} and {spread(several, '.0f')} requests/s, ratio "
                     f"{spread(ratios, '.2f')}")
    return Finding(
        "24", f"`alexnet serve` with {processes} threads, and `--processes {processes}` with a thread each; "
        f"{CLIENTS} clients on the same cores send a JPEG photo of {PHOTO[0]} x {PHOTO[1]} pixels each; {rounds} turns "
        f"of {seconds:g} s each", f"the {processes} processes answer at least as many requests per second",
        "; ".join(found), holds)


if __name__ == "__main__":
    ledger.main(measure, processes=2, rounds=5, seconds=5.0)
