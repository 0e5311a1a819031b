"""Read objects of cloud storage (s3:// and gs://) with obstore, which takes credentials from the environment."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from alexnet._runtime.extras import install_line
from alexnet.errors import UserError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs")

_CHUNK_BYTES = 1 << 20
_ANONYMOUS = {"s3": "AWS_SKIP_SIGNATURE=true", "gs": "GOOGLE_SKIP_SIGNATURE=true"}
"""The environment variable that reads a public bucket without credentials."""


def is_object_url(url: str) -> bool:
    return urlsplit(url).scheme in SCHEMES


def read_object(url: str, start: int) -> tuple[Iterator[bytes], int]:
    """The bytes of an object from an offset on, in chunks, and the size of the whole object.

    Raises:
        UserError: obstore is not installed, the object does not exist, or may not be read.
        OSError: the network fails; the same call may succeed later. Reading the chunks may raise it too.
    """
    try:
        import obstore
        from obstore import exceptions
    except ImportError as error:
        raise UserError(f"{url} needs obstore", install_line("cloud")) from error
    parts = urlsplit(url)
    denied = f"give credentials in the environment, or set {_ANONYMOUS[parts.scheme]} if the bucket is public"
    try:
        store, path = _store(f"{parts.scheme}://{parts.netloc}"), unquote(parts.path).strip("/")
        size = obstore.head(store, path)["size"]
        if start >= size:
            return iter(()), size
        chunks = obstore.get(store, path, options={"range": {"offset": start}}).stream(min_chunk_size=_CHUNK_BYTES)
        return _read(chunks), size
    except (exceptions.NotFoundError, FileNotFoundError) as error:
        raise UserError(f"there is no {url}", "check the address") from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError) as error:
        raise UserError(f"{url} may not be read", denied) from error
    except exceptions.BaseError as error:
        raise OSError(f"{_first_line(error)}; if no credentials were found, {denied}") from error


def _read(chunks: Iterator[Any]) -> Iterator[bytes]:
    from obstore.exceptions import BaseError

    try:
        for chunk in chunks:
            yield bytes(chunk)  # from a buffer of obstore
    except BaseError as error:
        raise OSError(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    """What the storage answered; the lines below describe obstore's own state."""
    return str(error).partition("\n")[0]


@cache
def _store(bucket_url: str) -> ObjectStore:
    """The store of a bucket. `download.fetch` tries again itself, so the store does so for half a minute only."""
    from datetime import timedelta

    from obstore.store import from_url

    return from_url(bucket_url, retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=30)})
