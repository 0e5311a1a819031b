"""Images -> shards, on all cores, with a progress bar, a quarantine list, and restart after a kill at any moment.

Shard k holds the images k*n to (k+1)*n of a fixed order, less those that cannot be decoded, so no shard depends
on another. After each shard the journal is replaced in one step; what it does not name is written again. So an
interrupted pack goes on where it stood and ends byte for byte as if it had never stopped.
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
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from alexnet._runtime.locks import file_lock
from alexnet._runtime.progress import Bar
from alexnet.data import images, manifest, shards
from alexnet.data import packed as packed_module
from alexnet.data.dataset import Dataset, SourceImage
from alexnet.data.packed import OnProgress, PackedDataset
from alexnet.data.shards import Codec, Stored
from alexnet.errors import did_you_mean, require

SHARD_IMAGES = 5_000
"""At 256 pixels about 1 GB raw, 0.1 GB as JPEG: ImageNet is 267 shards, few enough to hold all of them open."""

SUBSAMPLING = "420"
"""As in ImageNet's own files. At quality 90 a fifth smaller and 1.4 times as fast to decode as 444; the mean error is
2.7 gray levels instead of 2.3 (80 images of ImageNet at 256 pixels)."""

_JPEG_BYTES_PER_PIXEL = ((50, 75, 90, 95, 100), (0.14, 0.20, 0.34, 0.48, 0.91))
"""Measured on the same images, by quality."""

_AHEAD = 256
"""Images that are decoded ahead of the one that is written: 50 MB at 256 pixels."""

_LOCK = "unfinished.lock"
"""Locked by the process that packs into the folder."""

_Result = tuple["SourceImage", "_Prepared | images.BadImage"]
"""An image, ready for its shard or with the reason why it is not."""


def packed_size_bytes(samples: int, side: int, codec: Codec = "raw", quality: int = 90) -> int:
    """What the shards take on disk: exact to 0.1% for raw, an estimate for jpeg."""
    per_pixel = 3.0 if codec == "raw" else float(np.interp(quality, *_JPEG_BYTES_PER_PIXEL))
    tar_blocks = 0 if codec == "raw" else 2_304  # two headers, the label, padding
    return round(samples * (side * side * per_pixel + tar_blocks))


def choose_side(dataset: Dataset) -> int:
    """256 (§2), unless the images are tiny: 128 pixels or less, at the median shorter side of a sample of 50."""
    photos = next((photos for photos in dataset.splits.values() if len(photos)), ())
    sides = []
    for index in np.linspace(0, len(photos) - 1, min(50, len(photos))).astype(int).tolist():
        with contextlib.suppress(images.BadImage):
            sides.append(min(photos[index].pixels().shape[:2]))
    median = statistics.median_low(sides) if sides else 256
    return median if median <= 128 else 256


def pack_with_bar(dataset: Dataset, dest: Path | str, **options: Any) -> PackedDataset:
    """`pack`, with a bar on a terminal and plain lines elsewhere."""
    with Bar("packing", "images") as bar:
        return pack(dataset, dest, on_progress=bar, **options)


def pack(
    dataset: Dataset, dest: Path | str, *, side: int = 256, codec: Codec = "raw", quality: int = 90,
    workers: int | None = None, shard_images: int = SHARD_IMAGES, on_progress: OnProgress | None = None,
) -> PackedDataset:
    """Pack a dataset into the folder `dest`, or go on with the pack that was interrupted there (§2).

    Each image's shorter side becomes `side` and its central square is kept. Training images are stored in an
    order that mixes the classes, validation images in theirs. workers: threads, all cores unless said; the result
    does not depend on them. What cannot be decoded is quarantined: named in the manifest and in quarantine.txt.
    A finished pack of the same plan is returned as it is; the source is never written to.
    Raises ValueError where `dest` holds anything else, the disk is too small or cannot be written, or more than half
    of the images are bad.
    """
    dest = Path(dest)
    plan = _plan(dataset, side, codec, quality, shard_images)
    _check_places(dataset, dest)
    with _saying_why(dest), _alone(dest):
        if not packed_module.is_packed(dest):
            journal = _Journal.resume(dest, plan) or _Journal(plan)
            _check_space(dataset, dest, journal)
            _write_shards(dataset, dest, journal, workers or os.cpu_count() or 1, on_progress)
            _finish(dataset, dest, journal)
        packed = packed_module.open_packed(dest)
        _check_plan(dest, packed.plan, plan)
        for leftover in set(dest.glob("unfinished*")) - {dest / _LOCK}:
            leftover.unlink()
    return packed


def _plan(dataset: Dataset, side: int, codec: Codec, quality: int, shard_images: int) -> dict[str, Any]:
    """All that the bytes of a pack depend on."""
    for holds, message in (
        (codec in shards.CODECS, f"there is no codec {codec!r}; {did_you_mean(codec, shards.CODECS)}"),
        (side >= 1, f"side {side} must be at least 1 pixel"),
        (1 <= quality <= 100, f"quality {quality} must lie in 1..100"),
        (shard_images >= 1, f"{shard_images} images a shard must be at least 1"),
        (any(map(len, dataset.splits.values())), f"{dataset.source} has no images; name a folder of classes"),
    ):
        if not holds:
            raise ValueError(message)
    return {"dataset": dataset.fingerprint(), "side": side, "codec": codec,
            "quality": quality if codec == "jpeg" else None, "shard_images": shard_images}


# --- The journal: what is finished ------------------------------------------------------------------------------------


@dataclass
class _Journal:
    """The finished shards, and sums over their pixels: exact integers, so no order and no restart leaves a trace."""

    plan: dict[str, Any]
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    products: NDArray[np.int64] = field(default_factory=lambda: np.zeros((3, 3), np.int64))
    """Sums of color times color: ImageNet's are 5.5e15, int64 holds 9.2e18."""
    sums_HWC: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.sums_HWC = np.zeros((self.plan["side"], self.plan["side"], 3), np.int64)

    def stored(self, split: str) -> int:
        """Images in the split's finished shards."""
        return sum(shard["images"] for shard in self.splits[split]["shards"])

    def seen(self, split: str) -> int:
        """Images that were read, good and bad."""
        return self.stored(split) + len(self.splits[split]["quarantined"])

    def commit(self, dest: Path) -> None:
        """The one step that makes the latest shard count: the journal is replaced; it implies which sums go with it."""
        np.save(self._sums_file(dest, self._shards()), self.sums_HWC)
        manifest.write_json(dest / manifest.JOURNAL, {
            "format": manifest.FORMAT, "plan": self.plan, "splits": self.splits, "files": self.files,
            "products": self.products.tolist()})
        self._sums_file(dest, self._shards() - 1).unlink(missing_ok=True)

    @classmethod
    def resume(cls, dest: Path, plan: dict[str, Any]) -> Self | None:
        """The journal of the pack that was interrupted there, if any. Raises ValueError if its plan was another."""
        if not (dest / manifest.JOURNAL).is_file():
            return None
        content = manifest.read_json(dest / manifest.JOURNAL)
        _check_plan(dest, content["plan"], plan)
        manifest.check_sizes(dest, content["files"])
        journal = cls(plan, content["splits"], content["files"], np.array(content["products"], np.int64))
        journal.sums_HWC = np.load(cls._sums_file(dest, journal._shards()))
        return journal

    def _shards(self) -> int:
        return sum(len(record["shards"]) for record in self.splits.values())

    @staticmethod
    def _sums_file(dest: Path, shards_done: int) -> Path:
        return dest / f"unfinished-{shards_done:05}.npy"


# --- The work ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Prepared:
    payload: bytes | memoryview
    pixels_HWC: NDArray[np.uint8]
    """As they will be read back: for jpeg after decoding, for that is what a network will see."""
    products: NDArray[np.int64]


def _write_shards(
    dataset: Dataset, dest: Path, journal: _Journal, workers: int, on_progress: OnProgress | None,
) -> None:
    """Write every shard that the journal does not name."""
    if not journal.splits:
        journal.splits = {split: {"shards": [], "quarantined": []} for split in ("train", "val", *dataset.splits)}
        journal.commit(dest)
    size = journal.plan["shard_images"]
    total = sum(map(len, dataset.splits.values()))
    done = sum(map(journal.seen, journal.splits))

    def count(results: Iterator[_Result]) -> Iterator[_Result]:
        nonlocal done
        for result in results:
            done += 1
            if on_progress:
                on_progress(done, total)
            yield result

    pool = ThreadPoolExecutor(workers, thread_name_prefix="pack")
    try:
        for split, photos in dataset.splits.items():
            todo = _order(split, photos)[journal.seen(split) :]
            results = count(_read_ahead(pool, (photos[index] for index in todo), journal.plan))
            for _ in range(0, len(todo), size):
                _write_shard(dataset, dest, journal, split, itertools.islice(results, size))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _order(split: str, photos: Sequence[SourceImage]) -> list[int]:
    """Training images by a hash of their names: mixed, and in the same order on any machine and NumPy."""
    if split != "train":
        return list(range(len(photos)))
    hashes = [hashlib.sha256(photo.name.encode("utf-8", "surrogateescape")).digest() for photo in photos]
    return sorted(range(len(photos)), key=hashes.__getitem__)


def _read_ahead(pool: ThreadPoolExecutor, photos: Iterable[SourceImage], plan: dict[str, Any]) -> Iterator[_Result]:
    """Each image, prepared or with the reason why not, in order; a bounded number stands in memory."""
    waiting: deque[tuple[SourceImage, Future[_Prepared | images.BadImage]]] = deque()
    for photo in photos:
        waiting.append((photo, pool.submit(_prepare, photo, plan["side"], plan["codec"], plan["quality"])))
        if len(waiting) > _AHEAD:
            first, future = waiting.popleft()
            yield first, future.result()
    while waiting:
        first, future = waiting.popleft()
        yield first, future.result()


def _prepare(photo: SourceImage, side: int, codec: Codec, quality: int) -> _Prepared | images.BadImage:
    try:
        pixels_HWC = np.ascontiguousarray(images.square(photo.pixels(), side))
    except images.BadImage as reason:
        return reason
    except OSError as problem:
        raise ValueError(f"cannot read {photo.name}: {problem}; run the same command again to go on") from problem
    payload: bytes | memoryview = pixels_HWC.data
    if codec == "jpeg":
        payload = simplejpeg.encode_jpeg(pixels_HWC, quality, "RGB", SUBSAMPLING)
        pixels_HWC = images.decode(payload, photo.name)
    colors = pixels_HWC.reshape(-1, 3).astype(np.float64)  # exact: an image's sums stay far below 2**53
    return _Prepared(payload, pixels_HWC, (colors.T @ colors).astype(np.int64))


def _write_shard(dataset: Dataset, dest: Path, journal: _Journal, split: str, results: Iterator[_Result]) -> None:
    record = journal.splits[split]
    measured = split == _measured(dataset)
    bad: list[dict[str, str]] = record["quarantined"]

    def good() -> Iterator[Stored]:
        for photo, result in results:
            if isinstance(result, images.BadImage):
                bad.append({"name": photo.name, "reason": str(result)})
                continue
            if measured:
                journal.sums_HWC += result.pixels_HWC
                journal.products += result.products
            yield Stored(result.payload, photo.label, photo.name)

    stem, plan = f"{split}-{len(record['shards']):05}", journal.plan
    shard = shards.write_shard(dest, stem, plan["codec"], plan["side"], journal.stored(split), good())
    record["shards"].append(shard)
    journal.files |= {name: shards.describe_file(dest / name) for name in manifest.files_of(shard)}
    # Soon rather than at the end: the first shard of a mixed order tells as much as all of them.
    if 2 * len(bad) > max(journal.seen(split), min(1_000, len(dataset.splits[split]))):
        raise ValueError(
            f"{len(bad):,} of the first {journal.seen(split):,} {split} images of {dataset.source} cannot be "
            f"decoded, as {bad[0]['name']} ({bad[0]['reason']}); mend the source and pack again")
    journal.commit(dest)


def _measured(dataset: Dataset) -> str:
    """The split whose mean and covariance are taken: `train`, or what there is where that is empty."""
    return max(dataset.splits, key=lambda split: (len(dataset.splits[split]) > 0, split == "train"))


def _finish(dataset: Dataset, dest: Path, journal: _Journal) -> None:
    """The mean, the quarantine list, and last of all the manifest."""
    measured, notes, splits = _measured(dataset), [*dataset.notes], {}
    if measured != "train":
        notes.append(f"there are no training images, so mean and covariance are those of {measured}")
    for split, record in journal.splits.items():
        labels = packed_module.PackedSplit(
            dest, journal.plan["codec"], journal.plan["side"], record["shards"], len(dataset.classes)).labels
        per_class = np.bincount(labels, minlength=len(dataset.classes))
        splits[split] = {"images": len(labels), "per_class": per_class.tolist(), **record}
        notes += _lost_classes(dataset, split, per_class) if record["quarantined"] else []
    np.save(dest / manifest.MEAN, (journal.sums_HWC / journal.stored(measured)).astype(np.float32))
    journal.files[manifest.MEAN] = shards.describe_file(dest / manifest.MEAN)
    if quarantined := [f"{split}\t{bad['name']}\t{bad['reason']}\n"
                       for split, record in journal.splits.items() for bad in record["quarantined"]]:
        (dest / manifest.QUARANTINE).write_text("".join(quarantined), encoding="utf-8", errors="backslashreplace")
        journal.files[manifest.QUARANTINE] = shards.describe_file(dest / manifest.QUARANTINE)
    manifest.write_json(dest / manifest.MANIFEST, {
        "format": manifest.FORMAT, "plan": journal.plan,
        "source": dataset.source, "credits": dataset.credits, "notes": notes,
        "classes": list(dataset.classes), "wnids": list(dataset.wnids) if dataset.wnids else None,
        **_colors(journal, journal.stored(measured)),
        "splits": splits, "files": journal.files, "software": _software()})


def _colors(journal: _Journal, samples: int) -> dict[str, Any]:
    """Mean [3] and covariance [3, 3] of the colors, on 0..255, in Python's integers: rounded once, at the division."""
    n, rgb = samples * journal.plan["side"] ** 2, range(3)
    sums, products = journal.sums_HWC.sum((0, 1)).tolist(), journal.products.tolist()
    return {"rgb_mean": [total / n for total in sums],
            "rgb_covariance": [[(n * products[a][b] - sums[a] * sums[b]) / n**2 for b in rgb] for a in rgb]}


def _lost_classes(dataset: Dataset, split: str, per_class: NDArray[np.int64]) -> list[str]:
    """A warning for each class of which no image could be decoded."""
    there = np.bincount([photo.label for photo in dataset.splits[split]], minlength=len(dataset.classes))
    lost = [f"no {split} image of class {dataset.classes[label]} could be decoded; see {manifest.QUARANTINE}"
            for label in np.flatnonzero((per_class == 0) & (there > 0))]
    for message in lost:
        warnings.warn(message, stacklevel=4)
    return lost


def _software() -> dict[str, str]:
    packages = ("alexnet", "numpy", "torch", "simplejpeg", "pillow")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


# --- What can be wrong ------------------------------------------------------------------------------------------------


def _check_places(dataset: Dataset, dest: Path) -> None:
    source = Path(dataset.source)
    if source.is_dir() and dest.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{dest} lies in {source}, and a source is never written to; choose a DEST outside it")
    if dest.is_dir():
        there = {path.name for path in dest.iterdir()}
        # A kill in the first instant leaves no more than a draft of the journal.
        ours = there & {manifest.MANIFEST, manifest.JOURNAL}
        if not ours and not all(name.startswith("unfinished") for name in there):
            raise ValueError(f"{dest} is neither empty nor a pack, and nothing is overwritten; choose another DEST")
    elif dest.exists():
        raise ValueError(f"{dest} is a file; choose another DEST")


def _check_plan(dest: Path, there: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        if there[key] != value:
            what = "of other images" if key == "dataset" else f"with {key} {there[key]}, not {value}"
            raise ValueError(f"{dest} holds a pack {what}; choose another DEST, or delete it first")


def _check_space(dataset: Dataset, dest: Path, journal: _Journal) -> None:
    left = sum(map(len, dataset.splits.values())) - sum(map(journal.seen, journal.splits))
    plan = journal.plan
    needed = packed_size_bytes(left, plan["side"], plan["codec"], plan["quality"])
    free = shutil.disk_usage(dest).free
    if needed > free:
        raise ValueError(f"{dest} needs {needed / 1e9:,.1f} GB more and its disk has {free / 1e9:,.1f} GB free; "
                         "free some, or choose another DEST, a smaller --side or --codec jpeg")


@contextlib.contextmanager
def _saying_why(dest: Path) -> Iterator[None]:
    """A full or read-only disk, in one sentence."""
    try:
        yield
    except OSError as problem:
        raise ValueError(f"cannot write {dest}: {problem.strerror or problem}; finished shards are kept, so mend that "
                         "and run the same command again") from problem


@contextlib.contextmanager
def _alone(dest: Path) -> Iterator[None]:
    """The folder, made if need be, for this process alone; made for nothing, it goes again."""
    made = not dest.exists()
    dest.mkdir(parents=True, exist_ok=True)
    try:
        with file_lock(dest / _LOCK, wait=False) as acquired:
            require(acquired, f"another process is packing into {dest}", "wait for it, or choose another DEST")
            yield
    finally:
        if made:
            with contextlib.suppress(OSError):
                dest.rmdir()
