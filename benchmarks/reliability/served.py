"""A server to torment, in a process of its own, and a client of bare sockets that can send it anything."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from alexnet.architecture.overrides import override
from alexnet.architecture.presets import arch
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint

CORES = sorted(os.sched_getaffinity(0))
"""The server gets the first, whoever asks the last."""

SMALL = ("input.side=64", "input.crop=56", "classes=8")


def untrained(folder: Path, preset: str = "small", settings: tuple[str, ...] = SMALL) -> Path:
    """A network as it begins: it answers as slowly as a trained one."""
    made = override(arch(preset), list(settings))
    side = made.input.side if made.input.mean == "pixel" else 1
    classes = tuple(f"class {k}" for k in range(made.classes))
    checkpoint.save(Checkpoint(made, classes, AlexNet(made, 0).state_dict(), torch.full((side, side, 3), 120.0)),
                    folder / "best")
    return folder


def image(seed: int = 0, kind: str = "PNG", size: tuple[int, int] = (160, 120)) -> bytes:
    """A picture that is sound: squares of colors."""
    colors = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(colors).resize(size, Image.Resampling.NEAREST).save(stream, kind)
    return stream.getvalue()


class Served:
    """`with Served(run) as server:` a server of that checkpoint on a free port, bound to one core."""

    def __init__(self, run: Path, *options: str) -> None:
        self.command = [sys.executable, "-m", "alexnet", "serve", str(run), "--port", "0", "--device", "cpu", *options]
        self.port = 0

    def __enter__(self) -> Served:
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            self.command, stdout=self.log, stderr=self.log, env=os.environ | {"OMP_NUM_THREADS": "1"})
        os.sched_setaffinity(self.process.pid, CORES[:1])  # long before it has other threads, which follow
        until = time.monotonic() + 120
        while not self.port:
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.said())
            self.port = int(found[1]) if found else 0
            if self.process.poll() is not None or time.monotonic() > until:
                self.process.kill()
                raise RuntimeError(f"the server did not start: {self.said()}")
            time.sleep(0.05)
        return self

    def __exit__(self, *problem: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def stop(self, within: float) -> tuple[int, float]:
        """SIGTERM: the exit code, and the seconds until it came. Raises TimeoutExpired."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within), time.monotonic() - began

    def megabytes(self, what: str = "VmRSS") -> float:
        """Of the process, now; of VmHWM, at most ever."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{what}:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


@contextlib.contextmanager
def on_the_other_core() -> Iterator[None]:
    """This thread leaves the server its core."""
    former = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES[-1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, former)


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    closing: bool = False
    """Whether the server says that it takes no other request on this connection."""


LOST = Reply(0, b"")
"""Where the connection ended before a whole answer had come."""


def post(body: bytes, path: str = "/predict", kind: str = "image/png", *headers: str) -> bytes:
    """The bytes of a request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", f"Content-Length: {len(body)}",
             *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def reply(reader: asyncio.StreamReader) -> Reply:
    """The next answer on a connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100"):
            head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        return Reply(int(head[9:12]), await (reader.readexactly(int(length[1])) if length else reader.read()),
                     b"\r\nconnection: close" in head.lower())
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return LOST


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(port: int, request: bytes) -> Reply:
    """The answer to a request on a connection of its own."""
    async with connected(port) as (reader, writer):
        writer.write(request)
        return await reply(reader)
