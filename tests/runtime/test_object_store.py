"""Packed folders at s3:// URLs: a server on this machine plays the bucket, with resumed and refused downloads."""

import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from alexnet._runtime import download, object_store
from alexnet._runtime.download import Download, fetch
from alexnet._runtime.extras import install_line
from alexnet.data.packed import PackedDataset
from alexnet.data.packing import pack
from alexnet.data.remote import open_stream
from alexnet.data.sources.detect import open_dataset

pytest.importorskip("obstore")


class Bucket(ThreadingHTTPServer):
    """Answers HEAD and GET of /bucket/..., as S3 does for path-style requests."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.denied, self.ranges = root, False, list[str | None]()


class Handler(BaseHTTPRequestHandler):
    server: Bucket
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.server.root / unquote(self.path.partition("?")[0]).removeprefix("/bucket/")
        if self.server.denied or not path.is_file():
            self.respond(403 if self.server.denied else 404, b"<Error/>")
            return
        content, asked = path.read_bytes(), self.headers.get("Range")
        self.server.ranges.append(asked)
        if asked:
            begin = int(asked.removeprefix("bytes=").partition("-")[0])
            self.respond(206, content[begin:], f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.respond(200, content)

    do_HEAD = do_GET

    def respond(self, status: int, body: bytes, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.send_header("ETag", '"1"')
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *message: object) -> None:
        pass


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    object_store._store.cache_clear()
    (tmp_path / "bucket").mkdir()
    with Bucket(tmp_path / "bucket") as running:
        for name, value in {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{running.server_port}", "AWS_ALLOW_HTTP": "true",
                            "AWS_SKIP_SIGNATURE": "true", "AWS_REGION": "us-east-1"}.items():
            monkeypatch.setenv(name, value)
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_pack_is_streamed_from_a_bucket(bucket: Bucket, class_folders: Path):
    local = pack(open_dataset(class_folders), bucket.root / "my data" / "pets", side=32, codec="jpeg", shard_images=20)
    streamed = open_stream("s3://bucket/my data/pets")
    assert isinstance(streamed, PackedDataset)
    for split in ("train", "val"):
        every = np.arange(len(local.split(split)))
        assert np.array_equal(streamed.split(split).labels, local.split(split).labels)
        assert np.array_equal(streamed.split(split).read(every), local.split(split).read(every))


def test_a_partial_download_resumes_where_it_stopped(bucket: Bucket, tmp_path: Path):
    content = bytes(range(256)) * 20
    (bucket.root / "file").write_bytes(content)
    (tmp_path / "file.part").write_bytes(content[:1_000])
    assert fetch(Download("s3://bucket/file", "", 10_000), tmp_path / "file").read_bytes() == content
    assert bucket.ranges[-1] == "bytes=1000-"


def test_what_does_not_exist_or_is_denied_is_said_with_the_remedy(bucket: Bucket, tmp_path: Path):
    with pytest.raises(ValueError, match=r"there is no s3://bucket/nothing; check the address"):
        fetch(Download("s3://bucket/nothing", "", 10_000), tmp_path / "file")
    bucket.denied = True
    with pytest.raises(ValueError, match=r"s3://bucket/file may not be read; give cred.*AWS_SKIP_SIGNATURE=true"):
        fetch(Download("s3://bucket/file", "", 10_000), tmp_path / "file")


def test_without_obstore_the_remedy_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ValueError, match=re.escape(f"s3://bucket/file needs obstore; {install_line('cloud')}")):
        fetch(Download("s3://bucket/file", "", 10_000), tmp_path / "file")
