"""The packed form on disk: photographs in shards, written once, read at random, verified. Reads no source photographs.

A packed folder:

  manifest.json             written last, so a folder that has one is complete: classes, splits, statistics, checksums
  mean.npy                  float32 [side, side, 3], RGB on 0..255: the training set's mean of every pixel (§2)
  train-00000.npy           codec raw: uint8 [n, side, side, 3], a plain array that numpy.load opens
  train-00000.tar           codec jpeg: `000000012.jpg` and `.cls` for each photograph; any WebDataset client reads it
  train-00000.index.npy     codec jpeg: int64 [n, 2], offset and length of each JPEG in the tar
  train-00000.labels.npy    int64 [n]
  train-00000.names.json    n names
  quarantine.txt            what could not be decoded, and why; only where there is something to name

Shapes: N photographs of a split, n of a shard, B of a batch, H rows, W columns, C channels (RGB).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import mmap
import os
import re
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alexnet import images
from alexnet.config import nearest
from alexnet.manifest import fault

Codec = Literal["raw", "jpeg"]
CODECS: tuple[Codec, ...] = ("raw", "jpeg")
SHARD_SUFFIX = {"raw": ".npy", "jpeg": ".tar"}

FORMAT = 1
MANIFEST, MEAN, QUARANTINE = "manifest.json", "mean.npy", "quarantine.txt"
JOURNAL = "unfinished.json"
"""What `pack` has finished so far; a folder with this and no manifest is an unfinished pack."""

OnProgress = Callable[[int, int], object]
"""Called with (done, total)."""

_TAR_BLOCK = 512
_REMEDY = "restore it from a copy, or pack again into an empty folder"


# --- Writing ----------------------------------------------------------------------------------------------------------


class Stored(NamedTuple):
    """A photograph as a shard takes it."""

    payload: bytes | memoryview
    """Codec raw: the bytes of uint8 [side, side, 3]; codec jpeg: a JPEG file's."""
    label: int
    name: str


def write_shard(
    folder: Path, stem: str, codec: Codec, side: int, first: int, stored: Iterable[Stored],
) -> dict[str, Any]:
    """Write one shard and its companions, and return its record for the manifest.

    first: the number of its first photograph in the split, which names the tar's members.
    The stream is consumed one photograph at a time, so a shard never stands in memory. Raises OSError where the disk
    is full; a memory map would kill the process with SIGBUS.
    """
    labels: list[int] = []
    names: list[str] = []

    def noting() -> Iterator[Stored]:
        for photograph in stored:
            labels.append(photograph.label)
            names.append(photograph.name)
            yield photograph

    record: dict[str, Any] = {"file": stem + SHARD_SUFFIX[codec]}
    if codec == "raw":
        _write_array(folder / record["file"], side, noting())
    else:
        record["index"] = f"{stem}.index.npy"
        np.save(folder / record["index"], _write_tar(folder / record["file"], first, noting()))
    record |= {"labels": f"{stem}.labels.npy", "names": f"{stem}.names.json", "photographs": len(labels)}
    np.save(folder / record["labels"], np.array(labels, np.int64))
    (folder / record["names"]).write_text(json.dumps(names), encoding="utf-8")
    return record


def _write_array(path: Path, side: int, stored: Iterator[Stored]) -> None:
    def header(photographs: int) -> None:
        shape = (photographs, side, side, 3)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})

    count = 0
    with path.open("wb") as file:
        header(0)
        for count, photograph in enumerate(stored, 1):  # noqa: B007
            file.write(photograph.payload)
        # How many can be decoded is known only now. NumPy pads the header so that the first axis may change in place.
        file.seek(0)
        header(count)


def _write_tar(path: Path, first: int, stored: Iterator[Stored]) -> NDArray[np.int64]:
    """The tar, without dates or owners so that equal photographs give equal bytes. Returns its index, [n, 2]."""
    places: list[tuple[int, int]] = []

    def add(name: str, content: bytes) -> int:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        begin = tar.offset + _TAR_BLOCK  # short names: USTAR's header is one block
        tar.addfile(member, io.BytesIO(content))
        return begin

    with path.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, photograph in enumerate(stored, first):
            content = bytes(photograph.payload)
            places.append((add(f"{number:09}.jpg", content), len(content)))
            add(f"{number:09}.cls", str(photograph.label).encode())
    return np.array(places, np.int64).reshape(-1, 2)


def describe_file(path: Path) -> dict[str, Any]:
    """Its size and checksum, once it is safely on disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """All of it or nothing, with a checksum of itself."""
    draft = path.with_suffix(".draft")
    with draft.open("w", encoding="utf-8") as file:
        json.dump({"checksum": _digest(content)} | content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote. Raises ValueError where it is damaged or of another format."""
    return parse_json(path.read_bytes(), path)


def parse_json(written: bytes, path: Path | str) -> dict[str, Any]:
    """The same of what lies at `path`, a file or an address."""
    damaged = ValueError(f"{path} is damaged or not of a packed folder: its checksum does not match; {_REMEDY}")
    try:
        content = json.loads(written.decode())
        checksum, version = content.pop("checksum"), content["format"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged from None
    if checksum != _digest(content):
        raise damaged
    if version != FORMAT:
        raise ValueError(f"{path} has format {version} and this alexnet reads {FORMAT}; pack it again")
    return content


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def files_of(shard: dict[str, Any]) -> list[str]:
    """The names of a shard's own file and its companions."""
    return [shard[role] for role in ("file", "index", "labels", "names") if role in shard]


# --- Checking ---------------------------------------------------------------------------------------------------------


def check_names(manifest: Path | str, files: Iterable[str]) -> None:
    """Raises ValueError naming the file that would lie outside the manifest's folder."""
    for name in files:
        if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
            raise ValueError(f"{manifest} names the file {name!r}, which is no plain name within the folder; "
                             "do not use this folder")


def check_manifest(manifest: dict[str, Any], path: Path | str) -> None:
    """Raises ValueError saying what of it cannot be, or naming a file that it knows nothing of, or that would lie
    outside its folder."""
    if wrong := fault(manifest):
        raise ValueError(f"{path} is of no packed folder: {wrong}; {_REMEDY}")
    check_names(path, manifest["files"])
    named = {name for record in manifest["splits"].values() for shard in record["shards"] for name in files_of(shard)}
    if unknown := named - manifest["files"].keys():
        raise ValueError(f"{path} lists {min(unknown)!r} without a checksum; {_REMEDY}")


def check_sizes(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    """Raises ValueError naming the file that is missing, truncated, or named outside the folder."""
    check_names(folder / MANIFEST, files)
    for name, known in files.items():
        if fault := _wrong_size(folder / name, known["bytes"]):
            raise ValueError(f"{folder / name} {fault}; {_REMEDY}")


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


def _wrong_size(path: Path, size: int) -> str:
    if not path.is_file():
        return "is missing"
    there = path.stat().st_size
    return "" if there == size else f"is {'truncated' if there < size else 'too long'}: {there:,} bytes of {size:,}"


def _read_names(path: Path, shard: dict[str, Any]) -> list[str]:
    with contextlib.suppress(ValueError, RecursionError):
        names = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(names, list) and len(names) == shard["photographs"] and {*map(type, names)} <= {str}:
            return names
    raise ValueError(f"{path} is damaged: it is no list of {shard['photographs']} names; {_REMEDY}")


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


def open_packed(path: Path | str) -> Packed:
    """A packed folder, checked but for the photographs, of which only the size is; `Packed.verify` checks every byte.

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
    packed = Packed(path, manifest)
    shards = {shard["file"] for record in manifest["splits"].values() for shard in record["shards"]}
    packed.verify(only=manifest["files"].keys() - shards)  # of ImageNet a thousandth
    return packed


@dataclass(frozen=True)
class Packed:
    """A packed folder. `open_packed` makes one."""

    path: Path
    manifest: dict[str, Any]

    @property
    def plan(self) -> dict[str, Any]:
        """What the pack was asked for: the dataset's fingerprint, side, codec, quality, photographs a shard."""
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
        """Where the photographs came from."""
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
        """The splits that hold photographs."""
        return tuple(name for name, photographs in self.counts.items() if photographs)

    @property
    def counts(self) -> dict[str, int]:
        """Photographs of each split."""
        return {name: record["photographs"] for name, record in self.manifest["splits"].items()}

    @property
    def quarantined(self) -> dict[str, list[dict[str, str]]]:
        """By split, the name of each photograph that could not be decoded, and the reason."""
        return {name: record["quarantined"] for name, record in self.manifest["splits"].items()}

    @property
    def mean_HWC(self) -> NDArray[np.float32]:
        """The training set's mean of every pixel, [side, side, 3], RGB on 0..255 (§2)."""
        return read_array(self.path / MEAN, (self.side, self.side, 3), np.float32)

    @property
    def rgb_mean(self) -> NDArray[np.float64]:
        """The training set's mean colour, [3] on 0..255."""
        return np.array(self.manifest["rgb_mean"])

    @property
    def rgb_covariance(self) -> NDArray[np.float64]:
        """Covariance of red, green and blue over all training pixels, [3, 3] on 0..255 (§4.1)."""
        return np.array(self.manifest["rgb_covariance"])

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the data: equal for equal classes, photographs, order and pixels, wherever the folder is."""
        return _digest({key: self.manifest[key] for key in ("classes", "files")})

    def split(self, name: str) -> Split:
        """The photographs of `train` or `val`. Raises ValueError naming the nearest for another word."""
        records = self.manifest["splits"]
        if name not in records:
            raise ValueError(f"{self.path} has no split {name!r}; {nearest(name, records)}")
        return Split(self.path, self.codec, self.side, records[name]["shards"], len(self.classes))

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


@dataclass(frozen=True)
class Mapped:
    """Photographs of raw shards where they lie in the memory map, uncopied: [B, side, side, 3] of uint8."""

    addresses: NDArray[np.uintp]
    """[B], of each photograph's first byte."""
    indices: NDArray[np.int64]
    split: Split
    """Keeps the map."""

    def __len__(self) -> int:
        return len(self.addresses)

    def __getitem__(self, some: slice) -> Mapped:
        return Mapped(self.addresses[some], self.indices[some], self.split)

    def read(self) -> NDArray[np.uint8]:
        """A copy of them, [B, side, side, 3]."""
        return self.split.read(self.indices)


class Split:
    """The photographs of one split, read at random from memory-mapped shards; any number of threads may read."""

    def __init__(
        self, folder: Path, codec: Codec, side: int, shards: Sequence[dict[str, Any]], classes: int,
    ) -> None:
        self.folder, self.codec, self.side, self.shards, self.classes = folder, codec, side, shards, classes

    def __len__(self) -> int:
        return sum(shard["photographs"] for shard in self.shards)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """[N]. Raises ValueError naming the file with a label of no class."""
        labels_N = [np.empty(0, np.int64)]
        for shard in self.shards:
            labels_N.append(read_array(self.folder / shard["labels"], (shard["photographs"],), np.int64))
            if not ((labels_N[-1] >= 0) & (labels_N[-1] < self.classes)).all():
                raise ValueError(f"{self.folder / shard['labels']} has a label that is not in 0..{self.classes - 1}; "
                                 f"{_REMEDY}")
        return np.concatenate(labels_N)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """[N], each photograph's name in its source."""
        return tuple(name for shard in self.shards for name in _read_names(self.folder / shard["names"], shard))

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The photographs of those numbers in that order: int64 [B] -> uint8 [B, side, side, 3].

        Raises IndexError for a number that is not in 0..N-1, ValueError naming a JPEG that is damaged.
        """
        places = self._summoned(indices)
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
        """One photograph: uint8 [side, side, 3]."""
        return self.read(np.array([index], np.int64))[0]

    def sample(self, count: int) -> NDArray[np.int64]:
        """The numbers of `count` photographs, or all there are: evenly spaced."""
        return np.unique(np.linspace(0, len(self) - 1, min(len(self), count)).astype(np.int64))

    def mapped(self, indices: NDArray[np.int64]) -> Mapped:
        """The same, uncopied, of codec raw only. The kernel is asked to have them in memory soon."""
        assert self.codec == "raw"
        self._summoned(indices)
        shards_B, begins_B, _ = self._places[indices].T
        return Mapped(self._bases[shards_B] + begins_B.astype(np.uintp), indices, self)

    def _summoned(self, indices: NDArray[np.int64]) -> list[tuple[mmap.mmap, int, int]]:
        """Where each photograph lies: memory, first byte, bytes; on their way from the disk, if they are not here."""
        if len(indices) and not 0 <= min(indices) <= max(indices) < len(self):
            raise IndexError(f"photographs {min(indices)} to {max(indices)} exceed a split of {len(self)}")
        places = self._lying(indices)
        for (memory, begin, length), index in zip(places, indices.tolist(), strict=True):
            if memory.size() < begin + length:  # the file has been cut short since it was opened
                ends = np.cumsum([shard["photographs"] for shard in self.shards])
                path = self.folder / self.shards[int(np.searchsorted(ends, index, side="right"))]["file"]
                raise ValueError(f"{path} {_wrong_size(path, len(memory))}; {_REMEDY}")
        if hasattr(mmap, "MADV_WILLNEED"):
            # Ask for the whole batch at once: from a cold disk four times as fast as a page fault at a time.
            for memory, begin, length in places:
                page = begin - begin % mmap.PAGESIZE
                memory.madvise(mmap.MADV_WILLNEED, page, begin + length - page)
        return places

    def _lying(self, indices: NDArray[np.int64]) -> list[tuple[mmap.mmap, int, int]]:
        return [(self._memories[shard], begin, length) for shard, begin, length in self._places[indices].tolist()]

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
    def _places(self) -> NDArray[np.int64]:
        """[N, 3]: the shard of each photograph, its first byte there, and how many."""
        places = [np.empty((0, 3), np.int64)]
        for number, shard in enumerate(self.shards):
            photographs = shard["photographs"]
            if self.codec == "raw":
                size = self.side * self.side * 3
                header = (self.folder / shard["file"]).stat().st_size - photographs * size
                extents = np.stack([header + np.arange(photographs) * size, np.full(photographs, size)], axis=1)
            else:
                extents = read_array(self.folder / shard["index"], (photographs, 2), np.int64)
                ends, size = extents.sum(1), (self.folder / shard["file"]).stat().st_size
                if photographs and not (extents.min() >= 0 and extents.max() <= size and ends.max() <= size):
                    raise ValueError(f"{self.folder / shard['index']} points outside {shard['file']}; {_REMEDY}")
            places.append(np.column_stack([np.full(photographs, number), extents]))
        return np.concatenate(places)
