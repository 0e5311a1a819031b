"""No test reaches another machine: tests/conftest.py refuses it in every test, these included."""

import socket
from contextlib import closing, suppress
from http.client import HTTPConnection

import pytest

from network_guard import refusal


def refused(host):
    return pytest.raises(pytest.fail.Exception, match=f"must not reach another machine, and this one asks for {host}")


@pytest.mark.parametrize("method", ["connect", "connect_ex"])
@pytest.mark.parametrize(("family", "peer"), [
    (socket.AF_INET, ("192.0.2.7", 80)), (socket.AF_INET, ("10.77.0.1", 80)), (socket.AF_INET, ("example.org", 80)),
    (socket.AF_INET, ("3221225991", 80)), (socket.AF_INET6, ("2001:db8::1", 80, 0, 0))])
def test_a_connection_to_another_machine_fails_the_test(method, family, peer):
    with closing(socket.socket(family)) as client, refused(peer[0]):
        client.settimeout(0.1)
        getattr(client, method)(peer)


def test_no_name_server_is_asked():
    for host in ("example.org", b"example.org", "localhost.example.org"):
        with refused(host.decode() if isinstance(host, bytes) else host):
            socket.getaddrinfo(host, 80)


def test_code_that_expects_a_bad_network_does_not_catch_it():
    with refused("example.org"), suppress(Exception):
        HTTPConnection("example.org", timeout=0.1).request("GET", "/")


def test_this_machine_is_reached_by_any_of_its_names(tmp_path):
    for host in (None, "", "localhost", b"localhost", "LOCALHOST.", "127.0.0.2", "::1", "::ffff:127.0.0.1", "0.0.0.0",
                 "2130706433", "0x7f.1"):
        assert refusal(host) == ""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        socket.create_connection(("localhost", server.getsockname()[1]), timeout=9).close()
    with closing(socket.socket(socket.AF_UNIX)) as server, closing(socket.socket(socket.AF_UNIX)) as client:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        client.connect(str(tmp_path / "socket"))
    assert socket.getaddrinfo("192.0.2.7", 80), "an address needs no name server"
