"""Request body -> uploaded images, within the limits on bytes and time, over all requests at once.

A body stays in memory. Its declared length is checked before it is read, its received bytes while it is read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request

from alexnet.serving.fair_queue import client_of
from alexnet.serving.limits import Limits
from alexnet.serving.multipart import Upload, parse_form
from alexnet.serving.pace import BodyPace
from alexnet.serving.responses import RequestError, UnavailableError

FORM = "multipart/form-data"


@dataclass(eq=False)
class IncomingBody:
    """A body that is being received.

    Attributes:
        timeout: cancels its reception.
        began: time of the event loop, in seconds.
        size: bytes received.
        is_evicted: whether the server has given up this upload to make room.
    """

    timeout: asyncio.Timeout
    began: float
    size: int = 0
    is_evicted: bool = False


class UploadReader:
    """Read the images of request bodies.

    Attributes:
        limits: of bytes, seconds and images.
        pace: delays large bodies.
        held_bytes: bytes of all bodies that are being received or processed.
    """

    def __init__(self, limits: Limits, pace: BodyPace) -> None:
        self.limits, self.pace, self.held_bytes = limits, pace, 0
        self._incoming: set[IncomingBody] = set()

    @contextlib.asynccontextmanager
    async def images(self, request: Request) -> AsyncIterator[list[Upload]]:
        """Give the files of a form, or the body as one file. Their bytes count as held until the context ends.

        Raises:
            RequestError: 400 for no image or a malformed form, 408 for a slow client, 413 for a large body, 415 for
                another content type, 503 where too many bytes are held.
        """
        content_type = request.headers.get("content-type", "")
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type not in (FORM, "application/octet-stream") and not media_type.startswith("image/"):
            raise RequestError(f"content type {media_type[:100] or 'none'} is not an image type",
                               f"send the file as image/jpeg or the like, or several as {FORM}", status=415)
        async with self._held_body(request) as body:
            uploads = parse_form(body, content_type, self.limits) if media_type == FORM else [Upload("", body)]
            if len(uploads) > self.limits.images:
                raise RequestError(f"the request has {len(uploads)} images, more than {self.limits.images}",
                                   "send them in several requests")
            if not any(upload.data for upload in uploads):
                raise RequestError("the request has no image", f"send its bytes as the body, or files as {FORM}")
            yield uploads

    @contextlib.asynccontextmanager
    async def body(self, request: Request, media_type: str) -> AsyncIterator[bytes]:
        """Give the body of one media type. Its bytes count as held until the context ends. Raises as `images`."""
        given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if given != media_type:
            raise RequestError(f"content type {given[:100] or 'none'} is not {media_type}", f"send {media_type}",
                               status=415)
        async with self._held_body(request) as body:
            yield body

    @contextlib.asynccontextmanager
    async def _held_body(self, request: Request) -> AsyncIterator[bytes]:
        body = await self._read(request)
        try:
            yield body
        finally:
            self.held_bytes -= len(body)

    async def _read(self, request: Request) -> bytes:
        """Receive the body and count it in `held_bytes`."""
        declared = request.headers.get("content-length")
        if declared is not None and int(declared) > self.limits.body_bytes:
            raise self._too_large()
        chunks, client = list[bytes](), client_of(request)
        body = IncomingBody(asyncio.timeout(self.limits.body_seconds), asyncio.get_running_loop().time())
        self._incoming.add(body)
        try:
            async with body.timeout:
                async for chunk in request.stream():
                    body.size += len(chunk)
                    self.held_bytes += len(chunk)
                    if body.size > self.limits.body_bytes:
                        raise self._too_large()
                    if self.held_bytes > self.limits.total_body_bytes:
                        self._evict()
                    chunks.append(chunk)
                    await self.pace.wait(client, body.size - len(chunk), body.size)
                # Of more than a megabyte, `join` copies without Python's lock: other requests are handled meanwhile.
                return await asyncio.to_thread(b"".join, chunks) if body.size > 2**20 else b"".join(chunks)
        except BaseException as error:
            self.held_bytes -= body.size
            if body.is_evicted:
                raise UnavailableError(f"the server already holds {self.limits.total_body_bytes / 1e6:g} MB of uploads",
                                       "bytes") from None
            if isinstance(error, TimeoutError):
                raise RequestError(f"the body did not arrive within {self.limits.body_seconds:g} seconds",
                                   "send a smaller image, or use a faster connection", status=408) from None
            raise
        finally:
            self._incoming.discard(body)

    def _evict(self) -> None:
        """Give up the upload with the largest product of bytes and age, so that others are received."""
        now = asyncio.get_running_loop().time()
        ending = {body for body in self._incoming if body.is_evicted or body.timeout.expired()}
        candidates = self._incoming - ending
        if candidates and self.held_bytes - sum(body.size for body in ending) > self.limits.total_body_bytes:
            largest = max(candidates, key=lambda body: body.size * (now - body.began))
            largest.is_evicted = True
            largest.timeout.reschedule(now)

    def _too_large(self) -> RequestError:
        return RequestError(f"the request is larger than {self.limits.body_bytes / 1e6:g} MB",
                            "send a smaller image, or fewer images per request", status=413)
