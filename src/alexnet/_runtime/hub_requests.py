"""Requests to the Hugging Face Hub whose answers are limited: by huggingface_hub's client, with its token and settings.

The library itself writes all that a server sends to the disk before it compares the size, decompresses answers, and
reads what its programming interface answers into memory whatever its size. Its client is used here because it has the
user's proxies, certificates and HF_HUB_OFFLINE.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

from alexnet._runtime.http_get import check_redirect, is_private
from alexnet._runtime.transfer import Answer
from alexnet.errors import UserError, require

Response = Any
"""Of httpx, or of httpx2 from huggingface_hub 2 on."""

_MOST_REDIRECTS = 5
_ERROR_BYTES = 64_000
"""Read of the message of an error."""
_SECONDS = 15.0
"""For a connection, and for each read, unless HF_HUB_DOWNLOAD_TIMEOUT says more."""


@contextmanager
def open_hub_url(url: str, start: int = 0) -> Iterator[Answer]:
    """Request a URL of the hub, with the user's token, which is not sent to another host after a redirect.

    Args:
        start: offset of the first byte that is needed.

    Raises:
        UserError: a redirect is refused, or the server compresses its answer.
        Exception: what huggingface_hub and its client raise.
    """
    from huggingface_hub.utils import build_hf_headers

    headers = {**build_hf_headers(library_name="alexnet"), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    response = _follow(url, headers)
    try:
        if response.status_code == 416 and start:  # the partial file has all bytes or more; the checksum decides
            yield Answer(iter(()), start, is_past_end=True)
            return
        _raise_for_status(response)
        encoding = response.headers.get("Content-Encoding", "identity")
        require(encoding == "identity", f"{urlsplit(url).hostname} sends {url} compressed ({encoding}), although that "
                "was not asked for", "try again later, or set HF_ENDPOINT to another host")
        resumes = response.status_code == 206 and response.headers.get("Content-Range", "").startswith(
            f"bytes {start}-")
        length, start = response.headers.get("Content-Length", ""), start if resumes else 0
        yield Answer(response.iter_raw(), start, start + int(length) if length.isdigit() else None)
    finally:
        response.close()


def _follow(url: str, headers: dict[str, str]) -> Response:
    """The answer after redirects, which stay on https and reach no private address from a public one."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    session, first_is_private = get_session(), None
    timeout = max(_SECONDS, constants.HF_HUB_DOWNLOAD_TIMEOUT)
    for _ in range(_MOST_REDIRECTS + 1):
        request = session.build_request("GET", url, headers=headers, timeout=timeout)
        response = session.send(request, stream=True, follow_redirects=False)
        reached = is_private(_peer(response)) or is_private(urlsplit(url).hostname or "")
        first_is_private = reached if first_is_private is None else first_is_private
        if reached and not first_is_private:
            response.close()
            raise _private(url)
        if not response.has_redirect_location:
            return response
        response.close()  # unread: its body may be endless
        target = urljoin(url, response.headers["Location"])
        check_redirect(url, target)
        if is_private(urlsplit(target).hostname or "") and not first_is_private:
            raise _private(target)
        if urlsplit(target)[:2] != urlsplit(url)[:2]:
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        url = target
    raise UserError(f"{urlsplit(url).hostname} redirects more than {_MOST_REDIRECTS} times", "try again later")


def _private(target: str) -> UserError:
    return UserError(f"the hub redirects to {urlsplit(target).hostname}, a private address",
                     "set HF_ENDPOINT to another host")


def _peer(response: Response) -> str:
    """The address that a connection has reached, which may be a proxy's; "" if the client does not say."""
    stream = response.extensions.get("network_stream")
    address = stream.get_extra_info("server_addr") if stream else None
    return str(address[0]) if isinstance(address, tuple) and address else ""


def _raise_for_status(response: Response) -> None:
    """Raise the library's error for a status code that is no success, with the first bytes of the server's message."""
    from huggingface_hub.utils import hf_raise_for_status

    if response.status_code < 400:
        return
    message = b""
    for block in response.iter_raw():
        message = (message + block)[:_ERROR_BYTES]
        if len(message) == _ERROR_BYTES:
            break
    headers = {name: value for name, value in response.headers.items()
               if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")}
    hf_raise_for_status(type(response)(
        response.status_code, headers=headers, content=message, request=response.request))
