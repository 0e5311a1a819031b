"""Signs of life: how a process notices that another one is lost, however long the others may work.

torchrun notices a process that ends, but not one that hangs, and a collective operation fails after its timeout, even
if the other process is late for a legitimate reason. Before training starts, one process may pack images for hours
while the others wait; later, rank 0 may wait for a slow disk. So each process writes a sign of life into the store
every few seconds. Rank 0 looks for those of the others, and the others look for that of rank 0.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from typing import Protocol

BEAT, SILENCE = 5.0, 60.0
"""Seconds between two signs of life of a process, and without one until it counts as lost."""

FIRST_PAUSE, LONGEST_PAUSE, PAUSE_GROWTH = 0.01, 0.5, 1.5
"""Seconds between two looks into the store, of a few processes. They grow, so that a wait is at most half as long again
as necessary, and with the number of processes: a thousand that wait must not keep the store from serving the others."""


class Store(Protocol):
    """What is used of `torch.distributed.Store`."""

    def set(self, key: str, value: str, /) -> None: ...
    def get(self, key: str, /) -> bytes: ...
    def multi_get(self, keys: list[str], /) -> list[bytes]: ...
    def check(self, keys: list[str], /) -> bool: ...


class PeerLostError(Exception):
    """Another process has ended, or does not respond."""

    exit_code = 1
    is_consequence = True
    """The other process failed first."""


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


def pauses(size: int) -> Iterator[float]:
    """Seconds to sleep between one look into the store and the next, of each of `size` processes."""
    pause = FIRST_PAUSE * (1 + size / 100)
    while True:
        yield pause
        pause = min(PAUSE_GROWTH * pause, LONGEST_PAUSE * (1 + size / 500))


def wait_for_keys(store: Store, keys: Mapping[int, str], size: int) -> None:
    """Wait until each of these ranks has set its key, as long as they show signs of life.

    A look is one request for all keys. It never is `get` of an absent key, which would block, and hold the store, so
    that this process's own signs of life would stop.

    Args:
        keys: of each rank that is waited for.
        size: how many processes there are, for the message.

    Raises:
        PeerLostError: if one of them has shown no sign of life for `SILENCE` seconds.
    """
    missing, looked = dict(keys), time.monotonic()
    seen = dict.fromkeys(missing, ("", looked))
    for pause in pauses(size):
        if not missing or store.check([*missing.values()]):
            return
        if time.monotonic() - looked > min(BEAT, SILENCE / 4):
            looked = time.monotonic()
            missing = {rank: key for rank, key in missing.items() if not store.check([key])}
            for rank in missing:
                beat = store.get(_key(rank)).decode() if store.check([_key(rank)]) else ""
                if beat != seen[rank][0]:
                    seen[rank] = beat, looked
                elif looked - seen[rank][1] > SILENCE:
                    raise PeerLostError(f"process {rank} of {size} has not responded for {SILENCE:.0f} seconds; check "
                                        "that its host is up, and start again")
        time.sleep(pause)


def _key(rank: int) -> str:
    return f"life/{rank}"
