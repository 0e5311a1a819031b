"""Fetch an image from an http or https URL that a user names: limited bytes and seconds, no redirects to private hosts.

A URL that a user types may be in their own network. A redirect may not lead there: the server that sends it is not the
user.
"""

from __future__ import annotations

import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from urllib.parse import quote, urlsplit, urlunsplit

from alexnet._runtime.http_get import RedirectRules, open_url
from alexnet._runtime.transfer import Answer, TransferError, receiving
from alexnet.data.images import BadImage
from alexnet.errors import UserError

MAX_BYTES = 50_000_000

MAX_SECONDS = 60.0
"""In all; a quarter of it for each read of the connection."""


def is_url(name: str) -> bool:
    """Whether it has a scheme and is not a path: https://..., but also schemes that are refused later, such as ftp."""
    return "://" in name


def fetch_image(url: str, allow_private: bool = False) -> bytes:
    """Fetch the bytes at a URL. Raises BadImage, with the reason, if that fails.

    Args:
        allow_private: allow redirects to private addresses.
    """
    try:
        with receiving(partial(_open, url, allow_private), MAX_SECONDS) as answer:
            return _receive(answer)
    except (ValueError, TransferError) as error:
        reason = str(error) or type(error).__name__
    raise BadImage(f"{url} cannot be fetched: {' '.join(reason.split())}",
                   "check the address, or save the image and name the file")


@contextmanager
def _open(url: str, allow_private: bool) -> Iterator[Answer]:
    rules = RedirectRules(private="always" if allow_private else "never",
                          private_remedy="allow that with --allow-private")
    # Some image servers refuse requests without a User-Agent.
    headers = {"User-Agent": "alexnet", "Accept": "image/*"}
    try:
        response = open_url(_escaped(url), headers, MAX_SECONDS / 4, rules)
    except urllib.error.HTTPError as error:
        error.close()
        raise UserError(f"the server answers {error.code} {error.reason}") from error
    with response:
        declared = response.headers.get("Content-Length", "")
        yield Answer(iter(lambda: response.read1(1 << 16), b""), total=int(declared) if declared.isdigit() else None)


def _escaped(url: str) -> str:
    """Percent-encode what a request may not contain, such as blanks and letters of other alphabets."""
    parts = urlsplit(url)
    path, query = (quote(text, safe="%/:=&?~#+!$,;'@()*[]") for text in (parts.path, parts.query))
    return urlunsplit(parts._replace(path=path, query=query, fragment=""))


def _receive(answer: Answer) -> bytes:
    """The response's body. Raises UserError if it is too large, too slow or truncated."""
    began, blocks, size, too_large = time.monotonic(), [], 0, f"it is larger than {MAX_BYTES / 1e6:g} MB"
    if answer.total is not None and answer.total > MAX_BYTES:
        raise UserError(too_large)
    for block in answer.blocks:
        size += len(block)
        if size > MAX_BYTES:
            raise UserError(too_large)
        if time.monotonic() - began > MAX_SECONDS:
            raise UserError(f"it did not arrive within {MAX_SECONDS:g} seconds")
        blocks.append(block)
    if answer.total is not None and size < answer.total:
        raise UserError(f"it was truncated after {size:,} of {answer.total:,} bytes")
    return b"".join(blocks)
