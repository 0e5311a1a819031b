"""uvicorn, hurried and gentle: slow clients are cut off, and a server told to stop answers all that it has accepted.

uvicorn waits for ever for the head of a request and for its answer to be taken, and on its way out closes connections
whose request it has not read yet. That is mended here, by a protocol and a server of its own kinds.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from alexnet.serving.middleware import SECURITY, error
from alexnet.serving.uploads import BUSY

HEAD_SECONDS = 10.0
"""Until a connection must have sent the head of its next request, and taken the answer to its last."""

GRACE_SECONDS = 0.5
"""For which a server that is told to stop goes on accepting; then, for which it waits for what was sent meanwhile."""

CONNECTIONS = 1024
"""Open at once; beyond, 503."""

READ_BYTES = 16_384
"""Taken from a connection at once: a body in chunks of one byte costs its parser hundreds of times what others do, and
all other connections wait meanwhile."""

PARSE_SECONDS, PARSE_SECONDS_PER_BYTE = 0.25, 5e-8
"""Of the processor, for the bytes of one request, at most: ten times what an image takes, and a tenth of what
chunks of one byte would."""


LOG = {
    "version": 1, "disable_existing_loggers": False,
    "formatters": {"request": {"()": "uvicorn.logging.AccessFormatter", "use_colors": False,
                               "fmt": "%(asctime)s %(client_addr)s %(request_line)s %(status_code)s"},
                   "trouble": {"format": "%(asctime)s %(message)s"}},
    "handlers": {name: {"class": "logging.StreamHandler", "formatter": name} for name in ("request", "trouble")},
    "loggers": {"uvicorn.access": {"handlers": ["request"], "level": "INFO", "propagate": False},
                "uvicorn.error": {"handlers": ["trouble"], "level": "ERROR", "propagate": False}},
}
"""A line for each request, and the tracebacks of what fails: each with its time, on the standard error."""


class TimeoutProtocol(H11Protocol, asyncio.BufferedProtocol):
    """HTTP/1.1 whose client has HEAD_SECONDS for a head, and for an answer. A body has its own limit (intake.py)."""

    _deadline: asyncio.TimerHandle | None = None
    """Until the next head, or the end of the connection."""
    _untaken: asyncio.TimerHandle | None = None
    """Until the client has taken enough of an answer for the rest to be written."""
    _may_parse = PARSE_SECONDS
    """Seconds of the processor that are left to this request."""
    _buffer = bytearray(READ_BYTES)
    """One for all, since the loop fills it and has it read in one go."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            self.app = _crowded
        self._watch()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        began = time.thread_time()
        self.data_received(bytes(self._buffer[:nbytes]))
        self._may_parse += PARSE_SECONDS_PER_BYTE * nbytes - (time.thread_time() - began)
        if self._may_parse < 0:
            self.transport.abort()
        self._watch()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whoever has sent a whole request and then says that no other comes still waits for the answer."""
        if self._is_idle() or self.cycle.more_body:
            return False
        self.cycle.keep_alive = False
        return True

    def send_400_response(self, msg: str) -> None:
        """What follows cannot be read: the connection ends, without the sentence where h11 lets none follow."""
        if self.cycle:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        with contextlib.suppress(h11.LocalProtocolError):
            super().send_400_response(msg)
        self.transport.close()

    def on_response_complete(self) -> None:
        self._may_parse = PARSE_SECONDS
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._untaken = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._untaken)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        _cancel(self._deadline, self._untaken)

    def shutdown(self) -> None:
        """What was sent before the server closed its door may not have been read yet."""
        if self._is_idle():
            self.loop.call_later(GRACE_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        """The clock runs from the connection, or from an answer's end, to the next request's head or the end of all."""
        if not self._is_idle():
            _cancel(self._deadline)
            self._deadline = None
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.abort)


def _cancel(*timers: asyncio.TimerHandle | None) -> None:
    for timer in timers:
        if timer:
            timer.cancel()


async def _crowded(scope: Scope, receive: Receive, send: Send) -> None:
    """What a connection too many is answered, whatever it asks; uvicorn's own answer is no JSON."""
    answer = error(503, "the server has as many connections open as it can; try again in a second",
                   {**SECURITY, **BUSY, "Connection": "close"})
    await answer(scope, receive, send)


class GracefulServer(uvicorn.Server):
    """Told to stop, it says so (`on_stop`), goes on accepting for a moment, and then answers what it has accepted."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], object], on_start: Callable[[], object]) -> None:
        super().__init__(config)
        self.on_stop, self.on_start = on_stop, on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.on_stop()
        await asyncio.sleep(GRACE_SECONDS)
        await self._close_door(sockets or [])
        await super().shutdown(sockets)
        if self.force_exit:  # by a second Ctrl-C; the application would else be told by a traceback
            await self.lifespan.shutdown()

    async def _close_door(self, doors: list[socket.socket]) -> None:
        """Whoever the system has connected already still comes in; closing alone would reset those connections."""
        loop = asyncio.get_running_loop()
        again = [door.dup() for door in doors]  # which listen on after the loop has closed its own
        for server in self.servers:
            server.close()
        for door in again:
            waiting = []
            with door, contextlib.suppress(BlockingIOError):
                while True:
                    waiting.append(door.accept()[0])
            for connection in waiting:
                connection.setblocking(False)
                await loop.connect_accepted_socket(
                    lambda: TimeoutProtocol(self.config, self.server_state, self.lifespan.state), connection)


def bind(host: str, port: int) -> socket.socket:
    """The door, taken before anything is loaded: whoever knocks is refused until the server listens.

    Raises ValueError for an address that is not ours or not free.
    """
    try:
        # The protocol by its number: asyncio spares small answers the wait for an acknowledgement (40 ms) only of
        # sockets that say TCP.
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        door = socket.socket(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind(address)
        except OSError:
            door.close()
            raise
    except (OSError, OverflowError) as problem:
        said = str(getattr(problem, "strerror", None) or problem).lower()
        raise ValueError(f"{host}:{port} cannot be listened on ({said}); choose another --port or --host") from None
    return door


def server(app: Any, *, on_start: Callable[[], object], on_stop: Callable[[], object],
           log_requests: bool = False) -> GracefulServer:
    """What serves an application: `run(sockets=[door])` until a signal, or until its `should_exit` is set.

    What was accepted is answered first, for 30 seconds at most. It ends by the signal itself: KeyboardInterrupt for
    SIGINT, death for SIGTERM.
    """
    return GracefulServer(uvicorn.Config(
        app, http=TimeoutProtocol, ws="none", lifespan="on", interface="asgi3", log_config=LOG, access_log=log_requests,
        server_header=False, proxy_headers=False, timeout_keep_alive=5, timeout_graceful_shutdown=30,
        backlog=CONNECTIONS, h11_max_incomplete_event_size=32768), on_stop, on_start)
