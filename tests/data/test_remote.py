"""Streaming: each image arrives once and unchanged, over a network that drops, truncates, corrupts and refuses."""

import json
import re
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit
from zlib import crc32

import numpy as np
import pytest
import torch

from alexnet._runtime import download
from alexnet._runtime.cache import cache_folder
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import recipe
from alexnet.cli.main import main
from alexnet.data import loader, manifest, remote
from alexnet.data.loader import batches
from alexnet.data.order import lane_order
from alexnet.data.packed import PackedDataset
from alexnet.data.packing import pack
from alexnet.data.remote import FETCHERS, LANES, StreamedSplit, open_stream
from alexnet.data.sources.detect import open_dataset
from alexnet.errors import UserError
from alexnet.models import checkpoint
from alexnet.training.build import build
from alexnet.training.spec import RunSpec
from alexnet.training.state import Interrupted

FAULTS = ("dropped", "busy", "cut", "garbled", "without ranges")
"""Faults of the first requests for a file, beginning with one that depends on its name; later requests succeed."""

pytestmark = pytest.mark.usefixtures("one_thread")


class Server(ThreadingHTTPServer):
    """Serve a folder from this machine, with the faults of a bad network."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.faults, self.elsewhere = folder, FAULTS, ""
        self.asked: Counter[str] = Counter()
        self.url = f"http://127.0.0.1:{self.server_port}/bucket/data"

    def shards(self) -> set[str]:
        """The shards that were requested."""
        return {name for name in self.asked if name.endswith(".tar")}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = urlsplit(self.path).path.removeprefix("/bucket/data/")
        time, faults = self.server.asked[name], self.server.faults
        self.server.asked[name] += 1
        fault = faults[(crc32(name.encode()) + time) % len(faults)] if time < len(faults) else ""
        self.close_connection = True
        if self.server.elsewhere:
            self.send_response(302)
            self.send_header("Location", self.server.elsewhere)
            self.end_headers()
        elif fault == "busy":
            self.send_error(503)
        elif not (self.server.folder / name).is_file():
            self.send_error(404)
        else:
            self.send((self.server.folder / name).read_bytes(), fault)

    def send(self, content: bytes, fault: str) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if fault != "without ranges" else None
        begin = int(asked[1]) if asked else 0
        if begin >= len(content):
            self.send_error(416)
            return
        body = content[begin:]
        sent = body[: len(body) // 2] if fault in ("dropped", "cut") else body
        if fault == "garbled":
            sent = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(206 if asked else 200)
        # A dropped connection has announced the full length; a proxy that truncates announces the shorter one.
        self.send_header("Content-Length", str(len(sent if fault == "cut" else body)))
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *message: object) -> None:
        pass


@pytest.fixture(scope="module")
def folder(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """120 training images in 18 shards, 44 of validation in 7."""
    dest = tmp_path_factory.mktemp("bucket") / "data"
    return pack(open_dataset(class_folders), dest, side=32, codec="jpeg", shard_images=7)


@pytest.fixture
def server(folder: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    with Server(folder.path) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def local(folder: PackedDataset) -> StreamedSplit:
    return open_stream(folder.path).split("train")


def content(path: Path) -> dict[str, tuple[int, bytes]]:
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.iterdir()}


# --- Over the network -------------------------------------------------------------------------------------------------


def test_every_image_arrives_once_and_unchanged_whatever_the_network_does(server: Server, folder: PackedDataset):
    before = content(folder.path)
    for name in ("train", "val"):
        plain, seen = folder.split(name), []
        for batch in batches(open_stream(server.url).split(name), 32, shuffle=(3, 1)):
            seen += batch.indices.tolist()
            np.testing.assert_array_equal(batch.pixels_NHWC.numpy(), plain.read(batch.indices))
            np.testing.assert_array_equal(batch.labels_N.numpy(), plain.labels[batch.indices])
        assert sorted(seen) == list(range(len(plain)))
    assert len(server.shards()) == 18 + 7
    assert sum(server.asked[name] for name in server.shards()) > 2 * (18 + 7)
    assert content(folder.path) == before


def test_a_url_may_have_a_query_and_a_trailing_slash(server: Server, folder: PackedDataset):
    stream = open_stream(f"{server.url}/?signature=a/b")
    assert stream.split("val").names == folder.split("val").names
    np.testing.assert_array_equal(stream.mean_HWC, folder.mean_HWC)


@pytest.mark.parametrize("world", [1, 2])
def test_a_subset_streams_its_own_images_only(server: Server, folder: PackedDataset, world: int):
    stream = open_stream(server.url).split("val", "train")
    plain, chosen = folder.split("val", "train"), np.arange(0, len(stream), 40)
    part, seen = stream.subset(chosen), []
    assert part.content_hashes.tolist() == plain.content_hashes[chosen].tolist()
    for rank in range(world):
        for batch in batches(part, 2, rank=rank, world=world):
            seen += batch.indices.tolist()
            np.testing.assert_array_equal(batch.pixels_NHWC.numpy(), plain.read(chosen[batch.indices]))
            np.testing.assert_array_equal(batch.labels_N.numpy(), plain.labels[chosen[batch.indices]])
    assert sorted(seen) == list(range(len(chosen)))
    assert {file for file in server.shards() if server.asked[file]} == {
        f"{shard.file}" for number, shard in enumerate(plain.shards)
        if set(range(int(stream.first_of_shard[number]), int(stream.first_of_shard[number]) + shard.images))
        & set(chosen.tolist())}


def test_cached_files_are_not_fetched_again(server: Server):
    for _ in range(2):
        list(batches(open_stream(server.url).split("train"), 32, shuffle=(0, 0)))
        server.faults, known = (), dict(server.asked)
    assert {name for name in known if server.asked[name] > known[name]} == set()


def test_resuming_mid_epoch_fetches_only_the_remaining_shards(server: Server, folder: PackedDataset):
    split = open_stream(server.url).split("train")
    rest = list(batches(split, 10, shuffle=(0, 0), start=9))
    left = split.shard_of(np.concatenate([batch.indices for batch in rest]))
    assert server.shards() == {split.shards[number].file for number in left}
    assert len(server.shards()) <= 2 * LANES


def test_a_process_fetches_its_own_share_of_the_shards(server: Server):
    sizes = np.full(64, 4)
    global_indices = lane_order(sizes, 32, (0, 0), LANES)
    lanes = [global_indices[lane::LANES] // 4 for lane in range(LANES)]  # 32 images in every batch
    assert [len(set(lane)) for lane in lanes] == [8] * LANES
    split = open_stream(server.url).split("train")
    list(batches(split, 32, shuffle=(0, 0), rank=1, world=8))
    assert len(server.shards()) <= -(-len(split) // (8 * 7)) + 1


def test_cache_stays_within_its_bounds(server: Server, folder: PackedDataset):
    server.faults = ()
    split = open_stream(server.url, cache_bytes=0).split("train")  # raised to what is read at once
    shards = [file.stat().st_size for file in folder.path.glob("*.tar")]
    beside = sum(file.stat().st_size for file in folder.path.iterdir()) - sum(shards)
    beside -= (folder.path / manifest.MANIFEST).stat().st_size
    assert split.cache.capacity_bytes == (LANES + FETCHERS) * max(shards) + beside
    _ = split.labels, split.names, split.content_hashes, split.perceptual_hashes
    bytes_there = []
    for epoch in range(2):
        for _ in batches(split, 8, shuffle=(0, epoch)):
            bytes_there.append(0)
            for file in (cache_folder() / "streamed").rglob("*.*"):
                with suppress(FileNotFoundError):  # a fetcher has evicted it
                    bytes_there[-1] += file.stat().st_size
    assert max(bytes_there) <= split.cache.capacity_bytes
    assert 18 < sum(server.asked[name] for name in server.shards()) < 4 * 18  # some are fetched again, none endlessly


def test_threads_that_need_the_same_file_fetch_it_once(server: Server, folder: PackedDataset, tmp_path: Path):
    server.faults, name = (), "train-00000.tar"
    known = folder.manifest.files[name]
    dest = tmp_path / "once" / name
    source = download.Download(f"{server.url}/{name}", f"sha256:{known.sha256}", known.bytes)
    threads = [threading.Thread(target=download.fetch, args=(source, dest)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.asked[name] == 1
    assert [file.name for file in dest.parent.iterdir()] == [name]


def test_a_consumer_that_stops_early_leaves_no_thread_behind(server: Server):
    source = batches(open_stream(server.url).split("train"), 8, shuffle=(0, 0))
    next(source)
    source.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("fetcher", "loader"))]


# --- The order --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [None, (1, 0)])
@pytest.mark.parametrize("world", [1, 2, 3, 5, 8])
def test_processes_share_global_batches_image_by_image(
    local: StreamedSplit, world: int, shuffle: tuple[int, int] | None,
):
    shares = [list(batches(local, 32, shuffle=shuffle, rank=rank, world=world)) for rank in range(world)]
    total, steps = len(local), 4
    for step, together in enumerate(zip(*shares, strict=True)):
        size = (step + 1) * total // steps - step * total // steps
        for rank, batch in enumerate(together):
            assert batch.positions.tolist() == list(range(rank, size, world))
            assert len(batch.global_indices) == size
            np.testing.assert_array_equal(batch.global_indices, together[0].global_indices)
            np.testing.assert_array_equal(batch.indices, batch.global_indices[batch.positions])
            np.testing.assert_array_equal(batch.pixels_NHWC.numpy(), local.read(batch.indices))
    assert sorted(index for share in shares for batch in share for index in batch.indices) == list(range(total))


def test_two_four_and_eight_processes_see_the_batches_of_one(local: StreamedSplit):
    def seen(world: int) -> list[list[int]]:
        return [batch.global_indices.tolist() for batch in batches(local, 32, shuffle=(4, 2), world=world)]

    assert seen(1) == seen(2) == seen(4) == seen(8)


def test_epochs_and_seeds_have_orders_of_their_own(local: StreamedSplit):
    orders = {lane_order(local.shard_images, 32, (seed, epoch), LANES).tobytes()
              for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_workers_do_not_change_what_comes_out(local: StreamedSplit, workers: int):
    reference = list(batches(local, 32, shuffle=(1, 1), workers=2))
    for a, b in zip(reference, batches(local, 32, shuffle=(1, 1), workers=workers, ahead=1), strict=True):
        np.testing.assert_array_equal(a.indices, b.indices)
        assert torch.equal(a.pixels_NHWC, b.pixels_NHWC)
        assert torch.equal(a.labels_N, b.labels_N)


@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_an_epoch_streamed_from_the_middle_gives_the_same_batches(local: StreamedSplit, start: int):
    whole, rest = (list(batches(local, 32, shuffle=(7, 3), start=begin, rank=1, world=2)) for begin in (0, start))
    assert [batch.indices.tolist() for batch in whole[start:]] == [batch.indices.tolist() for batch in rest]
    for a, b in zip(whole[start:], rest, strict=True):
        assert torch.equal(a.pixels_NHWC, b.pixels_NHWC)


def test_without_shuffle_one_process_reads_in_the_order_of_the_split(local: StreamedSplit, folder: PackedDataset):
    plain = loader.batches(folder.split("train"), 32)
    for a, b in zip(batches(local, 32), plain, strict=True):
        np.testing.assert_array_equal(a.indices, b.indices)


# --- Runs -------------------------------------------------------------------------------------------------------------


def weights(out: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(out / "last").weights


def alexnet(*arguments: object) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([str(argument) for argument in arguments])


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_a_streamed_run_is_equal_for_any_workers_and_scheme_and_evaluates_as_on_the_folder(
    server: Server, folder: PackedDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str],
):
    settings = ["--arch", "small", "--epochs", "1", "--precision", "fp32", "--device", "cpu", "--set",
                "arch.input.side=32", "--set", "arch.input.crop=28", "--set", "arch.conv.width=16", "--set",
                "arch.dense.width=32", "--set", "recipe.batch_size=32"]
    before, local = content(folder.path), folder.path.as_uri()
    for data, workers in ((server.url, 0), (server.url, 3), (local, 2)):
        alexnet("train", data, *settings, "--workers", workers, "--out", tmp_path / str(workers))
    assert same(weights(tmp_path / "0"), weights(tmp_path / "3"))
    assert same(weights(tmp_path / "0"), weights(tmp_path / "2"))
    capsys.readouterr()
    answers = []
    for data in (server.url, local, folder.path):
        alexnet("evaluate", tmp_path / "0", data, "--device", "cpu", "--json")
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1] == answers[2]
    assert content(folder.path) == before
    assert answers[0]["images"] == 44


def test_a_run_stopped_mid_epoch_ends_where_the_uninterrupted_one_ends(server: Server, tiny, tmp_path: Path):
    way = override(recipe("modern"), ["epochs=1", "batch_size=20"])

    def stop(event: dict) -> None:
        if event["event"] == "step" and event["step"] == 3:
            signal.raise_signal(signal.SIGINT)

    build(RunSpec(open_stream(server.url), tiny, way, tmp_path / "whole")).fit()
    with pytest.raises(Interrupted):
        build(RunSpec(open_stream(server.url), tiny, way, tmp_path / "stopped"), on_event=stop).fit()
    build(RunSpec(open_stream(server.url), tiny, way, tmp_path / "stopped", resume=True, workers=1)).fit()
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))


# --- Mistakes ---------------------------------------------------------------------------------------------------------


def test_a_url_without_a_pack_is_refused_with_the_remedy(server: Server):
    with pytest.raises(ValueError, match=r"data/no/manifest.json answers 404 .*; check the address, which must be of"):
        open_stream(f"{server.url}/no")


def test_a_host_that_does_not_answer_is_reported_with_the_remedy(server: Server):
    with socket.socket() as unused:  # bound, but not listening
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ValueError, match=r"cannot fetch http://127.0.0.1:\d+/data/manifest.json .*check the addr"):
            open_stream(f"http://127.0.0.1:{unused.getsockname()[1]}/data")


@pytest.mark.parametrize("sent", [b"<html>hello</html>", b"[1]", b"\xff\xfe", b'{"checksum": "0", "format": 1}'])
def test_a_file_that_is_not_a_manifest_is_refused(server: Server, tmp_path: Path, sent: bytes):
    server.folder, server.faults = tmp_path, ()
    (tmp_path / manifest.MANIFEST).write_bytes(sent)
    with pytest.raises(ValueError, match=r"manifest.json is damaged or not of a packed folder: .*; check the address"):
        open_stream(server.url)


def test_a_manifest_above_its_limit_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote, "MANIFEST_BYTES", 100)
    with pytest.raises(ValueError, match=r"manifest.json sends more than the 100 bytes that this file may"):
        open_stream(server.url)


def test_manifest_cannot_name_a_file_outside_the_cache(server: Server, folder: PackedDataset, tmp_path: Path):
    server.folder, server.faults = tmp_path, ()
    content = manifest.read_json(folder.path / manifest.MANIFEST)
    content["files"]["../../escaped"] = {"bytes": 1, "sha256": "0" * 64}
    manifest.write_json(tmp_path / manifest.MANIFEST, content)
    with pytest.raises(ValueError, match=r"names the file '../../escaped', and only plain file names"):
        open_stream(server.url)


@pytest.mark.parametrize(("name", "size", "message"), [
    (manifest.MEAN, 0, r"a file of 0 bytes, and none is empty"),
    (manifest.MEAN, 12 * 32**2 + 2_000, r"its mean.npy, of side 32, has 14,288 bytes"),
    ("train-00001.labels.npy", 10**12, r"its train-00001.labels.npy, of 7 images, has 1,000,000,000,000 bytes"),
    ("train-00001.names.json", 10**12, r"its train-00001.names.json, of 7 images, has 1,000,000,000,000 bytes"),
    ("train-00001.tar", 10**12, r"needs a cache of 12,\d{3},\d{3},\d{3},\d{3} bytes, .* may have 16,000,000,000"),
])
def test_a_manifest_cannot_ask_for_more_bytes_than_its_files_have(
    server: Server, folder: PackedDataset, tmp_path: Path, name: str, size: int, message: str,
):
    server.folder, server.faults = tmp_path, ()
    content = manifest.read_json(folder.path / manifest.MANIFEST)
    content["files"][name]["bytes"] = size
    manifest.write_json(tmp_path / manifest.MANIFEST, content)
    with pytest.raises(ValueError, match=message):
        open_stream(server.url)
    assert set(server.asked) == {manifest.MANIFEST}


def test_a_manifest_whose_side_makes_the_mean_larger_than_the_cache_is_refused(
    server: Server, folder: PackedDataset, tmp_path: Path,
):
    server.folder, server.faults = tmp_path, ()
    content = manifest.read_json(folder.path / manifest.MANIFEST)
    content["plan"]["side"] = 10**6
    content["files"][manifest.MEAN]["bytes"] = 12 * 10**12
    manifest.write_json(tmp_path / manifest.MANIFEST, content)
    with pytest.raises(ValueError, match=r"needs a cache of 12,000,\d{3},\d{3},\d{3} bytes"):
        open_stream(server.url)


def test_a_redirect_to_another_host_is_refused(server: Server):
    server.elsewhere = f"http://localhost:{server.server_port}/bucket/data/manifest.json"
    with pytest.raises(ValueError, match=r"127.0.0.1 redirects to localhost, and only the host that you named"):
        open_stream(server.url)
    assert server.asked.total() == 1


def test_a_file_whose_checksum_never_matches_is_named(server: Server):
    stream = open_stream(server.url)
    server.faults = ("garbled",) * 99
    with pytest.raises(ValueError, match=r"train-00000.index.npy sent has checksum .*, not .*, and was deleted"):
        stream.split("train").read(np.arange(3))


@pytest.mark.parametrize("address", ["hdfs://host/data", "ftp://host/data"])
def test_other_schemes_are_not_streamed(address: str):
    with pytest.raises(ValueError, match=r"only http://, https://, s3://, gs:// and file:// can be streamed"):
        open_stream(address)


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar.gz", "train.PARQUET", "cat.jpg", "photos.zip?download=1"])
def test_an_archive_at_a_url_is_refused_before_the_network_is_asked(name: str):
    url = f"https://host.invalid/{name}"
    with pytest.raises(UserError) as refusal:
        open_stream(url)
    assert refusal.value.problem.startswith(f"{url} is one file, and only a folder that `alexnet pack")
    assert refusal.value.remedy == f"download it (curl -LO {url}), and name the file"


def test_a_file_url_needs_an_absolute_path_on_this_machine(folder: PackedDataset, tmp_path: Path):
    spaced = tmp_path / "my data"
    spaced.symlink_to(folder.path)
    for address in (spaced.as_uri(), f"file://localhost{folder.path}"):
        assert open_stream(address).split("val").names == folder.split("val").names
    with pytest.raises(ValueError, match=r"file://data names the host data, .* three slashes, as in file:///data"):
        open_stream("file://data")
    with pytest.raises(ValueError, match=r"/no/such does not exist"):
        open_stream("file:///no/such")


def test_raw_shards_are_refused_with_the_remedy(packed: PackedDataset):
    with pytest.raises(ValueError, match=r"is packed as raw, and only jpeg can be streamed; pack it again"):
        open_stream(packed.path)


def test_a_wrong_url_on_the_command_line_is_reported_in_one_sentence(
    server: Server, capsys: pytest.CaptureFixture[str],
):
    with pytest.raises(SystemExit, match="2"):
        main(["train", f"{server.url}/no", "--arch", "small"])
    assert re.fullmatch(r"alexnet: [^\n]*404[^\n]*\n", capsys.readouterr().err)
