"""Refuse connections of a test's own process to other machines: what needs a network belongs in no test.

Subprocesses, and libraries that open sockets in compiled code (torch's store, obstore), are not covered.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

Peer = str | bytes | tuple[Any, ...]
"""An address as `socket.connect` takes it: a path of a Unix socket, or a host, a port and more."""


def refusal(host: object) -> str:
    """What a test that wants to reach this host fails with; "" for this machine, as a name or an address."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "")
    if name.lower().rstrip(".") in ("", "localhost") or _is_loopback(name):
        return ""
    return (f"a test must not reach another machine, and this one asks for {name}; start a server on 127.0.0.1, or "
            "replace the function that asks")


def _is_loopback(name: str) -> bool:
    try:
        address = ip_address(_dotted(name))
    except ValueError:  # a name
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def _dotted(name: str) -> str:
    """The usual form of an IPv4 address, such as 2130706433 or 0x7f.1; any other text as it is."""
    try:
        return socket.inet_ntoa(socket.inet_aton(name))
    except OSError:
        return name


def _is_address(name: object) -> bool:
    try:
        ip_address(_dotted(str(name)).partition("%")[0])
    except ValueError:
        return False
    return True


def refuse_other_machines(patch: pytest.MonkeyPatch) -> None:
    """Let sockets connect to this machine only, and ask no name server.

    A refused test fails at once, with an exception that no `except OSError` or `except Exception` catches. In another
    thread it ends the thread, of which pytest warns, and warnings are errors.
    """
    def guarded(method: str) -> Callable[[socket.socket, Peer], Any]:
        connect = getattr(socket.socket, method)

        def connect_here(self: socket.socket, peer: Peer) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and (problem := refusal(peer[0])):
                pytest.fail(problem)
            return connect(self, peer)

        return connect_here

    for method in ("connect", "connect_ex"):
        patch.setattr(socket.socket, method, guarded(method))
    lookup = socket.getaddrinfo

    def look_up_here(host: object, *arguments: Any, **options: Any) -> Any:
        if not _is_address(host) and (problem := refusal(host)):  # an address is no question to a name server
            pytest.fail(problem)
        return lookup(host, *arguments, **options)

    patch.setattr(socket, "getaddrinfo", look_up_here)
