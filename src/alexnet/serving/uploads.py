"""The body of a request -> the images in it, within limits of bytes, seconds and pixels. Asks no network.

Nothing of a body reaches the disk, and none of its names is taken for a path. What is refused is refused as early as
it can be: by its declared length before a byte is read, by what has arrived as soon as that is too much, by a
image's header before it is decoded.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.requests import Request

MOST_IMAGES = 64
"""In one request."""

MOST_PARTS = 10 * MOST_IMAGES
"""Of a form; it may have fields of text, which are let lie."""

HEAD_BYTES = 4096
"""Of a part of a form, before its image."""

PIXELS = 50_000_000
"""Of an image; the cameras of telephones make up to so many. They take 150 MB while they are made a square."""

BUSY = {"Retry-After": "1"}


@dataclass(frozen=True)
class Upload:
    """An image as it was sent."""

    name: str
    data: bytes | memoryview


@dataclass(eq=False)
class Arrival:
    """A body on its way in."""

    limit: asyncio.Timeout
    began: float
    size: int = 0
    gave_way: bool = False


class Intake:
    """What is taken in, over all requests at once.

    body: bytes of one request, at most. held: of all that are being read or answered, at most. seconds: until a body
    must have arrived.
    """

    def __init__(self, *, body: int = 20_000_000, held: int = 64_000_000, seconds: float = 20.0) -> None:
        self.body, self.held, self.seconds = body, max(held, body), seconds
        self.holding = 0
        """Bytes held now."""
        self._arriving: set[Arrival] = set()

    @contextlib.asynccontextmanager
    async def images(self, request: Request) -> AsyncIterator[list[Upload]]:
        """The files of a form, or the body itself. Their bytes count as held for as long as this lasts.

        Raises HTTPException: 400 for no image or a torn form, 408 for a slow client, 413 by length, 415 for
        another kind of content, 503 where too much is held already.
        """
        content_type = request.headers.get("content-type", "")
        kind = content_type.partition(";")[0].strip().lower()
        if kind not in ("multipart/form-data", "application/octet-stream") and not kind.startswith("image/"):
            raise HTTPException(415, f"content of type {kind[:100] or 'none'} is no image; send the file itself "
                                     "as image/jpeg or the like, or several as multipart/form-data")
        body = await self._read(request)
        try:
            uploads = of_form(body, content_type) if kind == "multipart/form-data" else [Upload("", body)]
            if len(uploads) > MOST_IMAGES:
                raise HTTPException(400, f"{len(uploads)} images are more than {MOST_IMAGES}; send them in "
                                         "several requests")
            if not any(upload.data for upload in uploads):
                raise HTTPException(400, "there is no image in the request; send its bytes as the body, or files "
                                         "as multipart/form-data")
            yield uploads
        finally:
            self.holding -= len(body)

    async def _read(self, request: Request) -> bytes:
        """The body, counted in `holding`."""
        declared = request.headers.get("content-length")
        if declared is not None and int(declared) > self.body:
            raise HTTPException(413, self._too_large())
        chunks: list[bytes] = []
        arrival = Arrival(asyncio.timeout(self.seconds), asyncio.get_running_loop().time())
        self._arriving.add(arrival)
        try:
            async with arrival.limit:
                async for chunk in request.stream():
                    arrival.size += len(chunk)
                    self.holding += len(chunk)
                    if arrival.size > self.body:
                        raise HTTPException(413, self._too_large())
                    if self.holding > self.held:
                        self._make_room()
                    chunks.append(chunk)
        except BaseException as problem:
            self.holding -= arrival.size
            if arrival.gave_way:
                raise HTTPException(503, "the server holds as many images as it can; try again in a second",
                                    BUSY) from None
            if isinstance(problem, TimeoutError):
                raise HTTPException(408, f"the image did not arrive within {self.seconds:g} seconds; send a "
                                         "smaller one, or over a faster connection") from None
            raise
        finally:
            self._arriving.discard(arrival)
        return b"".join(chunks)

    def _make_room(self) -> None:
        """Whoever has taken up most room for longest gives way: a few who never finish cannot keep all others out."""
        now = asyncio.get_running_loop().time()
        leaving = {arrival for arrival in self._arriving if arrival.gave_way or arrival.limit.expired()}
        staying = self._arriving - leaving
        if staying and self.holding - sum(arrival.size for arrival in leaving) > self.held:
            largest = max(staying, key=lambda arrival: arrival.size * (now - arrival.began))
            largest.gave_way = True
            largest.limit.reschedule(now)

    def _too_large(self) -> str:
        return f"the request is larger than {self.body / 1e6:g} MB; send a smaller image, or fewer at once"


def of_form(body: bytes, content_type: str) -> list[Upload]:
    """The files of a form (RFC 7578) that has arrived whole; its fields of text are let lie.

    Searched for its boundary alone, and the files are views of the body, so that no form, however it is made, takes
    more than moments and no more memory than it has bytes. Raises HTTPException: 400 for a torn form, 413 for too many
    parts.
    """
    found = _BOUNDARY.search(content_type)
    if not found:
        raise HTTPException(400, _torn("its boundary is missing from the content type"))
    boundary = b"--" + (found[1] or found[2]).encode("latin-1")
    whole, uploads = memoryview(body), list[Upload]()
    place = 0 if body.startswith(boundary) else body.find(b"\r\n" + boundary) + 2
    if not body.startswith(boundary, place):
        raise HTTPException(400, _torn("its boundary is not in the body"))
    for _ in range(MOST_PARTS):
        place += len(boundary)
        if body.startswith(b"--", place):
            return uploads
        head_end = body.find(b"\r\n\r\n", place, place + HEAD_BYTES)
        end = body.find(b"\r\n" + boundary, head_end + 2)
        if head_end < 0 or end < 0:
            raise HTTPException(400, _torn("it ends too early, or the head of a part is too long"))
        head = body[place:head_end].decode("utf-8", "replace")
        disposition = _DISPOSITION.search(head)
        if disposition and (named := _FILENAME.search(disposition[0])):
            data = whole[min(head_end + 4, end):end]
            uploads.append(Upload(_called(named[1] or named[2] or unquote(named[3] or "")), data))
        place = end + 2
    raise HTTPException(413, f"the form has more than {MOST_PARTS} parts; send images alone, "
                             f"{MOST_IMAGES} at most")


#: A quoted string, or a token; in a name, browsers and curl write a quote as %22 or with a backslash.
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,200})"|([^\s;,"]{1,200}))', re.IGNORECASE)
_DISPOSITION = re.compile(r"^content-disposition:.*", re.IGNORECASE | re.MULTILINE)
_FILENAME = re.compile(r""";\s*filename(?:=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))|\*=utf-8'[^']*'([^\s;]*))""",
                       re.IGNORECASE)


def _torn(why: str) -> str:
    return f"the form cannot be read ({why}); send it as multipart/form-data with its boundary"


def _called(name: str) -> str:
    """What a file is called, as one line of text: it is only ever shown."""
    return " ".join(name.encode("utf-8", "replace").decode().split())[:200]
