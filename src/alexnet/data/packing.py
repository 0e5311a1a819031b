"""Pack images into shards, on all cores, with quarantine of broken images; a killed pack resumes where it stopped.

Shard k holds the images k*n to (k+1)*n of a fixed order, except those that cannot be decoded, so no shard depends on
another. Finished shards are recorded in the journal (journal.py). A resumed pack therefore ends byte for byte as an
uninterrupted one.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import itertools
import os
import platform
import shutil
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from alexnet._runtime import native
from alexnet._runtime.locks import file_lock
from alexnet._runtime.progress import Bar
from alexnet.data import images, shards
from alexnet.data import packed as packed_module
from alexnet.data.content import content_hash, decode_content
from alexnet.data.dataset import Dataset, SourceImage
from alexnet.data.journal import Journal, check_plan
from alexnet.data.manifest import JOURNAL, MANIFEST, MEAN, RGB, Codec, Manifest, Plan, SplitRecord, write_manifest
from alexnet.data.order import evenly_spaced
from alexnet.data.packed import OnProgress, PackedDataset
from alexnet.data.perceptual_hash import perceptual_hash
from alexnet.data.quarantine import Quarantined, check_quarantine, write_quarantine
from alexnet.data.remarks import Kind
from alexnet.data.shards import EncodedImage
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
"""Locked by the process that packs into the folder."""


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
) -> PackedDataset:
    """`pack`, with a progress bar on a terminal and plain lines elsewhere."""
    with Bar("packing", "images") as bar:
        return pack(dataset, dest, side=side, codec=codec, quality=quality, workers=workers, shard_images=shard_images,
                    on_progress=bar, on_wait=on_wait)


def pack(
    dataset: Dataset, dest: Path | str, *, side: int = 256, codec: Codec = "raw", quality: int = 90,
    workers: int | None = None, shard_images: int = SHARD_IMAGES, on_progress: OnProgress | None = None,
    on_wait: Callable[[], object] | None = None,
) -> PackedDataset:
    """Pack a data set into the folder `dest`, or resume the pack that was interrupted there (§2).

    Each image's shorter side becomes `side` and its central square is kept. Training images are stored in an order
    that mixes the classes, validation images in the order of the data set. Images that cannot be decoded are
    quarantined: named in the manifest and in quarantine.txt. A finished pack of the same plan is returned as it is.
    Nothing is written to the source.

    Args:
        workers: threads; default: all cores. The result does not depend on them.
        on_wait: called before this process waits for another one that is packing into `dest`; None: do not wait.

    Raises:
        UserError: `dest` holds anything else, the disk is too small or cannot be written, or more than half of the
            images cannot be decoded.
    """
    dest = Path(dest)
    plan = _make_plan(dataset, side, codec, quality, shard_images)
    _check_dest(dataset, dest)
    with _disk_errors_explained(dest), _locked(dest, on_wait):
        if not packed_module.is_packed(dest):
            journal = Journal.resume(dest, plan) or Journal(plan, ("train", "val", *dataset.splits))
            _check_space(dataset, dest, journal)
            _write_shards(dataset, dest, journal, workers or os.cpu_count() or 1, on_progress)
            _finish(dataset, dest, journal)
        packed = packed_module.open_packed(dest)
        check_plan(dest, packed.manifest.plan, plan)
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
    dataset: Dataset, dest: Path, journal: Journal, workers: int, on_progress: OnProgress | None,
) -> None:
    """Write every shard that the journal does not list."""
    if not journal.files:
        journal.commit(dest)  # from now on the folder is an unfinished pack
    total = dataset.image_count
    done = sum(map(journal.images_read, journal.splits))

    def counted(results: Iterator[_Result]) -> Iterator[_Result]:
        nonlocal done
        for result in results:
            done += 1
            if on_progress:
                on_progress(done, total)
            yield result

    size = journal.plan.shard_images
    pool = ThreadPoolExecutor(workers, thread_name_prefix="pack")
    try:
        for split, source in dataset.splits.items():
            remaining = _storage_order(split, source)[journal.images_read(split) :]
            results = counted(_read_ahead(pool, (source[index] for index in remaining), journal.plan))
            for _ in range(0, len(remaining), size):
                _write_shard(dataset, dest, journal, split, itertools.islice(results, size))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


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
        pixels_HWC = np.ascontiguousarray(images.square(decode_content(content, image.name, remarks), plan.side))
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


def _write_shard(dataset: Dataset, dest: Path, journal: Journal, split: str, results: Iterator[_Result]) -> None:
    """Write the next shard of the split, and commit it to the journal."""
    plan, record = journal.plan, journal.splits[split]
    measured = split == _measured_split(dataset)
    quarantined: list[Quarantined] = []
    remarks: list[tuple[str, frozenset[Kind]]] = []

    def encoded() -> Iterator[EncodedImage]:
        for image, result in results:
            if isinstance(result, images.BadImage):
                quarantined.append(Quarantined(image.name, result.problem))
                continue
            if measured:
                journal.add_pixels(result.pixels_HWC, result.products)
            if result.remarks:
                remarks.append((image.name, result.remarks))
            yield EncodedImage(
                result.payload, image.label, image.name, result.content_hash, result.perceptual_hash)

    stem = f"{split}-{len(record.shards):05}"
    shard = shards.write_shard(dest, stem, plan.codec, plan.side, record.images, encoded())
    files = {name: shards.describe_file(dest / name) for name in shard.files}
    journal.add_shard(split, shard, quarantined, remarks, files)
    check_quarantine(journal.splits[split].quarantined, split, journal.images_read(split),
                     len(dataset.splits[split]), dataset.source)
    journal.commit(dest)


def _measured_split(dataset: Dataset) -> str:
    """The split whose mean and covariance are computed: `train`, or the first other one if that is empty."""
    return max(dataset.splits, key=lambda split: (len(dataset.splits[split]) > 0, split == "train"))


# --- The end: statistics and manifest ---------------------------------------------------------------------------------


def _finish(dataset: Dataset, dest: Path, journal: Journal) -> None:
    """Write the mean, the quarantine list, and last of all the manifest."""
    measured, notes, splits = _measured_split(dataset), [*dataset.notes], {}
    if measured != "train":
        notes.append(f"there are no training images, so mean and covariance are those of {measured}")
    for split, record in journal.splits.items():
        counts = _count_classes(dataset, dest, journal.plan, record)
        splits[split] = replace(record, images_per_class=tuple(counts.tolist()))
        if record.quarantined:
            _require_all_classes(dataset, split, counts, record.quarantined)
    count = journal.splits[measured].images
    np.save(dest / MEAN, (journal.sums_HWC / count).astype(np.float32))
    journal.files[MEAN] = shards.describe_file(dest / MEAN)
    if path := write_quarantine(dest, {split: record.quarantined for split, record in splits.items()}):
        journal.files[path.name] = shards.describe_file(path)
    rgb_mean, rgb_covariance = _color_statistics(journal, count)
    write_manifest(dest, Manifest(
        journal.plan, dataset.source, dataset.credits, tuple(notes), dataset.classes, dataset.wnids,
        dataset.held_out, rgb_mean, rgb_covariance, splits, journal.files, _software_versions()))


def _count_classes(dataset: Dataset, dest: Path, plan: Plan, record: SplitRecord) -> NDArray[np.int64]:
    """The number of images of each class in a split, read back from its shards."""
    split = packed_module.PackedSplit(dest, plan.codec, plan.side, record.shards, len(dataset.classes))
    return np.bincount(split.labels, minlength=len(dataset.classes))


def _color_statistics(journal: Journal, count: int) -> tuple[RGB, tuple[RGB, RGB, RGB]]:
    """Mean [3] and covariance [3, 3] of the colors, on 0..255, in Python's integers: rounded once, at the division."""
    n = count * journal.plan.side**2
    (r, g, b), products = journal.sums_HWC.sum((0, 1)).tolist(), journal.products.tolist()

    def covariances(sum_a: int, products_a: list[int]) -> RGB:
        r_, g_, b_ = ((n * product - sum_a * sum_b) / n**2
                      for product, sum_b in zip(products_a, (r, g, b), strict=True))
        return r_, g_, b_

    return (r / n, g / n, b / n), (
        covariances(r, products[0]), covariances(g, products[1]), covariances(b, products[2]))


def _require_all_classes(
    dataset: Dataset, split: str, counts: NDArray[np.int64], quarantined: Sequence[Quarantined],
) -> None:
    """Raise UserError naming a class of which no image could be decoded: its error would vanish from every average."""
    in_source = np.bincount([image.label for image in dataset.splits[split]], minlength=len(dataset.classes))
    lost = np.flatnonzero((counts == 0) & (in_source > 0))
    if not len(lost):
        return
    names = {image.name for image in dataset.splits[split] if image.label == lost[0]}
    example = next(image for image in quarantined if image.name in names)
    others = f" and of {len(lost) - 1} other classes" if len(lost) > 1 else ""
    remedy = "remove the class" if split == "train" else "delete them"
    raise UserError(f"no {split} image of class {dataset.classes[lost[0]]!r}{others} could be decoded, such as "
                    f"{example.name} ({example.cause})", f"repair the images, or {remedy}")


def _software_versions() -> Mapping[str, str]:
    packages = ("alexnet", "numpy", "torch", "simplejpeg", "pillow")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


# --- Checks -----------------------------------------------------------------------------------------------------------


def _check_dest(dataset: Dataset, dest: Path) -> None:
    source = Path(dataset.source)
    require(not (source.is_dir() and Path(os.path.realpath(dest)).is_relative_to(source.resolve())),
            f"{dest} lies in {source}, and nothing is written to a source", "choose a DEST outside it")
    if dest.is_dir():
        found = {path.name for path in dest.iterdir()}
        # A kill in the first instant leaves at most an unfinished journal.
        is_pack = found & {MANIFEST, JOURNAL} or all(name.startswith("unfinished") for name in found)
        require(bool(is_pack), f"{dest} is neither empty nor a pack, and nothing is overwritten", "choose another DEST")
    require(dest.is_dir() or not dest.exists(), f"{dest} is a file", "choose another DEST")


def _check_space(dataset: Dataset, dest: Path, journal: Journal) -> None:
    plan, remaining = journal.plan, dataset.image_count - sum(map(journal.images_read, journal.splits))
    needed = packed_size_bytes(remaining, plan.side, plan.codec, plan.quality or 0)
    free = shutil.disk_usage(dest).free
    require(needed <= free, f"{dest} needs {needed / 1e9:,.1f} GB more and its disk has {free / 1e9:,.1f} GB free",
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
def _locked(dest: Path, on_wait: Callable[[], object] | None) -> Iterator[None]:
    """Make the folder if necessary, and lock it for this process; remove it again if nothing was written."""
    made = not dest.exists()
    dest.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.ExitStack() as held:
            if not held.enter_context(file_lock(dest / LOCK, wait=False)):
                if on_wait is None:
                    raise UserError(f"another process is packing into {dest}", "wait for it, or choose another DEST")
                on_wait()
                held.enter_context(file_lock(dest / LOCK))
                dest.mkdir(parents=True, exist_ok=True)  # the other process removes it where it wrote nothing
            yield
    finally:
        if made:
            with contextlib.suppress(OSError):
                dest.rmdir()
