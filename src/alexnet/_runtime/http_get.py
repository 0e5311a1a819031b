"""GET requests over http and https. Redirects do not leave https and reach no private address; their bodies are unread.

The check for private addresses is made on the address of the connection, so that no host name can hide it.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import ipaddress
import socket
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import IO, Any
from urllib.parse import unquote, urlsplit
from urllib.request import Request

from alexnet.errors import UserError


@dataclass(frozen=True)
class RedirectRules:
    """Where a server may redirect to. It is not the user, who may name any address.

    Attributes:
        same_host: to the requested host only.
        private: to a private address: "never", "from private" (if the requested one is private too), or "always".
        private_remedy: what the user can do if a private address is refused.
    """

    same_host: bool = False
    private: str = "from private"
    private_remedy: str = "download the file another way"


def open_url(url: str, headers: Mapping[str, str], timeout: float, rules: RedirectRules) -> http.client.HTTPResponse:
    """Request a URL and follow its redirects, five at most. Uses the proxies of the environment.

    Args:
        timeout: seconds for a connection, and for each read.

    Raises:
        UserError: the URL is not of http or https, or a redirect is refused.
        urllib.error.HTTPError: the status code is no success.
        OSError, http.client.HTTPException, ValueError: the connection fails, or the answer is not HTTP.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise UserError("only http:// and https:// addresses are fetched")
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), HttpHandler(rules), RedirectHandler(rules),
                    urllib.request.HTTPErrorProcessor(), urllib.request.HTTPDefaultErrorHandler()):
        opener.add_handler(handler)
    return opener.open(Request(url, headers=dict(headers)), timeout=timeout)


class RedirectedRequest(Request):
    """A request to a URL that a server, and not the user, has named."""


class RedirectHandler(urllib.request.HTTPRedirectHandler):
    """Follow the redirects that `RedirectRules` allow."""

    max_redirections = 5

    def __init__(self, rules: RedirectRules) -> None:
        self.rules = rules

    def redirect_request(
        self, request: Request, response: IO[bytes], code: int, text: str, headers: HTTPMessage, url: str,
    ) -> Request | None:
        response.close()  # or else urllib reads the body of the redirect, which may be endless, into memory
        check_redirect(request.full_url, url)
        target, requested = urlsplit(url).hostname, urlsplit(request.full_url).hostname
        if self.rules.same_host and target != requested:
            raise UserError(f"{requested} redirects to {target}, and only the host that you named is asked",
                            "if you trust that host, give its address")
        made = super().redirect_request(request, response, code, text, headers, url)
        return made and RedirectedRequest(
            made.full_url, headers=made.headers, origin_req_host=made.origin_req_host, unverifiable=True)


def check_redirect(url: str, target: str) -> None:
    """Raise UserError for a redirect from `url` that leaves http and https, or https for http."""
    host, scheme = urlsplit(url).hostname, urlsplit(target).scheme
    if scheme not in ("http", "https"):
        raise UserError(f"{host} redirects to {target[:100]}, which is not an http address", "check the address")
    if urlsplit(url).scheme == "https" != scheme:
        raise UserError(f"{host} redirects from https to {target[:100]}, which anyone on the way can change",
                        "download the file another way")


class HttpHandler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Both schemes. After a redirect, the connections check the address that they have reached."""

    def __init__(self, rules: RedirectRules) -> None:
        urllib.request.HTTPSHandler.__init__(self)
        self.rules = rules
        self.is_first_private = False

    def http_open(self, request: Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_Connection, on_connected=self._on_connected(request)), request)

    def https_open(self, request: Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_SecureConnection, on_connected=self._on_connected(request)), request)

    def _on_connected(self, request: Request) -> Any:  # a function of the peer's address
        # A proxy connects for us, so the peer is the proxy. For https, `has_proxy` knows nothing of it.
        if request.host != unquote(urlsplit(request.full_url).netloc):
            self.check(request, urlsplit(request.full_url).hostname or "")
            return lambda address: None
        return functools.partial(self.check, request)

    def check(self, request: Request, host: str) -> None:
        """Raise UserError if a redirect may not reach this host; remember whether the first one is private.

        Args:
            host: the address of the connection; with a proxy, the name in the URL.
        """
        if not isinstance(request, RedirectedRequest):
            self.is_first_private = is_private(host)
        elif is_private(host) and not (self.rules.private == "always" or (
                self.rules.private == "from private" and self.is_first_private)):
            raise UserError(f"{request.origin_req_host} redirects to {host}, a private address",
                            self.rules.private_remedy)


class _Connection(http.client.HTTPConnection):
    def __init__(self, *arguments: Any, on_connected: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.on_connected = on_connected

    def connect(self) -> None:
        super().connect()
        try:
            self.on_connected(self.sock.getpeername()[0])
        except UserError:
            self.close()
            raise


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    """The same, with TLS."""


def is_private(host: str) -> bool:
    """Whether an address, or a host name, is certainly not in the public network. Names are not resolved."""
    name = host.rstrip(".").lower()
    address = _address_in(name)
    if address is None:
        return name == "localhost" or name.endswith(".localhost")  # RFC 6761
    mapped = getattr(address, "ipv4_mapped", None) or address
    return not mapped.is_global or mapped.is_multicast


def _address_in(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host name is, in any notation that resolvers accept (2130706433, 0x7f.1); None for others."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.partition("%")[0])
    with contextlib.suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(host))
    return None
