"""A server of a small network, in a thread of the test's own process, and what asks it."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from alexnet.serving.app import Service
from alexnet.serving.server import bind, server


class Served:
    """Where a server listens, and how it is asked."""

    def __init__(self, port: int, service: Service) -> None:
        self.port, self.service, self.url = port, service, f"http://127.0.0.1:{port}/"

    def ask(self, path: str, body: bytes | Any = None, method: str = "", **headers: str) -> tuple[int, Any, Any]:
        """Status, headers, and the answer: JSON read, else bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, body,
                               {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            said = answer.read()
            is_json = answer.headers.get("content-type") == "application/json"
            return answer.status, answer.headers, json.loads(said) if is_json else said
        finally:
            connection.close()

    def predict(self, body: bytes, query: str = "", **headers: str) -> tuple[int, Any, Any]:
        return self.ask(f"/predict{query}", body, **{"Content_Type": "image/png", **headers})

    def send(self, photos: dict[str, bytes], path: str = "/predict") -> tuple[int, Any, Any]:
        """Files as a form, as a browser sends them."""
        body, kind = form(photos)
        return self.ask(path, body, Content_Type=kind)


@contextlib.contextmanager
def served(service: Service) -> Iterator[Served]:
    """A server that answers while this lasts, and then stops as it would at a signal."""
    door, started = bind("127.0.0.1", 0), threading.Event()

    def stopping() -> None:
        service.draining = True

    running = server(service.app(), on_start=started.set, on_stop=stopping)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [door]})
    thread.start()
    try:
        assert started.wait(60)
        yield Served(door.getsockname()[1], service)
    finally:
        running.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def form(photos: dict[str, bytes]) -> tuple[bytes, str]:
    """A body and its content type."""
    parts = [b'--cut\r\nContent-Disposition: form-data; name="photo"; filename="%s"\r\n'
             b"Content-Type: application/octet-stream\r\n\r\n%s\r\n" % (name.encode(), data)
             for name, data in photos.items()]
    return b"".join(parts) + b"--cut--\r\n", "multipart/form-data; boundary=cut"


def encoded(pixels_HWC: np.ndarray, kind: str = "PNG") -> bytes:
    """An image's file."""
    stream = io.BytesIO()
    Image.fromarray(pixels_HWC).save(stream, kind)
    return stream.getvalue()
