"""The body of a request -> the photographs in it, within limits of bytes, seconds and pixels. Asks no network.

Nothing of a body reaches the disk, and none of its names is taken for a path. What is refused is refused as early as
it can be: by its declared length before a byte is read, by what has arrived as soon as that is too much, by a
photograph's header before it is decoded.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

MOST_PHOTOGRAPHS = 64
"""In one request."""

PIXELS = 50_000_000
"""Of a photograph; the cameras of telephones make up to so many. They take 150 MB while they are made a square."""


@dataclass(frozen=True)
class Upload:
    """A photograph as it was sent."""

    name: str
    data: bytes


class Intake:
    """What is taken in, over all requests at once.

    body: bytes of one request, at most. held: of all that are being read or answered, at most. seconds: until a body
    must have arrived.
    """

    def __init__(self, *, body: int = 20_000_000, held: int = 64_000_000, seconds: float = 20.0) -> None:
        self.body, self.held, self.seconds = body, max(held, body), seconds
        self.holding = 0
        """Bytes held now."""

    async def photographs(self, request: Request) -> list[Upload]:
        """The files of a form, or the body itself. Whoever calls gives back their bytes with `release`.

        Raises HTTPException: 400 for no photograph or a torn form, 408 for a slow client, 411 and 413 by length, 415
        for another kind of content, 503 where too much is held already.
        """
        kind, _ = parse_options_header(request.headers.get("content-type", ""))
        if kind not in (b"multipart/form-data", b"application/octet-stream") and not kind.startswith(b"image/"):
            raise HTTPException(415, f"content of type {kind.decode('latin-1')[:100] or 'none'} is no photograph; send "
                                     "the file itself as image/jpeg or the like, or several as multipart/form-data")
        body = await self._read(request)
        try:
            uploads = await _of_form(request, body) if kind == b"multipart/form-data" else [Upload("", body)]
            if len(uploads) > MOST_PHOTOGRAPHS:
                raise HTTPException(400, f"{len(uploads)} photographs are more than {MOST_PHOTOGRAPHS}; send them in "
                                         "several requests")
            if not uploads or not any(upload.data for upload in uploads):
                raise HTTPException(400, "there is no photograph in the request; send its bytes as the body, or files "
                                         "as multipart/form-data")
        except BaseException:
            self.release(len(body))
            raise
        # A form's files are copies of nearly all of its bytes; the body itself is let go of here.
        self.holding += sum(len(upload.data) for upload in uploads) - len(body)
        return uploads

    def release(self, size: int) -> None:
        """So many bytes are not held any more."""
        self.holding -= size

    async def _read(self, request: Request) -> bytes:
        """The body, counted in `holding`."""
        declared = request.headers.get("content-length")
        if declared is not None and int(declared) > self.body:
            raise HTTPException(413, self._too_large())
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.seconds):
                async for chunk in request.stream():
                    size += len(chunk)
                    self.holding += len(chunk)
                    if size > self.body:
                        raise HTTPException(413, self._too_large())
                    if self.holding > self.held:
                        raise HTTPException(503, "the server holds as many photographs as it can; try again in a "
                                                 "second", {"Retry-After": "1"})
                    chunks.append(chunk)
        except BaseException as problem:
            self.release(size)
            if isinstance(problem, TimeoutError):
                raise HTTPException(408, f"the photograph did not arrive within {self.seconds:g} seconds; send a "
                                         "smaller one, or over a faster connection") from None
            raise
        return b"".join(chunks)

    def _too_large(self) -> str:
        return f"the request is larger than {self.body / 1e6:g} MB; send a smaller photograph, or fewer at once"


class _InMemory(MultiPartParser):
    """Starlette's parser, whose files never go to the disk: a body is short enough for memory."""

    spool_max_size = 1 << 40


async def _of_form(request: Request, body: bytes) -> list[Upload]:
    """The files of a form that has arrived whole; its fields of text are let lie."""

    async def stream():  # type: ignore[no-untyped-def]
        yield body

    try:
        form = await _InMemory(request.headers, stream(), max_files=10 * MOST_PHOTOGRAPHS, max_fields=100).parse()
    except (MultiPartException, ClientDisconnect) as problem:
        said = getattr(problem, "message", "it ends too early")
        raise HTTPException(400, f"the form cannot be read ({said.rstrip('.')}); send it as multipart/form-data with "
                                 "its boundary") from None
    uploads = []
    for _, value in form.multi_items():
        if not isinstance(value, str):
            uploads.append(Upload(_called(value.filename or ""), await value.read()))
    await form.close()
    return uploads


def _called(name: str) -> str:
    """What a file is called, as one line of text: it is only ever shown."""
    return " ".join(name.encode("utf-8", "replace").decode().split())[:200]
