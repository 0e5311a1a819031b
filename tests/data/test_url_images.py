"""Images at a URL are fetched whole, within limits, and never from a private address that a redirect names."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from alexnet.data import url_images
from alexnet.data.images import BadImage
from alexnet.data.url_images import fetch_image, is_url
from alexnet.models import checkpoint
from command_line import alexnet as command
from inprocess import encoded
from weight_files import narrow

PHOTO = encoded(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path
        if "garbage" in path:
            assert path == "/garbage%20truck/M%C3%BCll%20eimer.png?width=9%200"
        if path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", path[4:])
            self.end_headers()
            return
        if path == "/drip":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
            while True:
                self.wfile.write(b"x")
                time.sleep(0.05)
        if path == "/nothing":
            self.send_error(404)
            return
        self.send_response(200)
        if path == "/endless":
            self.end_headers()
            while True:
                self.wfile.write(bytes(100_000))
        length = {"/cut": len(PHOTO) + 9, "/large": 10**9}.get(path, len(PHOTO))
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(PHOTO)

    def log_message(self, *arguments) -> None: ...


class Quiet(ThreadingHTTPServer):
    def handle_error(self, *arguments) -> None: ...


@pytest.fixture(scope="module")
def site():
    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def refusal(url: str, **options) -> str:
    with pytest.raises(BadImage) as caught:
        fetch_image(url, **options)
    said = str(caught.value)
    assert said.startswith(f"{url} cannot be fetched: ")
    assert said.endswith("; check the address, or save the image and name the file")
    return said.removeprefix(f"{url} cannot be fetched: ").rpartition("; check")[0]


def test_urls_are_told_from_paths():
    assert [is_url(name) for name in ("https://a/b.jpg", "ftp://a/b", "a.jpg", "C:/a.jpg")] == [
        True, True, False, False]


def test_an_image_is_fetched_whole(site):
    assert fetch_image(f"{site}/photo.png") == PHOTO
    assert fetch_image(f"{site}/garbage truck/Müll%20eimer.png?width=9 0#top") == PHOTO


@pytest.mark.parametrize(("path", "reason"), [
    ("nothing", "the server answers 404 Not Found"),
    ("cut", f"it was truncated after {len(PHOTO):,} of {len(PHOTO) + 9:,} bytes"),
    ("large", "it is larger than 50 MB"),
    ("to/file:///etc/passwd", "Redirection to url 'file:///etc/passwd' is not allowed"),
    ("to/ftp://127.0.0.1/x", "127.0.0.1 redirects to ftp://127.0.0.1/x, which is not an http address"),
])
def test_a_failed_fetch_names_the_reason(site, path, reason):
    assert reason in refusal(f"{site}/{path}")


def test_an_endless_response_is_abandoned(site, monkeypatch):
    monkeypatch.setattr(url_images, "MAX_BYTES", 1_000_000)
    assert refusal(f"{site}/endless") == "it is larger than 1 MB"
    monkeypatch.setattr(url_images, "MAX_BYTES", 10**12)
    monkeypatch.setattr(url_images, "MAX_SECONDS", 0.3)
    assert refusal(f"{site}/endless") == "it did not arrive within 0.3 seconds"


def test_headers_without_an_end_are_abandoned(site, monkeypatch):
    monkeypatch.setattr(url_images, "MAX_SECONDS", 0.5)
    assert refusal(f"{site}/drip") == "nothing arrived for 0.5 seconds"


def test_other_schemes_are_refused():
    for url in ("ftp://a/b.jpg", "file:///etc/passwd", "gopher://a/b", "http://"):
        assert refusal(url) == "only http:// and https:// addresses are fetched"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_a_redirect_is_refused_by_the_private_address_it_connects_to(site, host):
    port = site.rpartition(":")[2]
    target = f"http://{host}:{port}/photo.png"
    assert "a private address; allow that with --allow-private" in refusal(f"{site}/to/{target}")
    if "ffff" not in host:  # the server listens on IPv4 only
        assert fetch_image(f"{site}/to/{target}", allow_private=True) == PHOTO


def test_predict_takes_urls_beside_files(site, tmp_path, capsys):
    checkpoint.save(narrow("paper"), tmp_path / "best")
    (tmp_path / "photo.png").write_bytes(PHOTO)
    assert command("predict", tmp_path, f"{site}/photo.png", tmp_path / "photo.png", f"{site}/nothing", "--csv") == 2
    out, err = capsys.readouterr()
    rows = [line.split(",") for line in out.splitlines()[1:]]
    assert [row[2:] for row in rows[:5]] == [row[2:] for row in rows[5:]]
    assert {row[0] for row in rows} == {f"{site}/photo.png", str(tmp_path / "photo.png")}
    assert err.startswith(f"alexnet: {site}/nothing cannot be fetched: the server answers 404")
