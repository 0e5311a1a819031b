"""The server without sockets: bytes as they would come on a connection, and the statuses that are answered."""

from __future__ import annotations

import asyncio
import atexit
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from attack import FORM, HEADS, STATUSES, chunked, form
from served import image, post, untrained
from uvicorn.server import ServerState

from alexnet.inference.predictor import load
from alexnet.serving.app import create_app
from alexnet.serving.limits import Limits
from alexnet.serving.middleware import allowed_hosts
from alexnet.serving.samples import sample_images
from alexnet.serving.server import ServerConfig, TimeoutProtocol
from alexnet.serving.service import Service


class Transport(asyncio.Transport):
    """What a connection is written to."""

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
    """A server of a small network, each connection of which is one call of `statuses`."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.problems: list[str] = []
        self.loop.set_exception_handler(lambda _, context: self.problems.append(str(context)))
        with tempfile.TemporaryDirectory() as place:
            model = load(untrained(Path(place)))
        service = Service(model, samples=sample_images(None), hosts=allowed_hosts("127.0.0.1"))
        self.config = ServerConfig(create_app(service), Limits())
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        self.loop.run_until_complete(self.lifespan.startup())

    def statuses(self, data: bytes) -> list[int]:
        """Of the answers to what comes on a connection whose other end then says no more, and is gone."""
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
    made = Wire()
    atexit.register(made.close)
    return made


def answer(data: bytes) -> list[int]:
    """The statuses. Raises AssertionError for any that the interface does not promise, and for what fails unseen."""
    found = wire().statuses(data)
    assert set(found) <= STATUSES, (found, data)
    assert not wire().problems, wire().problems
    return found


def seeds() -> list[bytes]:
    """Whole requests."""
    pictures = [image(seed, kind, (40, 30)) for seed, kind in enumerate(["PNG", "JPEG", "GIF"])]
    many = form([(HEADS[0], pictures[0]), (HEADS[2], b"text"), (HEADS[0], pictures[1])])
    gets = [f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in (
        "/", "/model", "/health", "/samples/0.png", "/metrics")]
    late = post(b"", "/predict", "image/png", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    return [*gets, gets[0] + gets[1], *(post(picture, "/predict?top=2&logits=true") for picture in pictures),
            post(many, "/predict?views=10", FORM),
            post(pictures[0], "/explain?class=class%201", "image/png", "Expect: 100-continue", "Connection: close"),
            late + chunked(pictures[2], 50)]
