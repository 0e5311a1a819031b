"""An image at an http or https address -> its bytes, where a user names one: within limits, and led nowhere else.

An address that a user types is theirs to choose, also in their own network. Where its server sends on to, it is not:
a redirect to a private address is refused, by the address that was really connected to, so that no name can lie.
"""

from __future__ import annotations

import functools
import http.client
import ipaddress
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from alexnet.data.images import BadImage

BYTES = 50_000_000
"""More are not fetched."""

SECONDS = 60.0
"""In all; and a quarter of it for each answer that must come."""


def is_url(name: str) -> bool:
    """Whether it has a scheme and is no path: https://..., but also what is refused in words, such as ftp://."""
    return "://" in name


def fetch_image(url: str, allow_private: bool = False) -> bytes:
    """What stands at an address. allow_private: also where a redirect leads to a private one.

    Raises BadImage, in one sentence, for what cannot be fetched.
    """
    try:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError("only http:// and https:// addresses are fetched")
        opener = urllib.request.OpenerDirector()
        for handler in (urllib.request.ProxyHandler(), _Http(allow_private), _Redirect(),
                        urllib.request.HTTPErrorProcessor(), urllib.request.HTTPDefaultErrorHandler()):
            opener.add_handler(handler)
        return _within_limits(opener, _as_a_browser(url))
    except urllib.error.HTTPError as problem:
        problem.close()
        reason = f"the server answers {problem.code} {problem.reason}"
    except urllib.error.URLError as problem:
        reason = str(problem.reason)
    except (ValueError, OSError, http.client.HTTPException) as problem:
        reason = str(problem) or type(problem).__name__
    raise BadImage(f"{url} cannot be fetched: {' '.join(reason.split())}; check the address, or save the image "
                   "and name the file")


def _as_a_browser(url: str) -> str:
    """What a request may not hold, such as blanks and other alphabets' letters, in the bytes that stand for it."""
    parts = urlsplit(url)
    path, query = (quote(text, safe="%/:=&?~#+!$,;'@()*[]") for text in (parts.path, parts.query))
    return urlunsplit(parts._replace(path=path, query=query, fragment=""))


def _within_limits(opener: urllib.request.OpenerDirector, url: str) -> bytes:
    began = time.monotonic()
    # Some servers of pictures refuse who does not say who they are.
    request = urllib.request.Request(url, headers={"User-Agent": "alexnet", "Accept": "image/*"})
    with opener.open(request, timeout=SECONDS / 4) as answer:
        declared = answer.headers.get("Content-Length", "")
        blocks, size = [], 0
        while block := answer.read1(1 << 16):
            size += len(block)
            if size > BYTES or (declared.isdigit() and int(declared) > BYTES):
                raise ValueError(f"it is larger than {BYTES / 1e6:g} MB")
            if time.monotonic() - began > SECONDS:
                raise ValueError(f"it did not arrive within {SECONDS:g} seconds")
            blocks.append(block)
        if declared.isdigit() and size < int(declared):
            raise ValueError(f"it was cut off after {size:,} of {int(declared):,} bytes")
        return b"".join(blocks)


class _Redirect(urllib.request.HTTPRedirectHandler):
    max_redirections = 5

    def redirect_request(self, request: Any, answer: Any, code: int, text: str, headers: Any, url: str) -> Any:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"it sends on to {url[:100]}, which is no http address")
        made = super().redirect_request(request, answer, code, text, headers, url)
        if made is not None:
            made.led = True  # type: ignore[attr-defined]
        return made


class _Http(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Both schemes, over connections that look whom they have reached where a redirect led them there."""

    def __init__(self, allow_private: bool) -> None:
        urllib.request.HTTPSHandler.__init__(self)
        self.allow_private = allow_private

    def http_open(self, request: Any) -> Any:
        return self.do_open(functools.partial(_Connection, looks=self._looks(request)), request)

    def https_open(self, request: Any) -> Any:
        return self.do_open(functools.partial(_SafeConnection, looks=self._looks(request)), request)

    def _looks(self, request: Any) -> bool:
        if not getattr(request, "led", False) or self.allow_private:
            return False
        if request.has_proxy():  # which connects in our place; its own address says nothing
            _refuse_private(urlsplit(request.full_url).hostname or "")
            return False
        return True


class _Connection(http.client.HTTPConnection):
    def __init__(self, *arguments: Any, looks: bool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.looks = looks

    def connect(self) -> None:
        super().connect()
        if self.looks:
            _refuse_private(self.sock.getpeername()[0])


class _SafeConnection(_Connection, http.client.HTTPSConnection):
    """The same, encrypted."""


def _refuse_private(host: str) -> None:
    """Raises ValueError for an address that is not the public network's."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # a name
        if host == "localhost":
            raise ValueError(f"it sends on to {host}, a private address; allow that with --allow-private") from None
        return
    mapped = getattr(address, "ipv4_mapped", None) or address
    if not mapped.is_global or mapped.is_multicast:
        raise ValueError(f"it sends on to {host}, a private address; allow that with --allow-private")
