"""Record of one request for logs and metrics: request id, trace, model, bytes, images, and the times of its stages."""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

_KEY = "alexnet.request_record"

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
"""Printable ASCII without spaces. Anything else could break a line of the log."""

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, level 1: version, trace id, parent id and flags."""


class Stopwatch:
    """Measures the time in which at least one of several pieces of work runs, in any threads.

    Attributes:
        seconds: measured so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._running, self._began, self._lock = 0, 0.0, threading.Lock()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Measure the context."""
        with self._lock:
            if not self._running:
                self._began = time.monotonic()
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    self.seconds += time.monotonic() - self._began


@dataclass(eq=False)
class RequestRecord:
    """What is known of one request. The middleware makes it; handlers add to it.

    Attributes:
        request_id: from the header X-Request-Id, if it is well-formed; else random.
        traceparent: the W3C header, if it is well-formed; else "".
        client: address and port; "" for a Unix socket.
        method: of HTTP.
        path: percent-encoded, without the query.
        query: of the URL; may be "".
        status: of the response; 0 before it.
        seconds: from the header of the request to its response.
        received_bytes: of the body.
        images: that were classified or explained.
        model: name of the model that the request uses; "" for none.
        model_sha256: of its weights.
        is_rejected: whether its response is an error of the client's, or 503 (`responses.error_response`).
        rejection: why the server rejects the request with 503 (`responses.Unavailable`); else "".
        decode: time in which its images were being decoded.
        network: time in which the network processed batches with its images.
        processing: time from the whole body to the last output.
    """

    request_id: str
    traceparent: str
    client: str
    method: str
    path: str
    query: str
    status: int = 0
    seconds: float = 0.0
    received_bytes: int = 0
    images: int = 0
    model: str = ""
    model_sha256: str = ""
    is_rejected: bool = False
    rejection: str = ""
    decode: Stopwatch = field(default_factory=Stopwatch)
    network: Stopwatch = field(default_factory=Stopwatch)
    processing: Stopwatch = field(default_factory=Stopwatch)

    @property
    def queue_seconds(self) -> float:
        """Time in which the request's images waited for a thread or a batch."""
        return max(0.0, self.processing.seconds - self.decode.seconds - self.network.seconds)

    @classmethod
    def begin(cls, scope: Scope) -> RequestRecord:
        """Make the record of a request and attach it to its scope."""
        headers = Headers(scope=scope)
        request_id, traceparent = headers.get("x-request-id", ""), headers.get("traceparent", "")
        record = cls(
            request_id if _REQUEST_ID.fullmatch(request_id) else secrets.token_hex(16),
            traceparent if _TRACEPARENT.fullmatch(traceparent) else "",
            "{}:{}".format(*scope["client"]) if scope.get("client") else "", scope["method"], quote(scope["path"]),
            scope["query_string"].decode("ascii", "backslashreplace"))
        scope[_KEY] = record
        return record


def record_of(request: Request | Scope) -> RequestRecord:
    """The record of a request, by the request or its ASGI scope."""
    scope = request.scope if isinstance(request, Request) else request
    record: RequestRecord = scope[_KEY]
    return record
