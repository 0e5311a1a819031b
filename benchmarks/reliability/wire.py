"""The server without sockets: bytes of a connection in, the statuses of the responses out."""

from __future__ import annotations

import asyncio
import atexit
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from attack import DISPOSITIONS, FORM, STATUSES, chunked, form
from served import image, post, untrained_run
from uvicorn.server import ServerState

from alexnet.inference.predictor import load
from alexnet.serving.app import create_app
from alexnet.serving.limits import Limits
from alexnet.serving.middleware import allowed_hosts
from alexnet.serving.samples import sample_images
from alexnet.serving.served_model import ServedModel
from alexnet.serving.server import ServerConfig, TimeoutProtocol
from alexnet.serving.service import Service


class Transport(asyncio.Transport):
    """Records what the server writes to a connection."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.writes: list[bytes] = []
        self.closing = False

    def write(self, data: Any) -> None:
        if not self.closing:
            self.writes.append(bytes(data))

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Wire:
    """A server of a small network. Each call of `statuses` is one connection."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.errors: list[str] = []
        self.loop.set_exception_handler(lambda _, context: self.errors.append(str(context)))
        with tempfile.TemporaryDirectory() as folder:
            model = load(untrained_run(Path(folder)))
        service = Service([ServedModel(model, samples=sample_images(None))], hosts=allowed_hosts("127.0.0.1"))
        self.config = ServerConfig(create_app(service), Limits())
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        self.loop.run_until_complete(self.lifespan.startup())

    def statuses(self, data: bytes) -> list[int]:
        """The statuses of the responses to the bytes of a connection, which the client then closes."""
        return self.loop.run_until_complete(self._statuses(data))

    async def _statuses(self, data: bytes) -> list[int]:
        state, transport = ServerState(), Transport()
        connection = TimeoutProtocol(self.config, state, self.lifespan.state, self.loop)
        connection.connection_made(transport)
        while data and not transport.closing:
            buffer = connection.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size], data = data[:size], data[size:]
            connection.buffer_updated(size)
            await asyncio.sleep(0)
        if not transport.closing and connection.eof_received():
            await asyncio.wait(state.tasks)
        connection.connection_lost(None)
        if state.tasks:
            await asyncio.wait(state.tasks)
        return [int(write[9:12]) for write in transport.writes if re.match(rb"HTTP/1\.1 [2-9]\d\d ", write)]

    def close(self) -> None:
        self.loop.run_until_complete(self.lifespan.shutdown())
        self.loop.close()


@cache
def wire() -> Wire:
    """The one server of this process."""
    made = Wire()
    atexit.register(made.close)
    return made


def checked_statuses(data: bytes) -> list[int]:
    """The statuses. Raises AssertionError for an undocumented status, and for an exception in the event loop."""
    statuses = wire().statuses(data)
    assert set(statuses) <= STATUSES, (statuses, data)
    assert not wire().errors, wire().errors
    return statuses


def seeds() -> list[bytes]:
    """Valid requests of every kind, as seeds for a fuzzer."""
    images = [image(seed, kind, (40, 30)) for seed, kind in enumerate(["PNG", "JPEG", "GIF"])]
    with_file, without_file = DISPOSITIONS[0], DISPOSITIONS[2]
    several = form([(with_file, images[0]), (without_file, b"text"), (with_file, images[1])])
    gets = [f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in (
        "/", "/model", "/health", "/samples/0.png", "/metrics")]
    chunked_header = post(b"", "/predict", "image/png", "Transfer-Encoding: chunked").replace(
        b"Content-Length: 0\r\n", b"")
    return [*gets, gets[0] + gets[1], *(post(data, "/predict?top=2&logits=true") for data in images),
            post(several, "/predict?views=10", FORM),
            post(images[0], "/explain?class=class%201", "image/png", "Expect: 100-continue", "Connection: close"),
            chunked_header + chunked(images[2], 50)]
