"""The ASGI application: the routes of handlers.py and open_inference.py, middleware, exception handlers, lifespan.

The server never uses a request's data as a path, a URL or a pickle, and fetches nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from alexnet.serving import responses
from alexnet.serving.admission import Overloaded
from alexnet.serving.handlers import PUBLIC_PATHS, Handlers
from alexnet.serving.middleware import ON_RESPONSE, AccessControlMiddleware, ResponseMiddleware
from alexnet.serving.open_inference import OpenInferenceHandlers
from alexnet.serving.request_log import request_logger
from alexnet.serving.request_record import RequestRecord
from alexnet.serving.service import Service

ErrorHandler = Callable[[Request, Exception], Awaitable[Response]]


def create_app(service: Service) -> ASGIApp:
    """The ASGI application of a service."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with service.running():
            yield {ON_RESPONSE: report}

    def without_body(respond: ErrorHandler) -> ErrorHandler:
        async def respond_without(request: Request, error: Exception) -> Response:
            error.__traceback__ = None  # its frames hold the body, and the response may wait for its pace
            return await respond(request, error)

        return respond_without

    routes = [*Handlers(service).routes(), *OpenInferenceHandlers(service).routes()]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={
        responses.RequestError: without_body(responses.request_error), HTTPException: responses.routing_error,
        Overloaded: without_body(responses.overloaded), ClientDisconnect: responses.client_disconnected,
        Exception: responses.server_error})
    app.router.redirect_slashes = False
    log = request_logger(service.log_format)

    def report(record: RequestRecord) -> None:
        # One label for all unknown paths and malformed requests, and one for all paths of a route.
        label = next((route.path for route in routes if route.path_regex.match(record.path)), "other")
        service.metrics.count_response(label, record)
        log(record)

    return ResponseMiddleware(
        AccessControlMiddleware(app, service.hosts, service.token, PUBLIC_PATHS, service.limits.header_bytes),
        service.limits.drain_seconds, service.pace,
        is_draining=lambda: service.is_draining, on_response=report)
