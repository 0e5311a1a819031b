"""Stream jpeg shards from a URL (or a folder): each is fetched whole, ahead of its use, into a bounded cache.

The shards are WebDataset tars. They are read by their index and not by the webdataset library, which does not know
the index of an image and can only start an epoch at its beginning.

An epoch is cut into lanes (`order.lane_order`): its images are mixed as by a shuffle buffer of LANES shards, and each
process reads lanes of its own. With any number of processes that divides LANES the batches are the same. With another
number they differ, so a run that resumes within an epoch keeps the lanes of that epoch to its end, whatever its number
of processes (`training.State.lanes`); a process may then read a part of every lane.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime import object_store
from alexnet._runtime.cache import cache_folder
from alexnet._runtime.download import Download, fetch
from alexnet.data import packed
from alexnet.data.manifest import MANIFEST, MEAN, Codec, Manifest, ShardRecord, parse_record
from alexnet.data.order import lane_order
from alexnet.data.packed import Extent, PackedDataset, PackedSplit
from alexnet.data.shard_cache import TRIES, ShardCache, url_of
from alexnet.data.url_images import is_url
from alexnet.errors import UserError, require

LANES = 8
"""The shuffle buffer, in shards: with 5,000 images in each, as `pack` makes them, it holds 40,000."""

FETCHERS = 4
"""Shards that are fetched at a time, ahead of those that are read."""

MANIFEST_BYTES = 64_000_000
"""Of a folder's manifest at most: ImageNet's has 100 kB."""

CACHE_BYTES = 16_000_000_000
"""Default size of the cache. ImageNet at 256 pixels has 28 GB of shards."""

_REMEDY = "check the address, which must be of a folder that `alexnet pack SOURCE DEST --codec jpeg` made"


def open_stream(source: str | Path, *, cache_bytes: int = CACHE_BYTES) -> StreamedDataset:
    """Open a jpeg pack at an http, https or file URL, or in a folder, to read it shard by shard.

    Nothing is written to a folder that is the source. No host but the one in the URL is asked.

    Args:
        cache_bytes: the size of the cache of shards, of this and other URLs; at least as many as are read at once,
            and the files beside all shards.

    Raises:
        UserError: there is no such pack, the host does not answer, or the shards that are read at once and the files
            beside them are larger than the cache.
    """
    url = str(source) if is_url(str(source)) else ""
    _require_no_file(url)
    if urlsplit(url).scheme == "file":
        source, url = _folder_of(url), ""
    manifest = _fetch_manifest(url) if url else packed.open_packed(source).manifest
    codec, files = manifest.plan.codec, manifest.files
    require(codec == "jpeg", f"{source} is packed as {codec}, and only jpeg can be streamed", "pack it again with "
            "--codec jpeg")
    if not url:
        return StreamedDataset(Path(source), manifest, ShardCache(Path(source), files))
    folder = cache_folder() / "streamed" / manifest.fingerprint()[:12]
    cache = ShardCache(folder, files, url, max(cache_bytes, _least_cache_bytes(url, manifest, cache_bytes)))
    cache.fetch(MEAN)
    return StreamedDataset(folder, manifest, cache)


def _least_cache_bytes(url: str, manifest: Manifest, cache_bytes: int) -> int:
    """Bytes of the shards that are read at once, and of all files beside them, which stay in the cache.

    Raises:
        UserError: they are more than the default cache and the one asked for, so that no stream may fill a disk.
    """
    shards = {shard.file for shard in manifest.shards}
    beside = {MEAN} | {name for shard in manifest.shards for name in shard.files if name not in shards}
    largest = max((manifest.files[name].bytes for name in shards), default=0)
    needed = (LANES + FETCHERS) * largest + sum(manifest.files[name].bytes for name in beside)
    most = max(cache_bytes, CACHE_BYTES)
    require(needed <= most, f"{url} needs a cache of {needed:,} bytes, for {LANES + FETCHERS} shards of up to "
            f"{largest:,} bytes and the files beside them, and this one may have {most:,}",
            "download the folder, or pack it with a smaller --side or --quality")
    return needed


_FILES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".parquet", ".csv", ".jpg", ".jpeg",
          ".png", ".webp")
"""Endings of a URL that is no folder."""


def _require_no_file(url: str) -> None:
    """Raise UserError for the URL of an archive, a Parquet file or an image."""
    if urlsplit(url).path.lower().endswith(_FILES):
        raise UserError(f"{url} is one file, and only a folder that `alexnet pack SOURCE DEST --codec jpeg` made is "
                        "read from a URL", f"download it (curl -LO {url}), and name the file")


def _folder_of(url: str) -> Path:
    host = urlsplit(url).netloc
    require(host in ("", "localhost"), f"{url} names the host {host}, and a file: URL is of this machine",
            "give the whole path after three slashes, as in file:///data")
    return Path(url2pathname(urlsplit(url).path))


def _fetch_manifest(url: str) -> Manifest:
    scheme = urlsplit(url).scheme
    require(scheme in ("http", "https", *object_store.SCHEMES),
            f"{url} begins with {scheme}://, and only http://, https://, s3://, gs:// and file:// can be streamed",
            "use the https URL that every bucket has too")
    manifest_url, error = url_of(url, MANIFEST), UserError("")
    with TemporaryDirectory() as folder:
        for attempt in range(TRIES):
            path = fetch(Download(manifest_url, "", MANIFEST_BYTES, same_host=True, remedy=_REMEDY,
                                  folder_variable="TMPDIR"), Path(folder) / f"{attempt}")
            try:
                return parse_record(Manifest, path.read_bytes(), manifest_url)
            except UserError as problem:  # truncated on the way, or not a manifest
                error = problem
    raise UserError(error.problem, _REMEDY)


@dataclass(frozen=True)
class StreamedDataset(PackedDataset):
    """A packed folder whose shards are fetched when they are read. `open_stream` makes one."""

    cache: ShardCache

    @cached_property
    def fingerprint(self) -> str:
        """Of the data and of the way it is read: a run does not resume with another order of images."""
        return f"{super().fingerprint}-streamed"

    def split(self, *names: str) -> StreamedSplit:
        return StreamedSplit(self.cache, self.codec, self.side, self._shards_of(names), len(self.classes))


class _Stopped(Exception):
    """The consumer of the images has gone."""


class StreamedSplit(PackedSplit):
    """The images of one split, each shard fetched when one of its images is read."""

    def __init__(
        self, cache: ShardCache, codec: Codec, side: int, shards: Sequence[ShardRecord], classes: int,
    ) -> None:
        super().__init__(cache.folder, codec, side, shards, classes)
        self.cache = cache
        self.shard_images = np.array([shard.images for shard in shards], np.int64)
        self.first_of_shard = self.shard_images.cumsum() - self.shard_images
        self._reset()

    def _reset(self) -> None:
        self._open: dict[int, PackedSplit] = {}
        self._locks = [threading.Lock() for _ in self.shards]
        self._stop = threading.Event()

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """[N]"""
        self._fetch_all([shard.labels for shard in self.shards])
        return super().labels

    @cached_property
    def names(self) -> tuple[str, ...]:
        """[N], the name of each image in its source."""
        self._fetch_all([shard.names for shard in self.shards])
        return super().names

    @cached_property
    def content_hashes(self) -> NDArray[np.uint64]:
        """[N], `content.content_hash` of each image in its source."""
        self._fetch_all([shard.hashes for shard in self.shards])
        return super().content_hashes

    @cached_property
    def perceptual_hashes(self) -> NDArray[np.uint64]:
        """[N, 2], `perceptual_hash.perceptual_hash` of each stored image."""
        self._fetch_all([shard.perceptual for shard in self.shards])
        return super().perceptual_hashes

    @cached_property
    def groups(self) -> NDArray[np.uint64] | None:
        """[N], equal for images that belong together (--group); None if that was not stated."""
        self._fetch_all([shard.groups for shard in self.shards if shard.groups])
        return super().groups

    def sample(self, count: int) -> NDArray[np.int64]:
        """The first images, so that few shards are fetched; training images are packed in a mixed order."""
        return np.arange(min(len(self), count))

    # --- An epoch ---

    def lanes(self, world: int) -> int:
        """The number of lanes that an epoch is cut into for so many processes, each of which reads some of them."""
        return math.lcm(LANES, world)

    def epoch_order(self, batch_size: int, shuffle: tuple[int, int] | None, lanes: int) -> NDArray[np.int64]:
        chosen = np.bincount(self.shard_of(np.arange(len(self))), minlength=len(self.shards))
        return lane_order(chosen, batch_size, shuffle, lanes)

    @contextmanager
    def epoch_reader(
        self, order_M: NDArray[np.int64], steps_M: NDArray[np.int64], ahead: int,
    ) -> Iterator[tuple[Self, Callable[[int], None]]]:
        """As `PackedSplit.epoch_reader`; fetches the shards ahead, and ends every fetch when the block is left."""
        shards_M = self.shard_of(order_M)
        firsts = np.sort(np.unique(shards_M, return_index=True)[1])
        wanted, wanted_at = shards_M[firsts].tolist(), steps_M[firsts]
        reader, pool, requested = self._reader(), ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetcher"), 0

        def before_step(step: int) -> None:
            """Request the shards of all batches that may be read by now, and FETCHERS more."""
            nonlocal requested
            until = int(np.searchsorted(wanted_at, step + ahead, side="right")) + FETCHERS
            for number in wanted[requested:until]:
                pool.submit(reader.shard, number)  # an error is raised again where the shard is read
            requested = max(requested, until)
            reader._close_evicted()

        try:
            before_step(int(steps_M[0]) if len(steps_M) else 0)
            yield reader, before_step
        finally:
            reader._stop.set()  # what has arrived stays in the cache
            pool.shutdown(cancel_futures=True)

    def _reader(self) -> Self:
        """The same split, with open shards of its own and a stop of its own."""
        reader = copy.copy(self)
        reader._reset()
        return reader

    # --- Shards ---

    def shard_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of each image's shard."""
        return np.searchsorted(self.first_of_shard, self.stored(indices), side="right") - 1

    def shard(self, number: int) -> PackedSplit:
        """Open one shard; it is fetched if necessary."""
        record = self.shards[number]
        with self._locks[number]:
            opened = self._open.get(number)
            while opened is None:
                for name in filter(None, (record.index, record.file)):
                    self._fetch(name)
                with suppress(FileNotFoundError):  # another process has evicted it
                    shard = PackedSplit(self.folder, self.codec, self.side, [record], self.classes)
                    shard._locate(np.zeros(1, np.int64))  # opens the memory map, before the file may be evicted
                    opened = shard
            self._open[number] = opened
        self.cache.touch(record.file)
        return opened

    def _fetch(self, name: str) -> None:
        def raise_if_stopped(*progress: int) -> None:
            if self._stop.is_set():
                raise _Stopped

        raise_if_stopped()
        self.cache.fetch(name, raise_if_stopped)

    def _fetch_all(self, names: Sequence[str]) -> None:
        with ThreadPoolExecutor(FETCHERS) as pool:
            list(pool.map(self._fetch, names))

    def _close_evicted(self) -> None:
        """Close shards that are no longer in the cache: their disk space is free only then."""
        for number in list(self._open):
            if not (self.folder / self.shards[number].file).exists():
                self._open.pop(number, None)

    def _locate(self, indices: NDArray[np.int64]) -> list[Extent]:
        numbers = self.shard_of(indices)
        opened = {number: self.shard(number) for number in np.unique(numbers).tolist()}
        within = (self.stored(indices) - self.first_of_shard[numbers])[:, None]
        return [extent for number, index in zip(numbers.tolist(), within, strict=True)
                for extent in opened[number]._locate(index)]
