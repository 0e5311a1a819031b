"""ASGI middleware: access control by host name, origin and token, and the security headers of every response."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import re
import time
from collections.abc import Callable, Container
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alexnet.serving.fair_queue import client_key
from alexnet.serving.pace import RejectionPace
from alexnet.serving.request_record import RequestRecord
from alexnet.serving.responses import RequestError, UnavailableError, error_response

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
                               "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cross-origin-resource-policy":
    "same-origin", "cross-origin-opener-policy": "same-origin", "x-frame-options": "DENY", "cache-control": "no-store",
}

LIVENESS_PATHS = ("/health", "/v2/health/live")
"""Paths that respond on a connection above the limit, too: a full server needs no restart."""

TOO_MANY_CONNECTIONS = "too_many_connections"
"""Key in the state of the scope: true on a connection above the limit."""

ON_RESPONSE = "on_response"
"""Key in the state of the lifespan: the function that is called with the record of each request (`app.create_app`)."""

_HOST = re.compile(r"([\w.~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])(:\d{0,5})?", re.ASCII)
"""The header Host (RFC 9110, 7.2): a name or an address, and a port. A path or a user in it would reach the URLs that a
framework builds from it."""


@dataclass(frozen=True)
class AccessControlMiddleware:
    """Reject requests on connections above the limit, with a wrong Host, from another site, or without the token.

    Attributes:
        app: the application behind it.
        hosts: allowed host names, without port; empty: all.
        token: required in the header Authorization; empty: none.
        public_paths: paths that need no token.
        header_bytes: of a request's header. The parser has it too, but sees a header that arrives at once as a whole.
    """

    app: ASGIApp
    hosts: Container[str]
    token: str
    public_paths: Container[str]
    header_bytes: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._check(scope) if scope["type"] == "http" else None
        if scope["type"] == "http" and _is_too_many(scope):
            send = _closing(send)
        await (error_response(error, scope) if error else self.app)(scope, receive, send)

    def _check(self, scope: Scope) -> RequestError | None:
        if _is_too_many(scope) and scope["path"] not in LIVENESS_PATHS:
            return UnavailableError("too many connections are open", "connections")
        if (size := _header_size(scope)) > self.header_bytes:
            return RequestError(f"the header of the request has {size:,} bytes, more than {self.header_bytes:,}",
                                "send a shorter query and fewer headers", headers={"Connection": "close"})
        headers = Headers(scope=scope)
        if "content-length" in headers and "transfer-encoding" in headers:
            # Of two servers in a row, each could see another end of the body (request smuggling; RFC 9112, 6.1).
            return RequestError("the request has both Content-Length and Transfer-Encoding", "send one of them",
                                headers={"Connection": "close"})
        host = headers.get("host", "")
        if host and not _HOST.fullmatch(host):
            return RequestError(f"the header Host {host[:100]!r} is not a host name with an optional port",
                                "send the host and port of the address alone")
        if self.hosts and _without_port(host) not in self.hosts:
            # DNS rebinding: a page of another site whose name resolves to this machine.
            return RequestError(f"the host name {host[:100]!r} is not allowed", "use localhost", status=403)
        if scope["method"] != "GET" and _is_cross_site(headers):
            return RequestError("the request comes from a page of another site", "use the page of this server",
                                status=403)
        if self.token and scope["path"] not in self.public_paths and not hmac.compare_digest(
                _bearer_token(headers.get("authorization", "")).encode(), self.token.encode()):
            return RequestError("the token is missing or wrong", "send the header Authorization: Bearer TOKEN",
                                status=401, headers={"WWW-Authenticate": "Bearer"})
        return None


def _is_too_many(scope: Scope) -> bool:
    """Whether the request came on a connection above the limit."""
    return bool(scope.get("state", {}).get(TOO_MANY_CONNECTIONS))


def _closing(send: Send) -> Send:
    """`send`, for a connection that closes after the response."""
    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["Connection"] = "close"
        await send(message)

    return send_and_close


@dataclass(frozen=True)
class ResponseMiddleware:
    """Add headers to every response, pace rejections, report to metrics and log, and close connections at shutdown.

    The headers: those of security, `X-Request-Id`, and `Model-SHA256` where the request uses a model.

    Attributes:
        app: the application behind it.
        drain_seconds: time for which the rest of an unread body is read and discarded.
        pace: delays the responses to rejected requests, and the end of those whose body is discarded.
        is_draining: whether the server shuts down; each connection then closes after its response.
        on_response: called with the record of each request when its response begins.
    """

    app: ASGIApp
    drain_seconds: float
    pace: RejectionPace
    is_draining: Callable[[], bool]
    on_response: Callable[[RequestRecord], object]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, is_body_read = time.monotonic(), False
        record = RequestRecord.begin(scope)
        client = client_key(scope["client"][0] if scope.get("client") else "")

        async def receive_and_track() -> Message:
            nonlocal is_body_read
            message = await receive()
            record.received_bytes += len(message.get("body", b""))
            is_body_read = is_body_read or not message.get("more_body", False)
            return message

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                if record.is_rejected:
                    await self.pace.wait(client, record.received_bytes)
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers["x-request-id"] = record.request_id
                if record.model_sha256:
                    headers["model-sha256"] = record.model_sha256
                if self.is_draining():
                    headers["connection"] = "close"
                record.status, record.seconds = message["status"], time.monotonic() - began
                self.on_response(record)
            elif not message.get("more_body") and not is_body_read:
                # If the connection were closed before the body is read, the client might not receive the response.
                await send({**message, "more_body": True})
                before = record.received_bytes
                await self._discard_body(receive_and_track)
                if record.received_bytes > before:
                    await self.pace.wait(client, record.received_bytes - before, requests=0)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        with contextlib.suppress(ClientDisconnect):
            await self.app(scope, receive_and_track, send_with_headers)

    async def _discard_body(self, receive: Receive) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.drain_seconds):
                while (await receive()).get("more_body"):
                    pass


def malformed_response(client: tuple[str, int] | None, header_bytes: int) -> tuple[Response, RequestRecord]:
    """The response to bytes that are no HTTP request, after which the connection closes, and its record."""
    scope: Scope = {"type": "http", "method": "", "path": "", "query_string": b"", "headers": [], "client": client}
    record = RequestRecord.begin(scope)
    error = RequestError("the request is not valid HTTP/1.1", "it needs a header Host, and a header of at most "
                         f"{header_bytes:,} bytes", headers={"Connection": "close"})
    response = error_response(error, scope)
    response.headers.update({**SECURITY_HEADERS, "x-request-id": record.request_id})
    record.status = error.status
    return response, record


def _header_size(scope: Scope) -> int:
    """Bytes of a request's header, without optional white space."""
    query = scope["query_string"]
    line = len(f"{scope['method']}  HTTP/1.1\r\n") + len(scope["raw_path"]) + (1 + len(query) if query else 0)
    return line + sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"]) + len("\r\n")


def _bearer_token(authorization: str) -> str:
    """The token of a header Authorization, "" for any other scheme. Schemes have no case (RFC 9110, 11.1)."""
    scheme, _, token = authorization.partition(" ")
    return token.strip(" ") if scheme.lower() == "bearer" else ""


def _is_cross_site(headers: Headers) -> bool:
    """Whether a page of another site sent the request.

    By Sec-Fetch-Site, where the browser sends it. Browsers leave it out over plain HTTP to another machine; then by
    Origin. With Sec-Fetch-Site the Origin is not compared: behind a proxy it may differ from Host.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower()


def _without_port(host: str) -> str:
    """The host name of localhost:8000, 127.0.0.1:8000 or [::1]:8000."""
    return (host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]).lower()


def allowed_hosts(host: str) -> frozenset[str]:
    """Host names under which a server bound to `host` may be requested: the loopback names, or all (empty)."""
    return frozenset({"localhost", "127.0.0.1", "[::1]", _without_port(host)}) if is_loopback(host) else frozenset()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
