"""Signs of life: how a process notices that another one is lost, however long the others may work.

torchrun notices a process that ends, but not one that hangs, and a collective operation fails after its timeout,
however good the reason for which another process is late. Before training starts, one process may pack images for
hours while the others wait. So each process writes a sign of life into the store every few seconds, and the others look
for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from typing import Protocol

BEAT, SILENCE = 5.0, 60.0
"""Seconds between two signs of life of a process, and without one until it counts as lost."""


class Store(Protocol):
    """What is used of `torch.distributed.Store`."""

    def set(self, key: str, value: str, /) -> None: ...
    def get(self, key: str, /) -> bytes: ...
    def check(self, keys: list[str], /) -> bool: ...


class PeerLostError(Exception):
    """Another process has ended, or does not respond."""

    exit_code = 1


@contextmanager
def signs_of_life(store: Store, rank: int) -> Iterator[None]:
    """Write signs of life of this process into the store, in a thread, as long as the context lasts."""
    ended = threading.Event()

    def beat() -> None:
        with suppress(RuntimeError):  # the store is gone, which the other processes notice by themselves
            for number in count(1):
                if ended.wait(BEAT):
                    return
                store.set(_key(rank), str(number))

    store.set(_key(rank), "0")  # not in the thread, which may wait long for its turn with the store
    thread = threading.Thread(target=beat, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def wait_for_keys(store: Store, keys: Sequence[str]) -> None:
    """Wait until every process has set its key (one for each rank), as long as they show signs of life.

    Raises:
        PeerLostError: if one of them has shown none for `SILENCE` seconds.
    """
    beats, since = [""] * len(keys), [time.monotonic()] * len(keys)
    while missing := [rank for rank, key in enumerate(keys) if not store.check([key])]:
        for rank in missing:
            # `get` of an absent key blocks, and holds the store, so that this process's own signs of life would stop.
            present = store.check([_key(rank)])
            beat = store.get(_key(rank)).decode() if present else ""
            if beat != beats[rank]:
                beats[rank], since[rank] = beat, time.monotonic()
            elif time.monotonic() - since[rank] > SILENCE:
                raise PeerLostError(f"process {rank} of {len(keys)} has given no sign of life for {SILENCE:.0f} "
                                    "seconds; see whether its host is up, and start again")
        time.sleep(0.02)


def _key(rank: int) -> str:
    return f"life/{rank}"
