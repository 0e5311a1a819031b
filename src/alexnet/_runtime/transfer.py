"""Receives bytes from a server in a thread, with limits on time: nothing that the server does can hold the caller.

A timeout of a socket limits a single read. It does not limit a name server that does not answer, headers that arrive
byte by byte, or a body that never ends.
"""

from __future__ import annotations

import http.client
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from alexnet.errors import UserError

BLOCK_SECONDS = 30.0
"""From a request to its answer, and from one block of it to the next."""

STALL_BYTES = 20_000
"""A download that does not receive so many bytes within the seconds of its `Pace` has stalled."""

_QUEUED_BLOCKS = 4


class TransferError(Exception):
    """The connection failed, or is too slow: the same request may succeed later."""


class UnavailableError(UserError):
    """The server does not answer, or fails: the same request may succeed later."""


@dataclass(frozen=True)
class Answer:
    """What a server sends of a file.

    Attributes:
        blocks: the bytes.
        start: offset of their first byte in the file.
        total: bytes of the whole file; None: the server does not say.
        is_past_end: the file has no bytes from the requested offset on.
    """

    blocks: Iterator[bytes]
    start: int = 0
    total: int | None = None
    is_past_end: bool = False


Open = Callable[[], AbstractContextManager[Answer]]
"""Makes a request; the connection is closed when the context ends. It runs in another thread."""


@contextmanager
def receiving(open_answer: Open, seconds: float = BLOCK_SECONDS) -> Iterator[Answer]:
    """The answer to a request, which a thread makes and reads.

    When the block is left, the thread ends with its next byte or timeout.

    Args:
        seconds: to wait for the answer, and for each block.

    Raises:
        TransferError: the connection fails, or nothing arrives for `seconds`. Reading the blocks may raise it too.
        UserError: what `open_answer` raises.
    """
    received: queue.Queue[Any] = queue.Queue(_QUEUED_BLOCKS)
    stopped = threading.Event()

    def put(item: object) -> bool:
        """Whether the item is wanted."""
        while not stopped.is_set():
            try:
                received.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def receive() -> None:
        try:
            with open_answer() as answer:
                if put(answer) and all(map(put, filter(None, answer.blocks))):
                    put(None)
        except Exception as error:
            put(error)

    def take() -> Any:  # an Answer, then bytes, then None
        try:
            item = received.get(timeout=seconds)
        except queue.Empty:
            raise TransferError(f"nothing arrived for {seconds:g} seconds") from None
        if isinstance(item, OSError | http.client.HTTPException):
            reason = getattr(item, "reason", None) or item  # of urllib's URLError
            raise TransferError(" ".join(str(reason).split()) or type(reason).__name__) from item
        if isinstance(item, Exception):
            raise item
        return item

    threading.Thread(target=receive, daemon=True, name="download").start()
    try:
        answer = take()
        yield replace(answer, blocks=iter(take, None))
    finally:
        stopped.set()


class Pace:
    """Checks that a download gets on: at least `STALL_BYTES` in each `seconds` of a connection.

    Attributes:
        progress: how often `STALL_BYTES` have arrived.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.progress = seconds, 0
        self.connect()

    def connect(self) -> None:
        """A new connection begins."""
        self._since, self._bytes = time.monotonic(), 0

    def count(self, block_bytes: int) -> None:
        """Count bytes that have arrived. Raises TransferError if the connection is too slow."""
        self._bytes += block_bytes
        now = time.monotonic()
        if self._bytes >= STALL_BYTES:
            self.progress += 1
            self.connect()
        elif now - self._since > self.seconds:
            raise TransferError(f"{self._bytes:,} bytes in {now - self._since:.0f} seconds")


def read_all(answer: Answer, limit: int, pace: Pace) -> bytes | None:
    """All bytes of an answer; None if they are more than `limit`, of which the rest is not received.

    Raises:
        TransferError: the connection fails, the answer ends too early, or the download stalls.
    """
    blocks, size = [], 0
    for block in answer.blocks:
        size += len(block)
        if size > limit:
            return None
        pace.count(len(block))
        blocks.append(block)
    if answer.total is not None and size < answer.total:
        raise TransferError(f"cut off after {size:,} of {answer.total:,} bytes")
    return b"".join(blocks)
