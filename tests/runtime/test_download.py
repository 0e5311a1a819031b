"""A download arrives whole or not at all: resumed, verified, and with a remedy for each failure."""

import hashlib
import io
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import Request

import numpy as np
import pytest

from alexnet._runtime import transfer
from alexnet._runtime.cache import cache_folder
from alexnet._runtime.download import Download, fetch
from alexnet._runtime.http_get import RedirectHandler, RedirectRules
from alexnet.errors import UserError
from download_server import DownloadServer, serving

CONTENT = np.random.default_rng(0).bytes(3_000_000)
CHECKSUM = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[DownloadServer]:
    with serving(CONTENT, monkeypatch) as running:
        yield running


def source(server: DownloadServer, limit: int = len(CONTENT), **facts: Any) -> Download:
    return Download(server.url, CHECKSUM, limit, **facts)


def test_a_download_arrives_whole_and_reports_its_progress(server: DownloadServer, tmp_path: Path):
    calls: list[tuple[int, int]] = []
    path = fetch(source(server), tmp_path / "cache" / "file", lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_an_existing_file_is_not_downloaded_again(server: DownloadServer, tmp_path: Path):
    for _ in range(2):
        fetch(source(server), tmp_path / "file")
    assert len(server.asked) == 1


def test_concurrent_requests_for_one_file_download_it_once(server: DownloadServer, tmp_path: Path):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(source(server), tmp_path / "file"), range(4)))
    assert set(paths) == {tmp_path / "file"}
    assert len(server.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_interrupted_download_resumes(server: DownloadServer, tmp_path: Path):
    server.cuts = 2
    assert fetch(source(server), tmp_path / "file").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1500000-", "bytes=2250000-"]


def test_without_range_support_a_download_starts_again(server: DownloadServer, tmp_path: Path):
    server.cuts, server.ranges = 2, False
    assert fetch(source(server), tmp_path / "file").read_bytes() == CONTENT


def test_a_failed_download_keeps_the_received_bytes(server: DownloadServer, tmp_path: Path):
    server.cuts = 99
    with pytest.raises(ValueError, match=r"cut off 5 times; [\d,]+ bytes are kept"):
        fetch(source(server), tmp_path / "file")
    assert (tmp_path / "file.part").stat().st_size > 2_900_000
    server.cuts = 0
    assert fetch(source(server), tmp_path / "file").read_bytes() == CONTENT


def test_a_complete_partial_file_is_verified_and_used(server: DownloadServer, tmp_path: Path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert fetch(source(server), tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"", b"something else", CONTENT + b"too long"])
def test_a_download_with_a_wrong_checksum_is_deleted(server: DownloadServer, tmp_path: Path, part: bytes):
    if part:
        (tmp_path / "file.part").write_bytes(part)
    else:
        server.content = CONTENT[:-1] + b"?"
    with pytest.raises(ValueError, match=rf"{server.url} sent has checksum .* was deleted; try again"):
        fetch(source(server), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
    server.content = CONTENT
    assert fetch(source(server), tmp_path / "file").read_bytes() == CONTENT


def test_a_missing_file_is_reported_with_the_path_to_put_it(server: DownloadServer, tmp_path: Path):
    server.status = 404
    with pytest.raises(ValueError, match=rf"answers 404 .*put it at {tmp_path}/file"):
        fetch(source(server), tmp_path / "file")


def test_without_a_network_the_error_names_a_remedy(server: DownloadServer, tmp_path: Path):
    address = server.url.replace(str(server.server_port), "1")  # no server listens on this port
    with pytest.raises(ValueError, match=rf"cannot fetch {address} .*or put the file at {tmp_path}/file"):
        fetch(Download(address, CHECKSUM, len(CONTENT)), tmp_path / "file")


@pytest.mark.parametrize(("url", "target", "is_allowed"), [
    ("https://a.org/x", "https://a.org/y", True), ("https://a.org/x", "http://a.org/x", False),
    ("https://a.org/x", "ftp://a.org/x", False), ("http://a.org/x", "https://a.org/x", True)])
def test_a_redirect_does_not_leave_https(url: str, target: str, is_allowed: bool):
    def redirect():
        return RedirectHandler(RedirectRules()).redirect_request(
            Request(url), io.BytesIO(), 302, "Found", Message(), target)

    if is_allowed:
        assert redirect().full_url == target
    else:
        with pytest.raises(UserError, match=r"^a\.org redirects "):
            redirect()


def test_a_file_with_more_bytes_than_it_may_have_is_not_kept(server: DownloadServer, tmp_path: Path):
    with pytest.raises(UserError, match="sends more than the 1,000,000 bytes that this file may have"):
        fetch(source(server, limit=1_000_000), tmp_path / "file")
    assert not [path.name for path in tmp_path.iterdir()]
    with pytest.raises(UserError, match="sends more than the 0 bytes that this file may have"):
        fetch(source(server, limit=0), tmp_path / "file")
    with pytest.raises(UserError, match="2,999,999 bytes"):
        fetch(source(server, limit=2_999_999, size=2_999_999), tmp_path / "file")
    assert fetch(source(server), tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(("drips", "words"), [
    ("headers", r"nothing arrived for 0\.4 seconds"), ("body", r"[\d,]+ bytes in \d seconds\); [\d,]+ bytes are kept")])
def test_a_server_that_sends_byte_by_byte_is_given_up(server: DownloadServer, tmp_path: Path, drips: str, words: str):
    server.drips = drips
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"cannot fetch {server.url} \({words}"):
        fetch(source(server, stall_seconds=0.4), tmp_path / "file")
    assert time.monotonic() - began < 10
    assert not (tmp_path / "file").exists()


def test_a_server_that_sends_a_byte_a_connection_is_given_up(server: DownloadServer, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(transfer, "STALL_BYTES", 10**9)  # no half of the file is progress
    server.cuts = 99
    with pytest.raises(UserError, match="was cut off 5 times"):
        fetch(source(server), tmp_path / "file")
    assert len(server.asked) == 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_one_sentence_and_nothing_is_left(server: DownloadServer, tmp_path: Path):
    (tmp_path / "file.part").symlink_to("/dev/full")
    with pytest.raises(UserError) as refused:
        fetch(source(server), tmp_path / "file")
    assert str(refused.value) == (
        f"the disk of {tmp_path} is full, and file of {server.url} does not fit; free some space, or set "
        "XDG_CACHE_HOME to a folder on a larger disk")
    assert len(server.asked) == 1
    assert not [*tmp_path.iterdir()]


def test_a_file_that_the_disk_has_no_room_for_is_not_downloaded(
    server: DownloadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2_000_000))
    with pytest.raises(UserError, match=rf"needs 3,000,000 more bytes, and the disk of {tmp_path} has 2,000,000 free"):
        fetch(source(server), tmp_path / "file")
    assert not [*tmp_path.iterdir()]
    (tmp_path / "file.part").write_bytes(CONTENT[:1_500_000])
    assert fetch(source(server), tmp_path / "file").read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written_is_one_sentence(server: DownloadServer, tmp_path: Path):
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(UserError) as refused:
        fetch(source(server), tmp_path / "cache" / "weights" / "file")
    assert str(refused.value) == (
        f"{server.url} cannot be kept in {tmp_path}/cache/weights (not a directory); make that folder writable, or set "
        "XDG_CACHE_HOME to a folder that is")
    assert not server.asked


def test_without_a_home_folder_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch):
    def refuse():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", refuse)
    with pytest.raises(UserError, match="no home folder for the cache; set XDG_CACHE_HOME to a folder"):
        cache_folder()


def test_a_host_that_no_name_server_knows_is_reported_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
):
    def unknown(*arguments, **options):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    for proxy in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    began = time.monotonic()
    with pytest.raises(UserError) as refused:
        fetch(Download("https://a.example/file", "", 9, remedy="look elsewhere"), tmp_path / "file")
    assert str(refused.value) == ("cannot fetch https://a.example/file ([Errno -3] Temporary failure in name "
                                  "resolution); look elsewhere")
    assert time.monotonic() - began < 5
    assert not [*tmp_path.iterdir()]


def test_processes_that_download_a_file_at_once_get_it_whole(server: DownloadServer, tmp_path: Path):
    code = ("import sys; from pathlib import Path; from alexnet._runtime.download import *; "
            "fetch(Download(sys.argv[1], sys.argv[2], 3_000_000), Path(sys.argv[3]))")
    started = [subprocess.Popen([sys.executable, "-c", code, server.url, CHECKSUM, str(tmp_path / "file")])
               for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
