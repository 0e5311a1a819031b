"""`alexnet serve` as a process, by default on one core, and an HTTP client on plain sockets that can send any bytes."""

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
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint

CORES = sorted(os.sched_getaffinity(0))
"""The server runs on the first core, the clients on the last."""

SMALL = ("input.side=64", "input.crop=56", "classes=8")


def untrained_run(folder: Path, preset: str = "small", settings: tuple[str, ...] = SMALL) -> Path:
    """Write the checkpoint of an untrained network, which is as slow as a trained one; return `folder`."""
    made = override(arch(preset), list(settings))
    side = made.input.side if made.input.mean == "pixel" else 1
    classes = tuple(f"class {k}" for k in range(made.classes))
    checkpoint.save(Checkpoint(made, classes, AlexNet(made, 0).state_dict(), torch.full((side, side, 3), 120.0)),
                    folder / "best")
    return folder


def image(seed: int = 0, kind: str = "PNG", size: tuple[int, int] = (160, 120)) -> bytes:
    """A valid image file: colored squares."""
    colors = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(colors).resize(size, Image.Resampling.NEAREST).save(stream, kind)
    return stream.getvalue()


class ServerProcess:
    """`with ServerProcess(run) as server:` runs the server on a free port, by default with one core and one thread."""

    def __init__(self, run: Path, *options: str, cores: Sequence[int] = CORES[:1], threads: int = 1) -> None:
        self.command = [sys.executable, "-m", "alexnet", "serve", str(run), "--port", "0", "--device", "cpu", *options]
        self.cores, self.threads, self.port = cores, threads, 0

    def __enter__(self) -> ServerProcess:
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            self.command, stdout=self.log, stderr=self.log, env=os.environ | {"OMP_NUM_THREADS": str(self.threads)})
        os.sched_setaffinity(self.process.pid, self.cores)  # before it starts threads, which inherit this
        until = time.monotonic() + 120
        while not self.port:
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.output())
            self.port = int(found[1]) if found else 0
            if self.process.poll() is not None or time.monotonic() > until:
                self.process.kill()
                raise RuntimeError(f"the server did not start: {self.output()}")
            time.sleep(0.05)
        return self

    def __exit__(self, *problem: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()

    def output(self) -> str:
        """All that the server has printed."""
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), size, 0).decode()  # without a move to where the server would write then

    def stop(self, within: float) -> tuple[int, float]:
        """Send SIGTERM; return the exit code and the seconds until the exit. Raises TimeoutExpired."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within), time.monotonic() - began

    def megabytes(self, field: str = "VmRSS") -> float:
        """Memory of the process and of its worker processes: VmRSS is the current use, VmHWM the peak of each."""
        pid, kilobytes = self.process.pid, 0
        workers = [child for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]
        for process in (pid, *workers):
            with contextlib.suppress(OSError, TypeError):  # it may have ended
                kilobytes += _kilobytes(process, field)
        return kilobytes / 1024

    def own_megabytes(self, field: str = "VmRSS") -> float:
        """As `megabytes`, without the worker processes."""
        return _kilobytes(self.process.pid, field) / 1024


def _kilobytes(pid: int | str, field: str) -> int:
    """Memory of one process. Raises OSError if there is none, and TypeError for one that is ending."""
    return int(re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])  # type: ignore[index]


@contextlib.contextmanager
def on_the_client_core() -> Iterator[None]:
    """Run this thread on another core than the server."""
    former = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES[-1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, former)


@dataclass(frozen=True)
class Response:
    """An HTTP response.

    Attributes:
        status: HTTP status code; 0: none.
        body: the bytes of the body.
        is_last: whether the server closes the connection after it (`Connection: close`).
    """

    status: int
    body: bytes
    is_last: bool = False


NO_RESPONSE = Response(0, b"")
"""The connection ended before a whole response arrived."""


def post(body: bytes, path: str = "/predict", kind: str = "image/png", *headers: str) -> bytes:
    """The bytes of a POST request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", f"Content-Length: {len(body)}",
             *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def read_response(reader: asyncio.StreamReader) -> Response:
    """Read the next response on a connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100"):
            head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        return Response(int(head[9:12]), await (reader.readexactly(int(length[1])) if length else reader.read()),
                     b"\r\nconnection: close" in head.lower())
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return NO_RESPONSE


@contextlib.asynccontextmanager
async def connect(
    port: int, source: str = "127.0.0.1",
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is closed at the end of the context; on Linux, `source` may be any address of 127.0.0.0/8."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def send(port: int, request: bytes, source: str = "127.0.0.1") -> Response:
    """Send a request on a connection of its own; return the response."""
    async with connect(port, source) as (reader, writer):
        writer.write(request)
        return await read_response(reader)
