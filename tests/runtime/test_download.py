"""A download arrives whole or not at all: resumed, verified, and with a remedy for each failure."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from pathlib import Path
from urllib.request import Request

import numpy as np
import pytest

from alexnet._runtime.download import _RedirectHandler, fetch
from alexnet.errors import UserError
from download_server import DownloadServer, serving

CONTENT = np.random.default_rng(0).bytes(3_000_000)
CHECKSUM = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[DownloadServer]:
    with serving(CONTENT, monkeypatch) as running:
        yield running


def test_a_download_arrives_whole_and_reports_its_progress(server: DownloadServer, tmp_path: Path):
    calls: list[tuple[int, int]] = []
    path = fetch(server.url, tmp_path / "cache" / "file", CHECKSUM, lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_an_existing_file_is_not_downloaded_again(server: DownloadServer, tmp_path: Path):
    for _ in range(2):
        fetch(server.url, tmp_path / "file", CHECKSUM)
    assert len(server.asked) == 1


def test_concurrent_requests_for_one_file_download_it_once(server: DownloadServer, tmp_path: Path):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(server.url, tmp_path / "file", CHECKSUM), range(4)))
    assert set(paths) == {tmp_path / "file"}
    assert len(server.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_interrupted_download_resumes(server: DownloadServer, tmp_path: Path):
    server.cuts = 2
    assert fetch(server.url, tmp_path / "file", CHECKSUM).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1500000-", "bytes=2250000-"]


def test_without_range_support_a_download_starts_again(server: DownloadServer, tmp_path: Path):
    server.cuts, server.ranges = 2, False
    assert fetch(server.url, tmp_path / "file", CHECKSUM).read_bytes() == CONTENT


def test_a_failed_download_keeps_the_received_bytes(server: DownloadServer, tmp_path: Path):
    server.cuts = 99
    with pytest.raises(ValueError, match=r"cut off 5 times; what arrived is kept"):
        fetch(server.url, tmp_path / "file", CHECKSUM)
    assert (tmp_path / "file.part").stat().st_size > 2_900_000
    server.cuts = 0
    assert fetch(server.url, tmp_path / "file", CHECKSUM).read_bytes() == CONTENT


def test_a_complete_partial_file_is_verified_and_used(server: DownloadServer, tmp_path: Path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert fetch(server.url, tmp_path / "file", CHECKSUM).read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"", b"something else", CONTENT + b"too long"])
def test_a_download_with_a_wrong_checksum_is_deleted(server: DownloadServer, tmp_path: Path, part: bytes):
    if part:
        (tmp_path / "file.part").write_bytes(part)
    else:
        server.content = CONTENT[:-1] + b"?"
    with pytest.raises(ValueError, match=rf"{server.url} sent has checksum .* was deleted; try again"):
        fetch(server.url, tmp_path / "file", CHECKSUM)
    assert list(tmp_path.iterdir()) == []
    server.content = CONTENT
    assert fetch(server.url, tmp_path / "file", CHECKSUM).read_bytes() == CONTENT


def test_a_missing_file_is_reported_with_the_path_to_put_it(server: DownloadServer, tmp_path: Path):
    server.status = 404
    with pytest.raises(ValueError, match=rf"answers 404 .*put it at {tmp_path}/file"):
        fetch(server.url, tmp_path / "file", CHECKSUM)


def test_without_a_network_the_error_names_a_remedy(server: DownloadServer, tmp_path: Path):
    address = server.url.replace(str(server.server_port), "1")  # no server listens on this port
    with pytest.raises(ValueError, match=rf"cannot fetch {address} .*or put the file at {tmp_path}/file"):
        fetch(address, tmp_path / "file", CHECKSUM)


@pytest.mark.parametrize(("url", "target", "is_allowed"), [
    ("https://a.org/x", "https://a.org/y", True), ("https://a.org/x", "http://a.org/x", False),
    ("https://a.org/x", "ftp://a.org/x", False), ("http://a.org/x", "https://a.org/x", True)])
def test_a_redirect_does_not_leave_https(url: str, target: str, is_allowed: bool):
    def redirect():
        return _RedirectHandler(False).redirect_request(Request(url), None, 302, "Found", Message(), target)

    if is_allowed:
        assert redirect().full_url == target
    else:
        with pytest.raises(UserError, match=r"^a\.org redirects from https to "):
            redirect()


def test_a_file_with_more_bytes_than_it_may_have_is_not_kept(server: DownloadServer, tmp_path: Path):
    with pytest.raises(UserError, match="sends more than the 1,000,000 bytes that this file may have"):
        fetch(server.url, tmp_path / "file", "", limit=1_000_000)
    assert not [path.name for path in tmp_path.iterdir()]
    with pytest.raises(UserError, match="2,999,999 bytes"):
        fetch(server.url, tmp_path / "file", CHECKSUM, size=2_999_999)
    assert fetch(server.url, tmp_path / "file", CHECKSUM, limit=3_000_000).read_bytes() == CONTENT
