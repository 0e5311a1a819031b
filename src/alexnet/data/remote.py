"""Jpeg shards at an address, or in a folder -> the loader's batches: fetched whole, ahead, into a bounded cache.

The shards are WebDataset's tars, and any WebDataset client reads them; here they are read by their index and not by the
webdataset library, which knows no image's number and can only begin an epoch at its beginning.

An epoch is arithmetic here too. Its shards, in an order of (seed, epoch) and each shuffled within, make a row that is
cut into lanes; a batch takes its images from all lanes in turn. So images are mixed as by a shuffle buffer of
LANES shards, a process reads lanes of its own, and at any number of processes that divides LANES batches are the same.
With another number they differ: only at an epoch's end may a run then go on with more processes, or fewer, and `Trainer`
sees to it.
"""

from __future__ import annotations

import copy
import math
import mmap
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet._runtime.download import ChecksumError, fetch
from alexnet.data import loader, packed
from alexnet.data import manifest as manifest_module
from alexnet.data.loader import CPU, Batch, batches_per_epoch
from alexnet.data.manifest import MANIFEST, MEAN
from alexnet.data.packed import PackedDataset, PackedSplit
from alexnet.data.shards import Codec
from alexnet.data.sources.detect import cache_folder
from alexnet.data.url_images import is_address

LANES = 8
"""The shuffle buffer, in shards: of 5,000 images, as `pack` makes them, it holds 40,000."""

FETCHERS = 4
"""Shards that are fetched at a time, ahead of those that are read."""

CACHE_BYTES = 16_000_000_000
"""What is kept of all that was streamed: ImageNet at 256 pixels has 28 GB of it."""

_TRIES = 3
_REMEDY = "check the address, which must be of a folder that `alexnet pack SOURCE DEST --codec jpeg` made"


def open_stream(source: str | Path, *, cache_bytes: int = CACHE_BYTES) -> Stream:
    """The jpeg pack at an http or https address, or in a folder or at its file: address, to be read shard by shard.

    cache_bytes: what the cache may hold of shards, of this and other addresses; as many as are read at once it always
    may. Nothing is written to a folder that is the source. Only the address's own host is asked.
    Raises ValueError for what is no such pack, and for a host that does not answer, in one sentence.
    """
    url = str(source) if is_address(str(source)) else ""
    if urlsplit(url).scheme == "file":
        source, url = _folder_at(url), ""
    manifest = _fetch_manifest(url) if url else packed.open_packed(source).manifest
    if (codec := manifest["plan"]["codec"]) != "jpeg":
        raise ValueError(f"{source} is packed {codec}, and what is streamed must be jpeg; pack it again with "
                         "--codec jpeg")
    files = manifest["files"]
    if not url:
        return Stream(Path(source), manifest, Store(Path(source), files))
    folder = cache_folder() / "streamed" / PackedDataset(Path(), manifest).fingerprint[:12]
    largest = max((known["bytes"] for name, known in files.items() if name.endswith(".tar")), default=0)
    store = Store(folder, files, url, max(cache_bytes, (LANES + FETCHERS) * largest))
    store.bring(MEAN)
    return Stream(folder, manifest, store)


def _folder_at(url: str) -> Path:
    if (host := urlsplit(url).netloc) not in ("", "localhost"):
        raise ValueError(f"{url} names the host {host}, and a file: address is of this machine; give the whole path "
                         "after three strokes, as in file:///data")
    return Path(url2pathname(urlsplit(url).path))


def _fetch_manifest(url: str) -> dict[str, Any]:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url} begins with {urlsplit(url).scheme}://, and only http://, https:// and file:// are "
                         "streamed; take the https address that every bucket has too")
    address = _beside(url, MANIFEST)
    with TemporaryDirectory() as folder:
        for attempt in range(_TRIES):
            path = fetch(address, Path(folder) / f"{attempt}", "", same_host=True, remedy=_REMEDY)
            try:
                manifest = manifest_module.parse_json(path.read_bytes(), address)
                break
            except ValueError as error:  # cut off, or none at all
                problem = error
        else:
            raise ValueError(f"{str(problem).partition(';')[0]}; {_REMEDY}") from problem
    manifest_module.check_manifest(manifest, address)
    return manifest


def _beside(url: str, name: str) -> str:
    """The address of a file in the folder at `url`, which may end in a query, as signed addresses do."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


@dataclass(frozen=True)
class Store:
    """Where shards are, and where they are at hand; without an address, that is the same."""

    folder: Path
    files: dict[str, dict[str, Any]]
    url: str = ""
    room: int = 0
    """Bytes of shards that may lie in the cache."""
    coming: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def bring(self, name: str, on_progress: Callable[[int, int], object] | None = None) -> Path:
        """The file, at hand, with the manifest's checksum."""
        path, known = self.folder / name, self.files[name]
        if not self.url or path.is_file():
            return path
        get = partial(fetch, _beside(self.url, name), path, f"sha256:{known['sha256']}", on_progress,
                      size=known["bytes"], same_host=True, remedy="try again; a run goes on with --resume")
        with self._room_for(name):
            for _ in range(_TRIES - 1):
                with suppress(ChecksumError):
                    return get()
            return get()

    @contextmanager
    def _room_for(self, name: str) -> Iterator[None]:
        """Within, the file comes; first the shards that were not read for longest make room for it."""
        if not name.endswith(".tar"):  # the others are small, and stay
            yield
            return
        with self.lock:
            self.coming[name] = self.files[name]["bytes"]
            # A process that reads a shard keeps its memory map, whoever removes the file.
            there = self._at_hand()
            over = sum(size for _, size, _ in there) + sum(self.coming.values()) - self.room
            for _, size, file in there:
                if over > 0:
                    file.unlink(missing_ok=True)
                    over -= size
        try:
            yield
        finally:
            with self.lock:
                del self.coming[name]

    def _at_hand(self) -> list[tuple[int, int, Path]]:
        """When each shard was last read, its bytes, and where it is; the oldest first."""
        there = []
        for file in self.folder.parent.glob("*/*.tar"):
            with suppress(FileNotFoundError):  # other processes make room too
                status = file.stat()
                there.append((status.st_mtime_ns, status.st_size, file))
        return sorted(there)


@dataclass(frozen=True)
class Stream(PackedDataset):
    """A packed folder whose shards come when they are read. `open_stream` makes one."""

    store: Store

    @cached_property
    def fingerprint(self) -> str:
        """Of the data and of how it is read: a run does not go on with another order of images."""
        return f"{super().fingerprint}-streamed"

    def split(self, name: str) -> Streamed:
        return Streamed(self.store, self.codec, self.side, super().split(name).shards, len(self.classes))


# --- Reading ----------------------------------------------------------------------------------------------------------


class _Stopped(Exception):
    """Nobody waits for these images any more."""


class Streamed(PackedSplit):
    """The images of one split, each shard fetched when one of its images is asked for."""

    def __init__(
        self, store: Store, codec: Codec, side: int, shards: Sequence[dict[str, Any]], classes: int,
    ) -> None:
        super().__init__(store.folder, codec, side, shards, classes)
        self.store = store
        self.sizes = np.array([shard["images"] for shard in shards], np.int64)
        self.firsts = self.sizes.cumsum() - self.sizes
        self._begin()

    def _begin(self) -> None:
        self._open: dict[int, PackedSplit] = {}
        self._locks = [threading.Lock() for _ in self.shards]
        self._stop = threading.Event()

    def reader(self) -> Streamed:
        """The same, with shards of its own to open, until `stop`."""
        reader = copy.copy(self)
        reader._begin()
        return reader

    def stop(self) -> None:
        """End every fetch. What arrived stays."""
        self._stop.set()

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """[N]"""
        self._bring_all("labels")
        return super().labels

    @cached_property
    def names(self) -> tuple[str, ...]:
        """[N], each image's name in its source."""
        self._bring_all("names")
        return super().names

    def sample(self, count: int) -> NDArray[np.int64]:
        """The first ones, so that few shards are fetched; training images are packed in a mixed order."""
        return np.arange(min(len(self), count))

    def shard_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of each image's shard."""
        return np.searchsorted(self.firsts, indices, side="right") - 1

    def shard(self, number: int) -> PackedSplit:
        """One shard, open, from wherever it is."""
        record = self.shards[number]
        with self._locks[number]:
            one = self._open.get(number)
            while one is None:
                for role in ("index", "file"):
                    self._bring(record[role])
                with suppress(FileNotFoundError):  # another process needed the room
                    fresh = PackedSplit(self.folder, self.codec, self.side, [record], self.classes)
                    fresh._locate(np.zeros(1, np.int64))  # which opens it, before the file may go
                    one = fresh
            self._open[number] = one
        if self.store.url:
            with suppress(FileNotFoundError):
                os.utime(self.folder / record["file"])
        return one

    def _bring(self, name: str) -> None:
        def go_on(*progress: int) -> None:
            if self._stop.is_set():
                raise _Stopped

        go_on()
        self.store.bring(name, go_on)

    def _bring_all(self, role: str) -> None:
        with ThreadPoolExecutor(FETCHERS) as pool:
            list(pool.map(self._bring, (record[role] for record in self.shards)))

    def close_removed(self) -> None:
        """Let go of shards that are in the cache no more: their bytes are free only then."""
        for number in list(self._open):
            if not (self.folder / self.shards[number]["file"]).exists():
                self._open.pop(number, None)

    def _locate(self, indices: NDArray[np.int64]) -> list[tuple[mmap.mmap, int, int]]:
        numbers = self.shard_of(indices)
        at_hand = {number: self.shard(number) for number in np.unique(numbers).tolist()}
        within = (indices - self.firsts[numbers])[:, None]
        return [place for number, index in zip(numbers.tolist(), within, strict=True)
                for place in at_hand[number]._locate(index)]


# --- Batches ----------------------------------------------------------------------------------------------------------


def lanes(world: int) -> int:
    """Into how many an epoch is cut for that many processes, each of which reads some of its own."""
    return math.lcm(LANES, world)


def order(
    sizes: NDArray[np.int64], batch_size: int, shuffle: tuple[int, int] | None = None, lanes: int = LANES,
) -> NDArray[np.int64]:
    """The epoch's order of all images, in shards of those sizes: int64 [N].

    The row of shuffled shards is cut into lanes, and the image at place p of its batch is the next one of lane
    p % lanes. Without shuffle and with one lane it is the order of the split.
    """
    total, firsts = int(sizes.sum()), sizes.cumsum() - sizes
    row = np.arange(total)
    if shuffle:
        rng = np.random.Generator(np.random.Philox(key=shuffle))
        row = np.concatenate([row[:0], *(firsts[one] + rng.permutation(sizes[one])
                                         for one in rng.permutation(len(sizes)))])
    global_indices = np.empty_like(row)
    global_indices[np.argsort(_extents(total, batch_size)[1] % lanes, kind="stable")] = row
    return global_indices


def _extents(total: int, batch_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each image of an epoch, its batch and its place there: two of [N]."""
    steps = batches_per_epoch(total, batch_size)
    bounds = np.arange(steps + 1) * total // max(steps, 1)
    step_N = np.repeat(np.arange(steps), np.diff(bounds))
    return step_N, np.arange(total) - bounds[step_N]


def batches(
    split: PackedSplit, batch_size: int, *, shuffle: tuple[int, int] | None = None, start: int = 0,
    rank: int = 0, world: int = 1, workers: int = 2, ahead: int = 4, device: torch.device = CPU,
) -> Generator[Batch]:
    """`loader.batches`; of a streamed split each process fetches the shards that its own images are in.

    No shard is fetched again for what came before `start`. Raises ValueError where a shard cannot be had.
    """
    if not isinstance(split, Streamed):
        yield from loader.batches(split, batch_size, shuffle=shuffle, start=start, rank=rank, world=world,
                                  workers=workers, ahead=ahead, device=device)
        return
    global_indices = order(split.sizes, batch_size, shuffle, lanes(world) if shuffle else world)
    step_N, place_N = _extents(len(global_indices), batch_size)
    mine = np.flatnonzero((step_N >= start) & (place_N % world == rank))
    numbers = split.shard_of(global_indices[mine])
    first = np.sort(np.unique(numbers, return_index=True)[1])
    wanted, wanted_at = numbers[first].tolist(), step_N[mine][first]
    reader, pool, asked = split.reader(), ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetcher"), 0

    def ask(step: int) -> None:
        """For the shards of all batches that may be read by now, and some more."""
        nonlocal asked
        until = int(np.searchsorted(wanted_at, step + ahead, side="right")) + FETCHERS
        for number in wanted[asked:until]:
            pool.submit(reader.shard, number)  # a problem comes up again where the shard is read
        asked = max(asked, until)
        reader.close_removed()

    try:
        ask(start)
        for step, batch in enumerate(
                loader.in_order(reader, global_indices, batch_size, start, rank, world, workers, ahead, device), start + 1):
            ask(step)
            yield batch
    finally:
        reader.stop()
        pool.shutdown(cancel_futures=True)
