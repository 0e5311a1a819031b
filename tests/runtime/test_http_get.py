"""Redirects stay on https and in the public network, and what a server sends with them is not read."""

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request

import pytest

from alexnet._runtime.http_get import (
    HttpHandler,
    RedirectedRequest,
    RedirectHandler,
    RedirectRules,
    is_private,
    open_url,
)
from alexnet.errors import UserError


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1",
                                  "0.0.0.0", "224.0.0.1", "::1", "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1",
                                  "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost", "LOCALHOST.",
                                  "a.localhost"])
def test_private_and_public_addresses_are_told_apart(host):
    assert is_private(host)
    assert not is_private("93.184.216.34")
    assert not is_private("1572395042")  # the same address
    assert not is_private("localhost.example.org")
    assert not is_private("2606:2800:220:1:248:1893:25c8:1946")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_redirect_through_a_proxy_is_judged_by_its_name_and_not_by_the_proxys_address(scheme):
    handler = HttpHandler(RedirectRules(private="never"))

    def connect(host, proxy="127.0.0.1:3128"):
        made = RedirectedRequest(f"{scheme}://{host}/x")
        if proxy:
            made.set_proxy(proxy, "http")
        handler._on_connected(made)("127.0.0.1")

    connect("example.org")
    connect("example.org:8443")
    with pytest.raises(UserError, match=r"redirects to 10\.0\.0\.5, a private address"):
        connect("10.0.0.5")
    with pytest.raises(UserError, match=r"redirects to 127\.0\.0\.1, a private address"):
        connect("example.org:8443", proxy="")


def test_a_private_host_may_redirect_to_a_private_one_and_a_public_one_may_not():
    for first, is_allowed in (("192.168.0.1", True), ("93.184.216.34", False)):
        handler = HttpHandler(RedirectRules())
        handler.check(Request("http://a.org/x"), first)
        if is_allowed:
            handler.check(RedirectedRequest("http://b.org/x"), "10.0.0.5")
            continue
        with pytest.raises(UserError, match="a private address"):
            handler.check(RedirectedRequest("http://b.org/x"), "10.0.0.5")


def test_a_redirect_from_https_to_http_is_refused():
    def redirect(url, to):
        return RedirectHandler(RedirectRules()).redirect_request(Request(url), io.BytesIO(), 302, "Found", {}, to)

    with pytest.raises(UserError, match=r"example\.org redirects from https to http://example\.org/x"):
        redirect("https://example.org/", "http://example.org/x")
    assert redirect("http://example.org/", "https://example.org/x").full_url == "https://example.org/x"


def test_the_body_of_a_redirect_is_not_read():
    sent = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/end":
                self.send_response(200)
                self.send_header("Content-Length", "4")
                self.end_headers()
                self.wfile.write(b"here")
                return
            self.send_response(302)
            self.send_header("Location", "/end")
            self.end_headers()
            while len(sent) < 1000:  # 100 MB
                self.wfile.write(bytes(100_000))
                sent.append(1)

        def log_message(self, *message) -> None: ...

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *arguments) -> None: ...

    with Quiet(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with open_url(f"http://127.0.0.1:{server.server_port}/", {}, 5, RedirectRules()) as response:
            assert response.read() == b"here"
        server.shutdown()
        thread.join()
    assert len(sent) < 500  # what the buffers of the sockets took
