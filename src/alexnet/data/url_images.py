"""Fetch an image from an http or https URL that a user names: limited bytes and seconds, no redirects to private hosts.

A URL that a user types may be in their own network. A redirect may not lead there: the server that sends it is not the
user. The check is made on the address of the connection, so that no host name can hide it.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import ipaddress
import socket
import time
import urllib.error
import urllib.request
from http.client import HTTPMessage
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import Request

from alexnet.data.images import BadImage
from alexnet.errors import UserError

MAX_BYTES = 50_000_000

MAX_SECONDS = 60.0
"""In all; a quarter of it for each response of the server."""


def is_url(name: str) -> bool:
    """Whether it has a scheme and is not a path: https://..., but also schemes that are refused later, such as ftp."""
    return "://" in name


def fetch_image(url: str, allow_private: bool = False) -> bytes:
    """Fetch the bytes at a URL. Raises BadImage, with the reason, if that fails.

    Args:
        allow_private: allow redirects to private addresses.
    """
    try:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise UserError("only http:// and https:// addresses are fetched")
        opener = urllib.request.OpenerDirector()
        for handler in (urllib.request.ProxyHandler(), _HttpHandler(allow_private), _RedirectHandler(),
                        urllib.request.HTTPErrorProcessor(), urllib.request.HTTPDefaultErrorHandler()):
            opener.add_handler(handler)
        return _receive(opener, _escaped(url))
    except urllib.error.HTTPError as error:
        error.close()
        reason = f"the server answers {error.code} {error.reason}"
    except urllib.error.URLError as error:
        reason = str(error.reason)
    except (ValueError, OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
    raise BadImage(f"{url} cannot be fetched: {' '.join(reason.split())}",
                   "check the address, or save the image and name the file")


def _escaped(url: str) -> str:
    """Percent-encode what a request may not contain, such as blanks and letters of other alphabets."""
    parts = urlsplit(url)
    path, query = (quote(text, safe="%/:=&?~#+!$,;'@()*[]") for text in (parts.path, parts.query))
    return urlunsplit(parts._replace(path=path, query=query, fragment=""))


def _receive(opener: urllib.request.OpenerDirector, url: str) -> bytes:
    """The response's body. Raises UserError if it is too large, too slow or truncated."""
    began = time.monotonic()
    # Some image servers refuse requests without a User-Agent.
    request = urllib.request.Request(url, headers={"User-Agent": "alexnet", "Accept": "image/*"})
    with opener.open(request, timeout=MAX_SECONDS / 4) as response:
        declared = response.headers.get("Content-Length", "")
        blocks, size = [], 0
        while block := response.read1(1 << 16):
            size += len(block)
            if size > MAX_BYTES or (declared.isdigit() and int(declared) > MAX_BYTES):
                raise UserError(f"it is larger than {MAX_BYTES / 1e6:g} MB")
            if time.monotonic() - began > MAX_SECONDS:
                raise UserError(f"it did not arrive within {MAX_SECONDS:g} seconds")
            blocks.append(block)
        if declared.isdigit() and size < int(declared):
            raise UserError(f"it was truncated after {size:,} of {int(declared):,} bytes")
        return b"".join(blocks)


class _RedirectedRequest(urllib.request.Request):
    """A request to a URL that a server, and not the user, has named."""


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    max_redirections = 5

    def redirect_request(
        self, request: Request, response: IO[bytes], code: int, text: str, headers: HTTPMessage, url: str,
    ) -> Request | None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise UserError(f"it redirects to {url[:100]}, which is not an http address")
        if request.type == "https" and urlsplit(url).scheme == "http":
            raise UserError(f"it redirects from https to {url[:100]}, which anyone on the way can change")
        made = super().redirect_request(request, response, code, text, headers, url)
        return made and _RedirectedRequest(
            made.full_url, headers=made.headers, origin_req_host=made.origin_req_host, unverifiable=True)


class _HttpHandler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Both schemes. After a redirect, the connections check the address that they have reached."""

    def __init__(self, allow_private: bool) -> None:
        urllib.request.HTTPSHandler.__init__(self)
        self.allow_private = allow_private

    def http_open(self, request: Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_Connection, check_peer=self._must_check_peer(request)), request)

    def https_open(self, request: Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_SecureConnection, check_peer=self._must_check_peer(request)), request)

    def _must_check_peer(self, request: Request) -> bool:
        if not isinstance(request, _RedirectedRequest) or self.allow_private:
            return False
        # A proxy connects for us, so the peer is the proxy. For https, `has_proxy` knows nothing of it.
        if request.host != unquote(urlsplit(request.full_url).netloc):
            _refuse_private(urlsplit(request.full_url).hostname or "")
            return False
        return True


class _Connection(http.client.HTTPConnection):
    def __init__(self, *arguments: Any, check_peer: bool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.check_peer = check_peer

    def connect(self) -> None:
        super().connect()
        if self.check_peer:
            _refuse_private(self.sock.getpeername()[0])


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    """The same, with TLS."""


def _refuse_private(host: str) -> None:
    """Raise UserError for an address that is not in the public network."""
    error = UserError(f"it redirects to {host}, a private address", "allow that with --allow-private")
    name = host.rstrip(".").lower()
    address = _address_in(name)
    if address is None:
        if name == "localhost" or name.endswith(".localhost"):  # RFC 6761
            raise error
        return
    mapped = getattr(address, "ipv4_mapped", None) or address
    if not mapped.is_global or mapped.is_multicast:
        raise error


def _address_in(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host name is, in any notation that resolvers accept (2130706433, 0x7f.1); None for others."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.partition("%")[0])
    with contextlib.suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(host))
    return None
