"""The uvicorn server: timeouts for slow clients (TimeoutProtocol), graceful shutdown (GracefulServer), binding.

By itself uvicorn waits forever for the header of a request and for a client that does not read its response, and on
shutdown it resets connections whose request it has not read yet. A proxy would do some of that, but the server also
runs without one. The classes extend uvicorn's H11Protocol and Server, whose methods and attributes uvicorn does not
document (tests/serving/test_uvicorn.py lists them), so pyproject.toml has an upper bound of its version.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
import time
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from alexnet.errors import UserError
from alexnet.serving.fair_queue import client_key
from alexnet.serving.limits import Limits
from alexnet.serving.middleware import ON_RESPONSE, TOO_MANY_CONNECTIONS, malformed_response
from alexnet.serving.request_log import LOGGER


class NotCancelled(logging.Filter):
    """Leaves out the traceback of a request that was cancelled: only the server's end does that, and it counts them."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


LOG_CONFIG = {
    "version": 1, "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(message)s"}, "error": {"format": "%(asctime)s %(message)s"}},
    "filters": {"not_cancelled": {"()": NotCancelled}},
    "handlers": {"line": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.__stderr__"},
                 "error": {"class": "logging.StreamHandler", "formatter": "error", "filters": ["not_cancelled"]}},
    "loggers": {LOGGER.name: {"handlers": ["line"], "level": "INFO", "propagate": False},
                "uvicorn.error": {"handlers": ["error"], "level": "ERROR", "propagate": False}},
}
"""The lines of requests (`request_log`), and the traceback of each server error, on standard error.

With `--log json`, `sys.stderr` makes JSON of what is printed (`json_lines`); the lines of requests are JSON already."""


_ENDING_SECONDS = 2.0
"""Of `Limits.shutdown_seconds`, for ending threads and worker processes after the last request."""


class ServerConfig(uvicorn.Config):
    """uvicorn's configuration with our limits.

    Attributes:
        limits: of connections, headers, times and parsing.
        read_buffer: shared by all connections: the event loop fills it and processes it in one step.

    Args:
        is_shared: whether other processes accept connections on the same port.
    """

    def __init__(self, app: ASGIApp, limits: Limits, is_shared: bool = False) -> None:
        super().__init__(
            app, http=TimeoutProtocol, ws="none", lifespan="on", interface="asgi3", log_config=LOG_CONFIG,
            access_log=False, server_header=False, proxy_headers=False, backlog=1 if is_shared else limits.connections,
            timeout_keep_alive=limits.keep_alive_seconds,
            timeout_graceful_shutdown=math.floor(limits.shutdown_seconds - limits.accept_seconds - _ENDING_SECONDS),
            h11_max_incomplete_event_size=limits.header_bytes)
        self.limits, self.read_buffer = limits, bytearray(limits.read_bytes)


class TimeoutProtocol(H11Protocol, asyncio.BufferedProtocol):
    """HTTP/1.1 with timeouts for the header of a request and for reading the response.

    `uploads.UploadReader` limits the time of the body.
    """

    def __init__(self, config: ServerConfig, server_state: ServerState, app_state: dict[str, Any],
                 _loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits, self._read_buffer = config.limits, config.read_buffer
        self._header_timer: asyncio.TimerHandle | None = None
        """Runs from the connection, or from the first byte of a further request, to the end of its header."""
        self._response_timer: asyncio.TimerHandle | None = None
        """Runs while more of the response waits for the client than is buffered for it."""
        self._unread_bytes = 0
        """Bytes of the response that waited when the timer was started."""
        self.client_key = ""
        """Whom the connection counts for."""
        self._parse_seconds_left = config.limits.parse_seconds
        """Processor time that is left for parsing this request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.client_key = client_key(self.client[0] if self.client else "")
        same = sum(other.client_key == self.client_key for other in self.connections
                   if isinstance(other, TimeoutProtocol)) if self.client else 0
        if len(self.connections) > self._limits.connections or same > self._limits.client_connections:
            self.app_state = {**self.app_state, TOO_MANY_CONNECTIONS: True}
        self._update_header_timer()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        began = time.thread_time()
        self.data_received(bytes(self._read_buffer[:nbytes]))
        self._parse_seconds_left += self._limits.parse_seconds_per_byte * nbytes - (time.thread_time() - began)
        if self._parse_seconds_left < 0:
            self.transport.abort()
        self._update_header_timer()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection open for the response, if the client closed its side after a whole request."""
        if self._is_idle() or self.cycle.more_body:
            return False
        self.cycle.keep_alive = False
        return True

    def send_400_response(self, msg: str) -> None:
        """Close the connection after unparsable bytes; h11 allows the 400 response only before another response."""
        is_idle = self._is_idle()
        if self.cycle:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        with contextlib.suppress(h11.LocalProtocolError):
            response, record = malformed_response(self.client, self._limits.header_bytes)
            for event in (h11.Response(status_code=record.status, headers=response.raw_headers, reason=b"Bad Request"),
                          h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
            if is_idle:  # else the application records the request that was cut off
                self.app_state[ON_RESPONSE](record)
        self.transport.close()

    def on_response_complete(self) -> None:
        self._parse_seconds_left = self._limits.parse_seconds
        if self.conn.their_state is h11.SEND_BODY:  # the rest of a rejected body, after `drain_seconds`
            self.transport.close()
        super().on_response_complete()
        if self.conn.trailing_data[0]:  # of a further request; without it, uvicorn's keep-alive timer runs
            self._update_header_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_response_timer()

    def _start_response_timer(self) -> None:
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._response_timer = self.loop.call_later(self._limits.response_seconds, self._check_response)

    def _check_response(self) -> None:
        """Close the connection if the client has read nothing since the timer was started."""
        if self.transport.get_write_buffer_size() >= self._unread_bytes:
            self.transport.abort()
        else:
            self._start_response_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._response_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        _cancel(self._header_timer, self._response_timer)

    def shutdown(self) -> None:
        """Close after the current request. An idle connection may have sent a request that is not read yet."""
        if self._is_idle():
            self.loop.call_later(self._limits.accept_seconds, super().shutdown)
        else:
            super().shutdown()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _update_header_timer(self) -> None:
        """Run the timer while the connection is idle."""
        if not self._is_idle():
            _cancel(self._header_timer)
            self._header_timer = None
        elif self._header_timer is None:
            self._header_timer = self.loop.call_later(self._limits.header_seconds, self.transport.abort)


def _cancel(*timers: asyncio.TimerHandle | None) -> None:
    for timer in timers:
        if timer:
            timer.cancel()


class GracefulServer(uvicorn.Server):
    """A server that finishes all accepted requests before it stops.

    Attributes:
        on_start: called when the server accepts connections.
        on_stop: called at the first signal; the server then accepts connections for `Limits.accept_seconds` more.
        on_stopped: called at the end, with the number of accepted requests that were cut off.
    """

    config: ServerConfig

    def __init__(self, config: ServerConfig, on_start: Callable[[], object], on_stop: Callable[[], object],
                 on_stopped: Callable[[int], object]) -> None:
        super().__init__(config)
        self.on_start, self.on_stop, self.on_stopped = on_start, on_stop, on_stopped
        self._cut_off = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.on_stop()
        until = time.monotonic() + self.config.limits.accept_seconds
        while not self.force_exit and (left := until - time.monotonic()) > 0:  # a second Ctrl-C does not wait
            await asyncio.sleep(min(0.1, left))
        await self._close_listeners(sockets or [])
        await super().shutdown(sockets)
        if self.force_exit:  # a second Ctrl-C: without this, the lifespan would end with a traceback
            await self.lifespan.shutdown()
        self.on_stopped(self._cut_off)

    async def _wait_tasks_to_complete(self) -> None:
        """Wait for all requests; those that are left after the time for it, or at a second Ctrl-C, are cut off."""
        try:
            await super()._wait_tasks_to_complete()
        finally:
            self._cut_off = len(self.server_state.tasks)

    async def _close_listeners(self, listeners: list[socket.socket]) -> None:
        """Accept the connections that the operating system has already established: closing alone would reset them."""
        loop = asyncio.get_running_loop()
        duplicates = [listener.dup() for listener in listeners]  # they stay open when the loop closes its own
        for server in self.servers:
            server.close()
        for listener in duplicates:
            pending = []
            with listener, contextlib.suppress(BlockingIOError):
                while True:
                    pending.append(listener.accept()[0])
            for connection in pending:
                connection.setblocking(False)
                await loop.connect_accepted_socket(
                    lambda: TimeoutProtocol(self.config, self.server_state, self.lifespan.state), connection)


class ListeningSocket(socket.socket):
    """A socket whose backlog is independent of how many connections asyncio accepts at a time.

    asyncio takes one number for both. With several processes on one port, the first to wake up would accept all
    connections of a pool, and the others would be idle.
    """

    def listen(self, backlog: int = 0) -> None:
        """Listen with the backlog of the default limits, whatever is asked for."""
        super().listen(Limits.connections)


def bind(host: str, port: int) -> socket.socket:
    """Bind a TCP socket, before anything is loaded; connections are refused until the server listens.

    Raises:
        UserError: if the address is not one of this machine's, or is in use.
    """
    try:
        # With the protocol given as TCP, asyncio sets TCP_NODELAY: small responses do not wait 40 ms for an
        # acknowledgement.
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = ListeningSocket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise UserError(f"cannot listen on {host}:{port} ({reason})", "choose another --port or --host") from None
    return listener


def create_server(
    app: ASGIApp, limits: Limits, *, on_start: Callable[[], object], on_stop: Callable[[], object],
    on_stopped: Callable[[int], object] = lambda cut_off: None, is_shared: bool = False,
) -> GracefulServer:
    """A server whose `run(sockets=[listener])` returns after a signal, or once its `should_exit` is set.

    `run` finishes accepted requests, so that all ends within `Limits.shutdown_seconds`, and then raises the signal
    again: KeyboardInterrupt for SIGINT, termination for SIGTERM.
    """
    return GracefulServer(ServerConfig(app, limits, is_shared), on_start, on_stop, on_stopped)
