"""What holds for every request to the server: who may ask, by which name, each answer's headers, and how it says no."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
                               "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cross-origin-resource-policy":
    "same-origin", "cross-origin-opener-policy": "same-origin", "x-frame-options": "DENY", "cache-control": "no-store",
}
LINGER_SECONDS = 1.0
"""For which the rest of a refused body is read and thrown away, so that its sender gets to see the answer."""


@dataclass(frozen=True)
class Guard:
    """An ASGI application around another."""

    app: ASGIApp
    hosts: Container[str]
    """Names that the server may be called by; any, where there are none."""
    token: str
    """What who asks must know; nothing, where it is empty."""
    open: Container[str]
    """Paths that need no token."""
    draining: Callable[[], bool]
    """Whether the server is on its way out, and each connection with its answer."""
    on_answer: Callable[[str, int, float], object]
    """Told path, status and seconds."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, done = time.monotonic(), False

        async def take() -> Message:
            nonlocal done
            message = await receive()
            done = done or not message.get("more_body", False)
            return message

        async def give(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers.setdefault(name, value)
                if self.draining():
                    headers["connection"] = "close"
                self.on_answer(scope["path"], message["status"], time.monotonic() - began)
            elif not message.get("more_body") and not done and scope["method"] == "POST":
                # A body that nobody has read: were the connection closed now, its sender might never see the answer.
                await send({**message, "more_body": True})
                await _throw_away(take)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        refusal = self._refusal(scope)
        with contextlib.suppress(ClientDisconnect):
            await (refusal or self.app)(scope, take, give)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self.hosts and _name_of(headers.get("host", "")) not in self.hosts:
            # A page of another host whose name was made to mean this machine reads no answers here.
            return error(403, f"this server is not called {headers.get('host', '')[:100]!r}; ask it as localhost")
        if scope["method"] != "GET" and _is_anothers(headers):
            return error(403, "a page of another host asks; open the server's own page")
        if self.token and scope["path"] not in self.open and not hmac.compare_digest(
                headers.get("authorization", "").encode(), f"Bearer {self.token}".encode()):
            return error(401, "the token is missing or wrong; send the header Authorization: Bearer TOKEN",
                          {"WWW-Authenticate": "Bearer"})
        return None


async def _throw_away(take: Receive) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await take()).get("more_body"):
                pass


def _is_anothers(headers: Headers) -> bool:
    """Whether another site's page asks: as the browser says, or, where it only says whose page it is (as it does over
    plain http to another machine), by that. Where it says the former, a proxy may have asked by another name."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower()


def _name_of(host: str) -> str:
    """Without its port: localhost:8000, 127.0.0.1, [::1]:8000."""
    return (host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]).lower()


def names_of(host: str) -> frozenset[str]:
    """What a server bound to `host` may be called: on this machine alone, its three names; elsewhere, anything."""
    return frozenset({"localhost", "127.0.0.1", "[::1]", _name_of(host)}) if is_local(host) else frozenset()


def is_local(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


async def refused(request: Request, problem: Exception) -> Response:
    """What the server says no to, as it says it."""
    assert isinstance(problem, HTTPException)
    headers = dict(problem.headers or {})
    said = {404: "there is nothing here; /openapi.json lists what there is",
            405: f"{request.url.path[:100]} takes {headers.get('Allow', 'another method')}"}
    plainly = problem.detail in ("Not Found", "Method Not Allowed")
    return error(problem.status_code, said[problem.status_code] if plainly else problem.detail, headers)


async def gone(request: Request, problem: Exception) -> Response:
    """For the log alone: nobody is there to read it."""
    return error(400, "the connection was closed before the image had arrived")


async def failed(request: Request, problem: Exception) -> Response:
    """What went wrong stands in the log, with its traceback; whoever asked learns nothing of it."""
    return error(500, "the server failed at this request; its log says how")


class Json(JSONResponse):
    """Compact; a number that JSON does not know, as of a network that has diverged, is null."""

    def render(self, content: Any) -> bytes:
        try:
            return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
        except ValueError:
            return json.dumps(_finite(content), separators=(",", ":")).encode()


def _finite(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not np.isfinite(tree) else tree


def error(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    """An answer whose one key is `error`: one sentence, with the remedy."""
    return Json({"error": sentence}, status, headers)
