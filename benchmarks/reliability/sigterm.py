"""Row 11: a server under load receives SIGTERM; no accepted request may be lost.

    python benchmarks/reliability/sigterm.py --times 20

Four kinds of clients: one connection for each request; one connection for many requests; the second half of a request
sent late; an idle connection. A client that has sent a whole request before it sees the connection closed must receive
200 or 503, and most must receive 200. Every other time the signal is sent twice. Every fourth server has `--drain`:
until it closes its port, `/ready` responds 503 and new connections are answered. Every third server reloads its
checkpoint under the load: in turn, SIGTERM is sent after it has said so, and about a second after SIGHUP, when the
reload may not have ended and may be dropped.
"""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
import time
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
    send,
    untrained_run,
)

PERSISTENT, LATE, IDLE = 6, 3, 3
"""Clients of each kind. Clients with a connection for each request come 60 times a second."""

SHUTDOWN_SECONDS = 25.0
"""Time in which the server must exit, `--drain` included: Kubernetes kills after 30."""

RELOAD_SECONDS = 30.0
"""Time in which a reload must take place under load."""

RELOADED = "reloaded alexnet: weights"
"""A line that the server prints after each reload."""

READY = b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Load:
    """All clients of one server, and a count of what each request received."""

    def __init__(self, port: int, seed: int) -> None:
        self.port, self.request, self.random = port, post(image()), np.random.default_rng(seed)
        self.outcomes: Counter[str] = Counter()
        self.is_closed = asyncio.Event()
        """Set once the server accepts no connections."""

    def count(self, kind: str, response: Response) -> None:
        if response.status == 200:
            self.outcomes["answered"] += 1
        elif response.status == 503:
            self.outcomes["rejected"] += 1
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


async def check_drain(load: Load, seconds: float) -> None:
    """Wait until `/ready` says that the server stops; then send a request on a new connection."""
    until, answer = time.monotonic() + seconds, NO_RESPONSE
    try:
        while answer.status != 503 or json.loads(answer.body)["status"] != "stopping":
            if time.monotonic() > until:
                load.outcomes["/ready did not say stopping"] += 1
                return
            answer = await send(load.port, READY)
            await asyncio.sleep(0.05)
        load.count("while draining", await send(load.port, load.request))
        load.outcomes["drained"] += 1
    except ConnectionError:
        load.outcomes["port closed before the end of --drain"] += 1


async def ask_for_reload(server: ServerProcess, load: Load, waits: bool) -> None:
    """Send SIGHUP, and wait until the server says that it has reloaded."""
    server.process.send_signal(signal.SIGHUP)
    load.outcomes["reloads asked for"] += 1
    until = time.monotonic() + RELOAD_SECONDS
    while waits and RELOADED not in server.output():
        if time.monotonic() > until:
            load.outcomes[f"no reload within {RELOAD_SECONDS:g} s"] += 1
            return
        await asyncio.sleep(0.05)


async def stop_once(server: ServerProcess, seed: int, drain: float) -> tuple[Counter[str], float]:
    """Stop a server under load.

    Args:
        server: under test.
        seed: chooses the random times; odd: the signal is sent twice; a multiple of 3: SIGHUP is sent before; of 6:
            and SIGTERM only after the reload.
        drain: the server's `--drain`, above 0 if it is to be checked.

    Returns:
        The outcomes of the requests, and the seconds until the exit.
    """
    load = Load(server.port, seed)
    kinds = [load.single, *[load.persistent] * PERSISTENT, *[load.late] * LATE, *[load.idle] * IDLE]
    tasks = [asyncio.create_task(kind()) for kind in kinds]
    if seed % 3 == 0:
        await asyncio.sleep(load.random.uniform(0, 0.5))
        await ask_for_reload(server, load, waits=seed % 6 == 0)
    await asyncio.sleep(load.random.uniform(0.5, 1.5))
    stopping = asyncio.create_task(asyncio.to_thread(server.stop, 2 * SHUTDOWN_SECONDS))
    if drain:
        tasks.append(asyncio.create_task(check_drain(load, drain)))
    if seed % 2:
        await asyncio.sleep(load.random.uniform(0.05, 0.9))
        server.process.send_signal(signal.SIGTERM)
    code, seconds = await stopping
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    if code != -signal.SIGTERM:
        load.outcomes[f"exit code {code}"] += 1
    output = server.output()
    load.outcomes["reloaded"] = output.count(RELOADED)
    for word in ("Traceback", "reload failed"):
        if word in output:
            load.outcomes[word] += 1
    return load.outcomes, seconds


def measure(times: int, drain: float) -> Finding:
    """Start and stop a server `times` times.

    Args:
        times: how often.
        drain: `--drain` of every fourth server, in seconds.
    """
    outcomes: Counter[str] = Counter()
    longest = 0.0
    with tempfile.TemporaryDirectory() as folder, on_the_client_core():
        run = untrained_run(Path(folder))
        for seed in range(times):
            own = drain * (seed % 8 in (0, 5))  # every fourth, in turn with one signal and with two
            with ServerProcess(run, *(["--drain", f"{own:g}"] if own else [])) as server:
                counted, seconds = asyncio.run(stop_once(server, seed, own))
            outcomes, longest = outcomes + counted, max(longest, seconds)
    answered, rejected, drained, asked, reloaded = (
        outcomes.pop(name, 0) for name in ("answered", "rejected", "drained", "reloads asked for", "reloaded"))
    return Finding(
        "11", f"SIGTERM under load, {times} times, every other time twice, every fourth with --drain {drain:g}, every "
        "third after SIGHUP, and every other of these only after its reload",
        f"no accepted request lost, most answered with 200; exit by SIGTERM (143 in a shell) within "
        f"{SHUTDOWN_SECONDS:g} s; while draining, /ready is 503 and new connections are answered; a reload that is "
        f"waited for takes place within {RELOAD_SECONDS:g} s",
        f"{answered:,} requests answered with 200 and {rejected:,} with 503, {drained} servers drained, {asked} "
        f"asked to reload, {reloaded} reloaded before they stopped, {outcomes.total()} lost"
        f"{''.join(f', {name}: {count}' for name, count in outcomes.items())}; longest shutdown {longest:.1f} s",
        not outcomes and answered > rejected and longest < SHUTDOWN_SECONDS)


if __name__ == "__main__":
    ledger.main(measure, times=20, drain=5.0)
