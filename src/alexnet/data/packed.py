"""The packed form on disk: images in shards, written once, read at random, verified. Reads no source images.

A packed folder:

  manifest.json             written last, so a folder that has one is complete: classes, splits, statistics, checksums
  mean.npy                  float32 [side, side, 3], RGB on 0..255: the training set's mean of every pixel (§2)
  train-00000.npy           codec raw: uint8 [n, side, side, 3], a plain array that numpy.load opens
  train-00000.tar           codec jpeg: `000000012.jpg` and `.cls` for each image; any WebDataset client reads it
  train-00000.index.npy     codec jpeg: int64 [n, 2], offset and length of each JPEG in the tar
  train-00000.labels.npy    int64 [n]
  train-00000.names.json    n names
  quarantine.txt            what could not be decoded, and why; only where there is something to name

Shapes: N images of a split, n of a shard, B of a batch, H rows, W columns, C channels (RGB).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import mmap
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime.mmap_batch import MmapBatch
from alexnet.data import images
from alexnet.data.manifest import (
    _REMEDY,
    JOURNAL,
    MANIFEST,
    MEAN,
    _digest,
    _wrong_size,
    check_manifest,
    check_sizes,
    read_json,
)
from alexnet.data.shards import Codec
from alexnet.errors import did_you_mean

OnProgress = Callable[[int, int], object]
"""Called with (done, total)."""


def read_array(path: Path, shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
    """A .npy that must hold that; nothing is allocated for anything else, and nothing unpickled.

    Raises ValueError naming it, and FileNotFoundError.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            there = np.lib.format.read_array_header_1_0(file) if version == (1, 0) else None
            if there == (shape, False, np.dtype(kind)):
                return np.fromfile(file, kind, math.prod(shape)).reshape(shape)
    except FileNotFoundError:
        raise
    except Exception:  # a header is Python's own syntax: a damaged one provokes anything
        pass
    sides = " x ".join(map(str, shape))
    raise ValueError(f"{path} is damaged: it is no array of {sides} {kind.__name__}; {_REMEDY}")


def _read_names(path: Path, shard: dict[str, Any]) -> list[str]:
    with contextlib.suppress(ValueError, RecursionError):
        names = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(names, list) and len(names) == shard["images"] and {*map(type, names)} <= {str}:
            return names
    raise ValueError(f"{path} is damaged: it is no list of {shard['images']} names; {_REMEDY}")


def _wrong_content(folder: Path, file: tuple[str, dict[str, Any]]) -> str:
    name, known = file
    if fault := _wrong_size(folder / name, known["bytes"]):
        return f"{name} {fault}"
    with (folder / name).open("rb") as content:
        same = hashlib.file_digest(content, "sha256").hexdigest() == known["sha256"]
    return "" if same else f"{name} is damaged: its checksum does not match"


# --- Reading ----------------------------------------------------------------------------------------------------------


def is_packed(path: Path | str) -> bool:
    """Whether a folder holds a finished pack."""
    return (Path(path) / MANIFEST).is_file()


def open_packed(path: Path | str) -> PackedDataset:
    """A packed folder, checked but for the images, of which only the size is; `Packed.verify` checks every byte.

    Raises ValueError for what is no packed folder, an unfinished one, and a missing or truncated file, by name.
    """
    path = Path(path)
    if not is_packed(path):
        if (path / JOURNAL).is_file():
            raise ValueError(f"{path} is not packed to the end; run the same `alexnet pack` again to go on from there")
        if not path.exists():
            raise ValueError(f"{path} does not exist; make a packed folder with `alexnet pack SOURCE DEST`")
        raise ValueError(f"{path} is no packed folder: it has no {MANIFEST}; make one with `alexnet pack SOURCE DEST`")
    manifest = read_json(path / MANIFEST)
    check_manifest(manifest, path / MANIFEST)
    check_sizes(path, manifest["files"])
    packed = PackedDataset(path, manifest)
    shards = {shard["file"] for record in manifest["splits"].values() for shard in record["shards"]}
    packed.verify(only=manifest["files"].keys() - shards)  # of ImageNet a thousandth
    return packed


@dataclass(frozen=True)
class PackedDataset:
    """A packed folder. `open_packed` makes one."""

    path: Path
    manifest: dict[str, Any]

    @property
    def plan(self) -> dict[str, Any]:
        """What the pack was asked for: the dataset's fingerprint, side, codec, quality, images a shard."""
        return self.manifest["plan"]

    @property
    def side(self) -> int:
        """Of the stored squares, in pixels."""
        return self.plan["side"]

    @property
    def codec(self) -> Codec:
        return self.plan["codec"]

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names; a label is a place among them."""
        return tuple(self.manifest["classes"])

    @property
    def wnids(self) -> tuple[str, ...] | None:
        """The classes' WordNet identities, where the source has them."""
        return tuple(self.manifest["wnids"]) if self.manifest["wnids"] else None

    @property
    def source(self) -> str:
        """Where the images came from."""
        return self.manifest["source"]

    @property
    def credits(self) -> str:
        return self.manifest["credits"]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the dataset or the packing had to say."""
        return tuple(self.manifest["notes"])

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that hold images."""
        return tuple(name for name, samples in self.counts.items() if samples)

    @property
    def counts(self) -> dict[str, int]:
        """Images of each split."""
        return {name: record["images"] for name, record in self.manifest["splits"].items()}

    @property
    def quarantined(self) -> dict[str, list[dict[str, str]]]:
        """By split, the name of each image that could not be decoded, and the reason."""
        return {name: record["quarantined"] for name, record in self.manifest["splits"].items()}

    @property
    def mean_HWC(self) -> NDArray[np.float32]:
        """The training set's mean of every pixel, [side, side, 3], RGB on 0..255 (§2)."""
        return read_array(self.path / MEAN, (self.side, self.side, 3), np.float32)

    @property
    def rgb_mean(self) -> NDArray[np.float64]:
        """The training set's mean color, [3] on 0..255."""
        return np.array(self.manifest["rgb_mean"])

    @property
    def rgb_covariance(self) -> NDArray[np.float64]:
        """Covariance of red, green and blue over all training pixels, [3, 3] on 0..255 (§4.1)."""
        return np.array(self.manifest["rgb_covariance"])

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the data: equal for equal classes, images, order and pixels, wherever the folder is."""
        return _digest({key: self.manifest[key] for key in ("classes", "files")})

    def split(self, name: str) -> PackedSplit:
        """The images of `train` or `val`. Raises ValueError naming the nearest for another word."""
        records = self.manifest["splits"]
        if name not in records:
            raise ValueError(f"{self.path} has no split {name!r}; {did_you_mean(name, records)}")
        return PackedSplit(self.path, self.codec, self.side, records[name]["shards"], len(self.classes))

    def verify(self, on_progress: OnProgress | None = None, only: Collection[str] | None = None) -> None:
        """Read every byte, and raise ValueError naming all files that are missing, truncated or damaged.

        only: the names of files, where not all are to be read.
        """
        files = {name: known for name, known in self.manifest["files"].items() if only is None or name in only}
        faults = []
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for done, fault in enumerate(pool.map(partial(_wrong_content, self.path), files.items()), 1):
                faults += [fault] if fault else []
                if on_progress:
                    on_progress(done, len(files))
        if faults:
            raise ValueError(f"{self.path}: {'; '.join(faults)}; {_REMEDY}")


class PackedSplit:
    """The images of one split, read at random from memory-mapped shards; any number of threads may read."""

    def __init__(
        self, folder: Path, codec: Codec, side: int, shards: Sequence[dict[str, Any]], classes: int,
    ) -> None:
        self.folder, self.codec, self.side, self.shards, self.classes = folder, codec, side, shards, classes

    def __len__(self) -> int:
        return sum(shard["images"] for shard in self.shards)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """[N]. Raises ValueError naming the file with a label of no class."""
        labels_N = [np.empty(0, np.int64)]
        for shard in self.shards:
            labels_N.append(read_array(self.folder / shard["labels"], (shard["images"],), np.int64))
            if not ((labels_N[-1] >= 0) & (labels_N[-1] < self.classes)).all():
                raise ValueError(f"{self.folder / shard['labels']} has a label that is not in 0..{self.classes - 1}; "
                                 f"{_REMEDY}")
        return np.concatenate(labels_N)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """[N], each image's name in its source."""
        return tuple(name for shard in self.shards for name in _read_names(self.folder / shard["names"], shard))

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images of those numbers in that order: int64 [B] -> uint8 [B, side, side, 3].

        Raises IndexError for a number that is not in 0..N-1, ValueError naming a JPEG that is damaged.
        """
        places = self._prefetch(indices)
        pixels_BHWC = np.empty((len(places), self.side, self.side, 3), np.uint8)
        if self.codec == "raw":
            for row_HWC, (memory, begin, length) in zip(pixels_BHWC, places, strict=True):
                row_HWC[:] = np.frombuffer(memory, np.uint8, length, begin).reshape(row_HWC.shape)
            return pixels_BHWC

        threads = min(len(places), os.cpu_count() or 1) or 1

        def decode(first: int) -> None:
            for row in range(first, len(places), threads):
                memory, begin, length = places[row]
                images.decode_into(pixels_BHWC[row], memory[begin : begin + length],
                                   f"{self.folder}: number {indices[row]}")

        # Threads of its own for each call: none is left behind to hang in a forked process.
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(decode, range(threads)))
        return pixels_BHWC

    def read_one(self, index: int) -> NDArray[np.uint8]:
        """One image: uint8 [side, side, 3]."""
        return self.read(np.array([index], np.int64))[0]

    def sample(self, count: int) -> NDArray[np.int64]:
        """The numbers of `count` images, or all there are: evenly spaced."""
        return np.unique(np.linspace(0, len(self) - 1, min(len(self), count)).astype(np.int64))

    def mapped(self, indices: NDArray[np.int64]) -> MmapBatch:
        """The same, uncopied, of codec raw only. The kernel is asked to have them in memory soon."""
        assert self.codec == "raw"
        self._prefetch(indices)
        shards_B, begins_B, _ = self._extents[indices].T
        return MmapBatch(self._bases[shards_B] + begins_B.astype(np.uintp), indices, self)

    def _prefetch(self, indices: NDArray[np.int64]) -> list[tuple[mmap.mmap, int, int]]:
        """Where each image lies: memory, first byte, bytes; on their way from the disk, if they are not here."""
        if len(indices) and not 0 <= min(indices) <= max(indices) < len(self):
            raise IndexError(f"images {min(indices)} to {max(indices)} exceed a split of {len(self)}")
        places = self._locate(indices)
        for (memory, begin, length), index in zip(places, indices.tolist(), strict=True):
            if memory.size() < begin + length:  # the file has been cut short since it was opened
                ends = np.cumsum([shard["images"] for shard in self.shards])
                path = self.folder / self.shards[int(np.searchsorted(ends, index, side="right"))]["file"]
                raise ValueError(f"{path} {_wrong_size(path, len(memory))}; {_REMEDY}")
        if hasattr(mmap, "MADV_WILLNEED"):
            # Ask for the whole batch at once: from a cold disk four times as fast as a page fault at a time.
            for memory, begin, length in places:
                page = begin - begin % mmap.PAGESIZE
                memory.madvise(mmap.MADV_WILLNEED, page, begin + length - page)
        return places

    def _locate(self, indices: NDArray[np.int64]) -> list[tuple[mmap.mmap, int, int]]:
        return [(self._memories[shard], begin, length) for shard, begin, length in self._extents[indices].tolist()]

    @cached_property
    def _bases(self) -> NDArray[np.uintp]:
        """The address of each shard's first byte."""
        return np.array([np.frombuffer(memory, np.uint8).ctypes.data for memory in self._memories], np.uintp)

    @cached_property
    def _memories(self) -> list[mmap.mmap]:
        def open_map(name: str) -> mmap.mmap:
            with (self.folder / name).open("rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

        return [open_map(shard["file"]) for shard in self.shards]

    @cached_property
    def _extents(self) -> NDArray[np.int64]:
        """[N, 3]: the shard of each image, its first byte there, and how many."""
        places = [np.empty((0, 3), np.int64)]
        for number, shard in enumerate(self.shards):
            samples = shard["images"]
            if self.codec == "raw":
                size = self.side * self.side * 3
                header = (self.folder / shard["file"]).stat().st_size - samples * size
                extents = np.stack([header + np.arange(samples) * size, np.full(samples, size)], axis=1)
            else:
                extents = read_array(self.folder / shard["index"], (samples, 2), np.int64)
                ends, size = extents.sum(1), (self.folder / shard["file"]).stat().st_size
                if samples and not (extents.min() >= 0 and extents.max() <= size and ends.max() <= size):
                    raise ValueError(f"{self.folder / shard['index']} points outside {shard['file']}; {_REMEDY}")
            places.append(np.column_stack([np.full(samples, number), extents]))
        return np.concatenate(places)
