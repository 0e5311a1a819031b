"""Pack images into shards, on all cores, with quarantine of broken images; a killed pack resumes where it stopped.

Shard k holds the images k*n to (k+1)*n of a fixed order, except those that cannot be decoded, so no shard depends on
another. Several processes therefore write one shard each at a time, and rank 0 records them in order in the journal
(journal.py). A resumed or shared pack ends byte for byte as that of one process without an interruption.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from alexnet._runtime import native
from alexnet._runtime.cache import cache_folder, size_text
from alexnet._runtime.cpu_threads import own_cores
from alexnet._runtime.locks import file_lock
from alexnet._runtime.progress import Bar
from alexnet._runtime.ranks import OneProcess, Ranks
from alexnet.data import images, shards
from alexnet.data import packed as packed_module
from alexnet.data.content import content_hash, decode_content
from alexnet.data.dataset import Dataset, SourceImage
from alexnet.data.journal import Journal, WrittenShard, check_plan
from alexnet.data.manifest import JOURNAL, MANIFEST, Codec, Plan, to_json
from alexnet.data.order import evenly_spaced
from alexnet.data.pack_manifest import finish_pack, measured_split
from alexnet.data.packed import OnProgress, PackedDataset
from alexnet.data.perceptual_hash import perceptual_hash
from alexnet.data.quarantine import Quarantined, check_quarantine
from alexnet.data.remarks import Kind
from alexnet.data.shards import EncodedImage
from alexnet.data.square import square
from alexnet.errors import UserError, require

SHARD_IMAGES = 5_000
"""At 256 pixels about 1 GB raw, 0.1 GB as JPEG. ImageNet has 267 shards, few enough to keep all of them open."""

SUBSAMPLING = "420"
"""As in ImageNet's own files. At quality 90 the files are a fifth smaller than with 444 and decode 1.4 times as fast;
the mean error is 2.7 gray levels instead of 2.3 (80 images of ImageNet at 256 pixels)."""

_JPEG_BYTES_PER_PIXEL = ((50, 75, 90, 95, 100), (0.14, 0.20, 0.34, 0.48, 0.91))
"""Measured on the same images, by quality."""

_AHEAD = 256
"""Images that are decoded ahead of the one that is written: 50 MB at 256 pixels."""

LOCK = "unfinished.lock"
"""Locked by the process that packs into the folder, or by rank 0 of those that do."""

_SHARED_DEST = "choose a DEST on a disk that all hosts share"


def packed_size_bytes(count: int, side: int, codec: Codec = "raw", quality: int = 90) -> int:
    """Size on disk of the shards of `count` images: exact to 0.1% for raw, an estimate for jpeg."""
    bytes_per_pixel = 3.0 if codec == "raw" else float(np.interp(quality, *_JPEG_BYTES_PER_PIXEL))
    tar_blocks = 0 if codec == "raw" else 2_304  # two headers, the label, padding
    return round(count * (side * side * bytes_per_pixel + tar_blocks))


def choose_side(dataset: Dataset) -> int:
    """256 (§2), or the median shorter side of 50 sampled images if that is 128 pixels or less."""
    sample = next((split for split in dataset.splits.values() if len(split)), ())
    sides = []
    for index in evenly_spaced(len(sample), 50).tolist():
        with contextlib.suppress(images.BadImage):
            sides.append(min(sample[index].pixels().shape[:2]))
    median = statistics.median_low(sides) if sides else 256
    return median if median <= 128 else 256


def pack_with_bar(
    dataset: Dataset, dest: Path | str, *, side: int = 256, codec: Codec = "raw", quality: int = 90,
    workers: int | None = None, shard_images: int = SHARD_IMAGES, on_wait: Callable[[], object] | None = None,
    ranks: Ranks | None = None,
) -> PackedDataset:
    """`pack`, with a progress bar on a terminal and plain lines elsewhere, of rank 0."""
    with contextlib.nullcontext() if ranks and ranks.rank else Bar("packing", "images") as bar:
        return pack(dataset, dest, side=side, codec=codec, quality=quality, workers=workers, shard_images=shard_images,
                    on_progress=bar, on_wait=on_wait, ranks=ranks)


def pack(
    dataset: Dataset, dest: Path | str, *, side: int = 256, codec: Codec = "raw", quality: int = 90,
    workers: int | None = None, shard_images: int = SHARD_IMAGES, on_progress: OnProgress | None = None,
    on_wait: Callable[[], object] | None = None, ranks: Ranks | None = None,
) -> PackedDataset:
    """Pack a data set into the folder `dest`, or resume the pack that was interrupted there (§2).

    Each image's shorter side becomes `side` and its central square is kept. Training images are stored in an order
    that mixes the classes, validation images in the order of the data set. Images that cannot be decoded are
    quarantined: named in the manifest and in quarantine.txt. A finished pack of the same plan is returned as it is.
    Nothing is written to the source.

    Args:
        workers: threads; default: the cores of this process. The result does not depend on them.
        on_progress: called with the number of images done, and of all; an estimate if there are several ranks.
        on_wait: called before this process waits for another one that is packing into `dest`; None: do not wait.
        ranks: the processes that share the work, shard by shard, with `dest` on a disk of all. Default: this one alone.

    Raises:
        UserError: `dest` holds anything else, the disk is too small or cannot be written, or more than half of the
            images cannot be decoded.
    """
    dest, ranks = Path(dest), ranks or OneProcess()
    plan = _make_plan(dataset, side, codec, quality, shard_images)
    ranks.require_same_on_all_ranks({"data, --side, --codec or --quality": to_json(plan)})

    @_disk_errors_explained(dest)  # here too, since rank 0's error is posted to the others from here
    def begin() -> Journal | None:
        """The journal of what is finished; None if all is."""
        if packed_module.is_packed(dest):
            return None
        journal = Journal.resume(dest, plan) or Journal(plan, ("train", "val", *dataset.splits))
        _check_space(dataset, dest, journal)
        if not journal.files:
            journal.commit(dest)  # from now on the folder is an unfinished pack
        return journal

    with _disk_errors_explained(dest), _locked(dataset, dest, on_wait, ranks):
        if journal := ranks.from_rank0(begin):
            _write_shards(dataset, dest, journal, workers or own_cores(), on_progress, ranks)
            ranks.from_rank0(_disk_errors_explained(dest)(lambda: finish_pack(dataset, dest, journal)))
        packed = packed_module.open_packed(dest)
        check_plan(dest, packed.manifest.plan, plan)
        if not ranks.rank:
            for leftover in set(dest.glob("unfinished*")) - {dest / LOCK}:
                leftover.unlink()
    return packed


def _make_plan(dataset: Dataset, side: int, codec: Codec, quality: int, shard_images: int) -> Plan:
    plan = Plan("", side, codec, quality, shard_images)  # checks the values before the source is read
    require(dataset.image_count > 0, f"{dataset.source} has no images", "name a folder of class folders")
    return replace(plan, source_fingerprint=dataset.fingerprint(), quality=quality if codec == "jpeg" else None)


# --- Reading and writing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Prepared:
    """An image, ready for its shard."""

    payload: bytes | memoryview
    pixels_HWC: NDArray[np.uint8]
    """As they will be read back: for jpeg after decoding, which is what a network will see."""
    products: NDArray[np.int64]
    """[3, 3], sums of color times color."""
    content_hash: int
    perceptual_hash: NDArray[np.uint64]
    remarks: frozenset[Kind]


_Result = tuple[SourceImage, _Prepared | images.BadImage]
"""An image, ready for its shard, or the reason why it cannot be decoded."""


def _write_shards(
    dataset: Dataset, dest: Path, journal: Journal, workers: int, on_progress: OnProgress | None, ranks: Ranks,
) -> None:
    """Write every shard that the journal does not list, and add it to the journal of rank 0."""
    require(dest.is_dir(), f"process {ranks.rank} has no {dest}, into which process 0 packs", _SHARED_DEST)
    size, total = journal.plan.shard_images, dataset.image_count
    remaining = [(split, number) for split, source in dataset.splits.items()
                 for number in range(len(journal.splits[split].shards), -(-len(source) // size))]
    counts = [min(size, len(dataset.splits[split]) - number * size) for split, number in remaining]
    own = remaining[ranks.rank :: ranks.size]

    def images_of_own() -> Iterator[SourceImage]:
        orders = {split: _storage_order(split, dataset.splits[split]) for split in {split for split, _ in own}}
        for split, number in own:
            yield from (dataset.splits[split][index] for index in orders[split][number * size : (number + 1) * size])

    def counted(results: Iterator[_Result]) -> Iterator[_Result]:
        """Report progress as if the others were as far with their shards as this rank with its own."""
        before = sum(map(journal.images_read, journal.splits))
        for first in range(0, len(counts), ranks.size):
            of_ranks = counts[first : first + ranks.size]
            for done, result in enumerate(itertools.islice(results, sum(of_ranks[ranks.rank : ranks.rank + 1])), 1):
                if on_progress:
                    on_progress(before + sum(of_ranks) * done // of_ranks[ranks.rank], total)
                yield result
            before += sum(of_ranks)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="pack")
    try:
        results = counted(_read_ahead(pool, images_of_own(), journal.plan))
        written = (_write_shard(dataset, dest, journal.plan, split, number, results) for split, number in own)
        for shard in ranks.in_order(written, len(remaining)):
            _add_to_journal(dataset, dest, journal, shard)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _add_to_journal(dataset: Dataset, dest: Path, journal: Journal, written: WrittenShard) -> None:
    missing = [name for name in written.files if not (dest / name).is_file()]
    require(not missing, f"another process has written {''.join(missing[:1])}, which is not in {dest} of process 0",
            _SHARED_DEST)
    journal.add_shard(written)
    split = written.split
    check_quarantine(journal.splits[split].quarantined, split, journal.images_read(split),
                     len(dataset.splits[split]), dataset.source)
    journal.commit(dest)


def _storage_order(split: str, source: Sequence[SourceImage]) -> list[int]:
    """Training images by a hash of their names: mixed, and in the same order with any machine and NumPy."""
    if split != "train":
        return list(range(len(source)))
    hashes = [hashlib.sha256(image.name.encode("utf-8", "surrogateescape")).digest() for image in source]
    return sorted(range(len(source)), key=hashes.__getitem__)


def _read_ahead(pool: ThreadPoolExecutor, source: Iterable[SourceImage], plan: Plan) -> Iterator[_Result]:
    """Prepare the images in threads and yield them in order; at most `_AHEAD` of them are in memory."""
    waiting: deque[tuple[SourceImage, Future[_Prepared | images.BadImage]]] = deque()
    for image in source:
        waiting.append((image, pool.submit(_prepare, image, plan)))
        if len(waiting) > _AHEAD:
            first, future = waiting.popleft()
            yield first, future.result()
    while waiting:
        first, future = waiting.popleft()
        yield first, future.result()


def _prepare(image: SourceImage, plan: Plan) -> _Prepared | images.BadImage:
    """Decode an image, make its square, and encode it as the plan says."""
    remarks: set[Kind] = set()
    try:
        content = image.content()
        pixels_HWC = np.ascontiguousarray(square(decode_content(content, image.name, remarks), plan.side))
    except images.BadImage as error:
        return error
    except OSError as error:
        raise UserError(f"cannot read {image.name}: {error}", "run the same command again to resume") from error
    payload: bytes | memoryview = pixels_HWC.data
    if plan.codec == "jpeg":
        payload = simplejpeg.encode_jpeg(pixels_HWC, plan.quality, "RGB", SUBSAMPLING)
        pixels_HWC = images.decode(payload, image.name)
    return _Prepared(payload, pixels_HWC, native.color_products(pixels_HWC), content_hash(content),
                     perceptual_hash(pixels_HWC), frozenset(remarks))


def _write_shard(
    dataset: Dataset, dest: Path, plan: Plan, split: str, number: int, results: Iterator[_Result],
) -> WrittenShard:
    """Write a shard of the split, of the next results."""
    first = number * plan.shard_images
    count = min(plan.shard_images, len(dataset.splits[split]) - first)
    products = np.zeros((3, 3), np.int64)
    sums_HWC = np.zeros((plan.side, plan.side, 3), np.int64) if split == measured_split(dataset) else None
    quarantined: list[Quarantined] = []
    remarks: list[tuple[str, frozenset[Kind]]] = []

    def encoded() -> Iterator[EncodedImage]:
        for image, result in itertools.islice(results, count):
            if isinstance(result, images.BadImage):
                quarantined.append(Quarantined(image.name, result.problem))
                continue
            if sums_HWC is not None:
                np.add(sums_HWC, result.pixels_HWC, out=sums_HWC)
                np.add(products, result.products, out=products)
            if result.remarks:
                remarks.append((image.name, result.remarks))
            yield EncodedImage(
                result.payload, image.label, image.name, result.content_hash, result.perceptual_hash,
                dataset.grouping.number_of(image.name) if dataset.grouping else None)

    shard = shards.write_shard(dest, f"{split}-{number:05}", plan.codec, plan.side, first, encoded())
    files = {name: shards.describe_file(dest / name) for name in shard.files}
    return WrittenShard(split, shard, files, tuple(quarantined), tuple(remarks), sums_HWC, products)


# --- Checks -----------------------------------------------------------------------------------------------------------


def _check_dest(dataset: Dataset, dest: Path) -> None:
    source = Path(dataset.source)
    require(not (source.is_dir() and Path(os.path.realpath(dest)).is_relative_to(source.resolve())),
            f"the output folder {dest} is inside the source folder {source}", "choose a DEST outside it")
    if dest.is_dir():
        found = {path.name for path in dest.iterdir()}
        # A kill in the first instant leaves at most an unfinished journal.
        is_pack = found & {MANIFEST, JOURNAL} or all(name.startswith("unfinished") for name in found)
        require(bool(is_pack), f"{dest} already holds other files", "choose another DEST")
    require(dest.is_dir() or not dest.exists(), f"{dest} is a file, and DEST must be a folder", "choose another DEST")


def _check_space(dataset: Dataset, dest: Path, journal: Journal) -> None:
    plan, remaining = journal.plan, dataset.image_count - sum(map(journal.images_read, journal.splits))
    needed = packed_size_bytes(remaining, plan.side, plan.codec, plan.quality or 0)
    free = shutil.disk_usage(dest).free
    if needed > free:
        is_cached = dest.resolve().is_relative_to(cache_folder().resolve())  # by a command without DEST and --codec
        raise UserError(f"{dest} needs {size_text(needed)} more and its disk has {size_text(free)} free",
                        "free some, such as with alexnet cache --clear, or let XDG_CACHE_HOME name a folder on another "
                        "disk" if is_cached else
                        "free some, or choose another DEST, a smaller --side or --codec jpeg")


@contextlib.contextmanager
def _disk_errors_explained(dest: Path) -> Iterator[None]:
    """Turn the error of a full or read-only disk into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {dest}: {error.strerror or error}; finished shards are kept",
                        "solve that and run the same command again") from error


@contextlib.contextmanager
def _locked(dataset: Dataset, dest: Path, on_wait: Callable[[], object] | None, ranks: Ranks) -> Iterator[None]:
    """Make the folder if necessary, and lock it for rank 0; remove it again if nothing was written."""
    if ranks.rank:
        yield
        return
    _check_dest(dataset, dest)
    made = not dest.exists()
    dest.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.ExitStack() as held:
            if not held.enter_context(file_lock(dest / LOCK, wait=False)):
                if on_wait is None:
                    raise UserError(f"another process is packing into {dest}", "wait for it, or choose another DEST")
                on_wait()
                held.enter_context(file_lock(dest / LOCK))
            yield
    finally:
        if made:
            with contextlib.suppress(OSError):
                dest.rmdir()
