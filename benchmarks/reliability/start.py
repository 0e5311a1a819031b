"""Row 22: the start of many ranks, as far as they meet and agree through one TCPStore.

    TORCH_CPP_LOG_LEVEL=ERROR python benchmarks/reliability/start.py [--ranks 1024] [--former 64] [--no-record]

Each rank is a thread with a connection of its own, 128 of them to a process. All of them meet, show signs of life, and
make the exchanges of texts that `alexnet train` makes until its first step, and its last one. gloo's and NCCL's own
connections are not part of this: they are torch's. Requests are counted where a rank sends them. The log level keeps
torch from printing every address whose name it has not found.

With the former protocol, where every rank looked for and read the key of every other, the number of requests grows with
the square of the number of ranks: `--former 64` takes 13 s, and 256 take minutes. With so many ranks it is measured;
for the number of --ranks the fewest requests that it can make are counted.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from os import environ

import ledger
import torch.distributed as dist
from ledger import Finding

from alexnet.training.parallel.liveness import Store, signs_of_life
from alexnet.training.parallel.process_group import ProcessGroup
from alexnet.training.parallel.rendezvous import meet
from alexnet.training.parallel.text_exchange import Decide, Post

LIMIT_SECONDS = 60.0

RANKS_IN_A_PROCESS = 128

BARRIERS = 9
"""Stretches that all ranks complete before the first step of a run that is resumed: device, usable folder, run to
resume, its division, its groups, data packed, checks of the build, end of the preparation, log.
tests/robustness/test_start.py counts those of a real start. NCCL has one more, for the identities of the GPUs."""

AGREEMENTS = ("version", "network", "recipe", "data", "seed", "precision", "--parallel or --micro-batch")
"""What all ranks must have been started with. The former protocol exchanged one after the other."""


class CountingStore:
    """A rank's connection to the store, whose keys begin with a prefix; counts the requests."""

    def __init__(self, store: dist.Store, prefix: str) -> None:
        self.store, self.requests = dist.PrefixStore(prefix, store), 0

    def set(self, key: str, value: str) -> None:
        self.requests += 1
        self.store.set(key, value)

    def get(self, key: str) -> bytes:
        self.requests += 1
        return self.store.get(key)

    def multi_get(self, keys: list[str]) -> list[bytes]:
        self.requests += 1
        return self.store.multi_get(keys)

    def check(self, keys: list[str]) -> bool:
        self.requests += 1
        return self.store.check(keys)

    def add(self, key: str, amount: int) -> int:
        self.requests += 1
        return self.store.add(key, amount)

    def wait(self, keys: list[str], timeout: timedelta) -> None:
        self.requests += 1
        self.store.wait(keys, timeout)


class FormerExchange:
    """The protocol until now, to compare with: every rank waits for the keys of all, one by one, and reads them."""

    def __init__(self, rank: int, size: int, store: Store) -> None:
        self.rank, self.size, self.store, self.turns = rank, size, store, 0

    def exchange(self, post: Post, decide: Decide) -> str:
        self.turns += 1
        keys = [f"{self.turns}/{rank}" for rank in range(self.size)]
        self.store.set(keys[self.rank], json.dumps(post))
        while missing := [rank for rank, key in enumerate(keys) if not self.store.check([key])]:
            for rank in missing:
                if self.store.check([f"life/{rank}"]):
                    self.store.get(f"life/{rank}")
            time.sleep(0.02)
        return decide([json.loads(self.store.get(key))["text"] for key in keys])


def fewest_former_requests(ranks: int) -> int:
    """What the former protocol makes if all ranks are equally fast: in a turn each sets its key, and looks once for the
    key of every rank, and reads it.
    """
    turns = BARRIERS - 1 + len(AGREEMENTS) + 1 + 1
    return turns * ranks * (1 + 2 * ranks)


def start(rank: int, ranks: int, stores: tuple[CountingStore, CountingStore], former: bool) -> list[str]:
    """What one rank does. Returns the texts of all, from the last exchange."""
    meeting, store = stores
    number = meet(meeting, rank, ranks)  # type: ignore[arg-type]
    group = ProcessGroup(rank, ranks, store=store, start=number)
    if former:
        group._texts = FormerExchange(rank, ranks, store)  # type: ignore[assignment]
    with signs_of_life(store, rank):
        for _ in range(BARRIERS - 1):
            with group.error_barrier():
                pass
        tree = {"arch": "paper", "recipe": ["a field"] * 100}
        if former:
            for what in AGREEMENTS:
                group.require_same_on_all_ranks({what: tree})
        else:
            group.require_same_on_all_ranks(dict.fromkeys(AGREEMENTS, tree))
        texts = group.all_gather_text(str(rank))  # in place of the last stretch before the first step
        with group.error_barrier():  # the end: rank 0 keeps the store, so all must have read before it ends
            pass
    return texts


def one_group(connection: Connection, first: int, count: int, ranks: int, former: bool) -> None:
    """A process with some of the ranks, a thread for each. Receives the port, and then the word to begin."""
    port = connection.recv()

    def connected(_: int) -> tuple[CountingStore, CountingStore]:
        client = dist.TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(minutes=10))
        return CountingStore(client, "alexnet"), CountingStore(client, "texts")

    with ThreadPoolExecutor(count) as pool:
        stores = list(pool.map(connected, range(count)))
        connection.send("ready")
        connection.recv()
        results = list(pool.map(lambda number: start(first + number, ranks, stores[number], former), range(count)))
    expected = [str(rank) for rank in range(ranks)]
    connection.send((sum(store.requests for both in stores for store in both),
                     sum(texts != expected for texts in results)))


def simulate(ranks: int, former: bool) -> tuple[float, float, int, int]:
    """Start this many ranks.

    Returns:
        Seconds until all are connected, and from then until all have started; requests; and how many ranks received
        other texts than were sent.
    """
    # A TCPStore asks DNS for the name of each address that connects, and a rank for that of the store's: also for
    # 127.0.0.1, written as ::ffff:127.0.0.1. A resolver that drops some of so many requests costs 5 seconds for each.
    environ.setdefault("RES_OPTIONS", "timeout:1 attempts:1")
    context = get_context("fork")  # torch is imported once
    groups = []
    for first in range(0, ranks, RANKS_IN_A_PROCESS):
        ours, theirs = context.Pipe()
        count = min(RANKS_IN_A_PROCESS, ranks - first)
        context.Process(target=one_group, args=(theirs, first, count, ranks, former), daemon=True).start()
        groups.append(ours)
    began = time.monotonic()
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(minutes=10))
    for group in groups:
        group.send(server.port)
    for group in groups:
        group.recv()
    connected, began = time.monotonic() - began, time.monotonic()
    for group in groups:
        group.send("begin")
    results = [group.recv() for group in groups]
    seconds = time.monotonic() - began
    return connected, seconds, sum(requests for requests, _ in results), sum(wrong for _, wrong in results)


def measure(ranks: int, former: int = 0) -> Finding:
    """Start ranks and count.

    Args:
        ranks: how many.
        former: how many to start with the former protocol, too, to compare with.
    """
    connected, seconds, requests, wrong = simulate(ranks, former=False)
    compared = ""
    if former:
        _, former_seconds, former_requests, _ = simulate(former, former=True)
        compared = (f"; the former protocol took {former_seconds:.1f} s and {former_requests:,} requests "
                    f"({former_requests / former:,.0f} a rank) for {former:,} ranks, and makes at least "
                    f"{fewest_former_requests(ranks):,} for {ranks:,}")
    return Finding(
        "22", f"the start of {ranks:,} ranks, each with a connection to one TCPStore",
        f"all receive the same; within {LIMIT_SECONDS:.0f} s; at most 100 requests a rank",
        f"{seconds:.1f} s after {connected:.1f} s to connect, {requests:,} requests ({requests / ranks:.0f} a rank), "
        f"{wrong} ranks wrong{compared}",
        not wrong and connected + seconds < LIMIT_SECONDS and requests <= 100 * ranks)


if __name__ == "__main__":
    ledger.main(measure, ranks=256, former=0)
