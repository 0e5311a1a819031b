"""HTTP responses: compact JSON, and every error as {"error": {"problem": ..., "remedy": ...}} with its status code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal, TypedDict

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from alexnet.errors import UserError
from alexnet.serving.admission import Overloaded
from alexnet.serving.request_record import record_of

Unavailable = Literal["queue", "bytes", "large_images", "workers", "connections", "shutdown", "batching"]
"""Why a server rejects with 503: too many images are queued, too many bytes of bodies are held, too many large images
wait, no worker process can be started, too many connections are open, its worker processes have ended with it, or the
task that makes the batches has ended."""


class RequestError(UserError):
    """A request, or one image of it, that the server rejects.

    Attributes:
        status: HTTP status code.
        headers: headers of the response.
    """

    def __init__(self, problem: str, remedy: str = "", *, status: int = 400,
                 headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem, remedy)
        self.status, self.headers = status, dict(headers or {})


class UnavailableError(RequestError):
    """503: a request, or one image of it, that the server rejects because of its own state. No other error has 503.

    Attributes:
        reason: label of the metric `alexnet_rejections`.

    Args:
        is_temporary: whether another attempt may succeed; then the response has Retry-After.
    """

    def __init__(self, problem: str, reason: Unavailable, remedy: str = "try again in a second", *,
                 is_temporary: bool = True) -> None:
        super().__init__(problem, remedy, status=503, headers={"Retry-After": "1"} if is_temporary else None)
        self.reason = reason


class ErrorDetail(TypedDict):
    """The value of "error" in a response."""

    problem: str
    remedy: str


def error_detail(error: UserError) -> ErrorDetail:
    """The two JSON fields of an error."""
    return {"problem": error.problem, "remedy": error.remedy}


class JsonResponse(JSONResponse):
    """Compact JSON. NaN and infinity, as a diverged network returns them, become null."""

    def render(self, content: object) -> bytes:
        try:
            return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
        except ValueError:
            return json.dumps(_null_for_nan(content), separators=(",", ":")).encode()


def _null_for_nan(tree: object) -> object:
    if isinstance(tree, dict):
        return {key: _null_for_nan(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_null_for_nan(value) for value in tree]
    return None if isinstance(tree, float) and not np.isfinite(tree) else tree


def error_response(error: RequestError, scope: Scope) -> Response:
    """The response for a rejected request, by its ASGI scope, whose record notes the rejection.

    The Open Inference Protocol, below /v2, has errors of one string.
    """
    record_of(scope).is_rejected = error.status != 500
    if isinstance(error, UnavailableError):
        record_of(scope).rejection = error.reason
    is_open_inference = scope["path"].startswith("/v2/") or scope["path"] == "/v2"
    return JsonResponse({"error": str(error) if is_open_inference else error_detail(error)}, error.status,
                        error.headers)


# --- Exception handlers of the application ----------------------------------------------------------------------------


async def request_error(request: Request, error: Exception) -> Response:
    """A request that a handler rejected."""
    assert isinstance(error, RequestError)
    return error_response(error, request.scope)


async def routing_error(request: Request, error: Exception) -> Response:
    """404 and 405, which Starlette raises for an unknown path or method."""
    assert isinstance(error, HTTPException)
    headers, path = error.headers or {}, request.scope["path"][:100]
    if error.status_code == 405:
        allowed = headers.get("Allow", "another method")
        return error_response(RequestError(f"{path} does not accept {request.method[:20]}", f"use {allowed}",
                                           status=405, headers=headers), request.scope)
    return error_response(RequestError(f"there is no {path}", "/openapi.json lists all paths",
                                       status=error.status_code, headers=headers), request.scope)


async def overloaded(request: Request, error: Exception) -> Response:
    """503 for a request that would wait too long (admission.Overloaded)."""
    assert isinstance(error, Overloaded)
    return error_response(
        UnavailableError("other images are queued, and those of this request alone take longer than others may wait",
                         "queue", remedy="send fewer images per request") if error.is_long
        else UnavailableError("too many images are queued", "queue"), request.scope)


async def client_disconnected(request: Request, error: Exception) -> Response:
    """For the log only: the client has closed the connection."""
    return error_response(RequestError("the connection was closed before the whole body arrived", "send it again"),
                          request.scope)


async def server_error(request: Request, error: Exception) -> Response:
    """500. The traceback is in the log and not in the response."""
    return error_response(RequestError("the server failed to process this request", "see the server's log",
                                       status=500), request.scope)
