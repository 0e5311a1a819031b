"""Run a small server in a thread of the test process, and send it requests."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from alexnet.data.packed import PackedDataset
from alexnet.inference.predictor import Model
from alexnet.serving.app import create_app
from alexnet.serving.explanations import ReferenceSet
from alexnet.serving.middleware import allowed_hosts
from alexnet.serving.samples import sample_images
from alexnet.serving.served_model import ServedModel
from alexnet.serving.server import bind, create_server
from alexnet.serving.service import Service


class Client:
    """Send requests to a server on this machine."""

    def __init__(self, port: int, service: Service | None = None, begin_shutdown: Callable[[], object] = int) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}/"
        self._service, self.begin_shutdown = service, begin_shutdown

    @property
    def service(self) -> Service:
        """The service behind the server, where it runs in this process."""
        assert self._service is not None
        return self._service

    def request(self, path: str, body: bytes | Any = None, method: str = "", **headers: str) -> tuple[int, Any, Any]:
        """Status, headers, and the body: parsed JSON, else bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, body,
                               {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            data = response.read()
            is_json = response.headers.get("content-type") == "application/json"
            return response.status, response.headers, json.loads(data) if is_json else data
        finally:
            connection.close()

    def predict(self, body: bytes, query: str = "", **headers: str) -> tuple[int, Any, Any]:
        """POST one image to /predict."""
        return self.request(f"/predict{query}", body, **{"Content_Type": "image/png", **headers})

    def post_form(self, files: dict[str, bytes], path: str = "/predict") -> tuple[int, Any, Any]:
        """POST files as a form, as a browser does."""
        body, content_type = form(files)
        return self.request(path, body, Content_Type=content_type)


@contextlib.contextmanager
def served(service: Service) -> Iterator[Client]:
    """Run a server while the context lasts, then shut it down as at a signal."""
    listener, started = bind("127.0.0.1", 0), threading.Event()

    def on_stop() -> None:
        service.is_draining = True

    def begin_shutdown() -> None:
        running.should_exit = True

    running = create_server(create_app(service), service.limits, on_start=started.set, on_stop=on_stop)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert started.wait(60)
        yield Client(listener.getsockname()[1], service, begin_shutdown)
    finally:
        begin_shutdown()
        thread.join(60)
        assert not thread.is_alive()


def full_service(model: Model, packed: PackedDataset) -> Service:
    """A service with validation errors, samples, a reference set and allowed hosts; without a token."""
    served = ServedModel(model, {"top1_error": 0.25, "top5_error": 0.0, "images": 1200},
                         ReferenceSet.of(model, packed), sample_images(packed))
    return Service([served], hosts=allowed_hosts("127.0.0.1"))


def form(files: dict[str, bytes]) -> tuple[bytes, str]:
    """The body of a form and its content type."""
    parts = [b'--cut\r\nContent-Disposition: form-data; name="image"; filename="%s"\r\n'
             b"Content-Type: application/octet-stream\r\n\r\n%s\r\n" % (name.encode(), data)
             for name, data in files.items()]
    return b"".join(parts) + b"--cut--\r\n", "multipart/form-data; boundary=cut"


def encoded(pixels_HWC: np.ndarray, kind: str = "PNG") -> bytes:
    """An image file."""
    stream = io.BytesIO()
    Image.fromarray(pixels_HWC).save(stream, kind)
    return stream.getvalue()
