"""A server on this machine that sends one file, with the faults of a bad network."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from alexnet._runtime import download

DRIP = threading.Event()
"""Never set: `time.sleep` does nothing in the tests."""


class DownloadServer(ThreadingHTTPServer):
    """Serve `content`; ranges can be turned off, and the first `cuts` connections are closed half-way."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges, self.cuts, self.status = content, True, 0, 200
        self.drips = ""
        """"headers" or "body": what is sent byte by byte, without an end."""
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/file.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: DownloadServer

    def do_GET(self) -> None:
        asked = self.headers.get("Range") if self.server.ranges else None
        self.server.asked.append(self.headers.get("Range"))
        begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        total = len(self.server.content)
        if self.server.status != 200 or begin >= total:
            self.send_error(self.server.status if self.server.status != 200 else 416)
            return
        if self.server.drips:
            self.drip()
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(total - begin))
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{total - 1}/{total}")
        self.end_headers()
        end = total
        if self.server.cuts:
            self.server.cuts, end = self.server.cuts - 1, begin + (total - begin) // 2
        self.wfile.write(self.server.content[begin:end])
        self.close_connection = True

    def drip(self) -> None:
        self.close_connection = True
        if self.server.drips == "body":
            self.send_response(200)
            self.end_headers()
        with suppress(OSError):
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX: " if self.server.drips == "headers" else b"")
            while self.server.drips:
                self.wfile.write(b"x")
                DRIP.wait(0.02)

    def log_message(self, *message: object) -> None:
        pass


@contextmanager
def serving(content: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[DownloadServer]:
    """A running server; no proxy is used, and attempts follow without a pause."""
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    with DownloadServer(content) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.drips = ""
        running.shutdown()
        thread.join()
