"""Images at a URL are fetched whole, within limits, and never from a private address that a redirect names."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request

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
    ("to/ftp://127.0.0.1/x", "it redirects to ftp://127.0.0.1/x, which is not an http address"),
])
def test_a_failed_fetch_names_the_reason(site, path, reason):
    assert reason in refusal(f"{site}/{path}")


def test_an_endless_response_is_abandoned(site, monkeypatch):
    monkeypatch.setattr(url_images, "MAX_BYTES", 1_000_000)
    assert refusal(f"{site}/endless") == "it is larger than 1 MB"
    monkeypatch.setattr(url_images, "MAX_BYTES", 10**12)
    monkeypatch.setattr(url_images, "MAX_SECONDS", 0.3)
    assert refusal(f"{site}/endless") == "it did not arrive within 0.3 seconds"


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


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1",
                                  "0.0.0.0", "224.0.0.1", "::1", "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1",
                                  "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost", "LOCALHOST.",
                                  "a.localhost"])
def test_private_and_public_addresses_are_told_apart(host):
    with pytest.raises(ValueError, match="a private address"):
        url_images._refuse_private(host)
    url_images._refuse_private("93.184.216.34")
    url_images._refuse_private("1572395042")  # the same address
    url_images._refuse_private("localhost.example.org")
    url_images._refuse_private("2606:2800:220:1:248:1893:25c8:1946")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_redirect_through_a_proxy_is_judged_by_its_name_and_not_by_the_proxys_address(scheme):
    def request(host):
        made = url_images._RedirectedRequest(f"{scheme}://{host}/x")
        made.set_proxy("127.0.0.1:3128", "http")
        return made

    handler = url_images._HttpHandler(allow_private=False)
    assert not handler._must_check_peer(request("example.org"))
    assert not handler._must_check_peer(request("example.org:8443"))
    with pytest.raises(ValueError, match="a private address"):
        handler._must_check_peer(request("10.0.0.5"))
    assert handler._must_check_peer(url_images._RedirectedRequest(f"{scheme}://example.org:8443/x"))


def test_a_redirect_from_https_to_http_is_refused():
    def redirect(url, to):
        return url_images._RedirectHandler().redirect_request(Request(url), None, 302, "Found", {}, to)

    with pytest.raises(ValueError, match=r"it redirects from https to http://example\.org/x"):
        redirect("https://example.org/", "http://example.org/x")
    assert redirect("http://example.org/", "https://example.org/x").full_url == "https://example.org/x"


def test_predict_takes_urls_beside_files(site, tmp_path, capsys):
    checkpoint.save(narrow("paper"), tmp_path / "best")
    (tmp_path / "photo.png").write_bytes(PHOTO)
    assert command("predict", tmp_path, f"{site}/photo.png", tmp_path / "photo.png", f"{site}/nothing", "--csv") == 2
    out, err = capsys.readouterr()
    rows = [line.split(",") for line in out.splitlines()[1:]]
    assert [row[2:] for row in rows[:5]] == [row[2:] for row in rows[5:]]
    assert {row[0] for row in rows} == {f"{site}/photo.png", str(tmp_path / "photo.png")}
    assert err.startswith(f"alexnet: {site}/nothing cannot be fetched: the server answers 404")
