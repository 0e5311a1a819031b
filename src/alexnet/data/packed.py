"""Read a packed folder: images at random from memory-mapped shards, labels, names, statistics; verify its files.

A packed folder:

  manifest.json             written last: classes, splits, statistics, checksums (manifest.py)
  mean.npy                  float32 [side, side, 3], RGB on 0..255: the training set's mean of every pixel (§2)
  train-00000.npy           codec raw: uint8 [n, side, side, 3], a plain array that numpy.load opens
  train-00000.tar           codec jpeg: `000000012.jpg` and `.cls` for each image; any WebDataset client reads it
  train-00000.index.npy     codec jpeg: int64 [n, 2], offset and length of each JPEG in the tar
  train-00000.labels.npy    int64 [n]
  train-00000.names.json    n names
  train-00000.hashes.npy    uint64 [n], content hashes of the images in their source (content.py)
  train-00000.perceptual.npy  uint64 [n, 2], perceptual hashes of the stored images (perceptual_hash.py)
  train-00000.groups.npy    uint64 [n], equal for images that belong together; only with --group (dataset.Grouping)
  quarantine.txt            the images that cannot be decoded, and why; only if there are any (quarantine.py)

Shapes: N images of a split, n of a shard, B of a batch, H rows, W columns, C channels (RGB).
"""

from __future__ import annotations

import contextlib
import copy
import mmap
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime import native
from alexnet._runtime.pixels import MmapBatch
from alexnet.data import images
from alexnet.data.dataset import held_out_note, require_splits
from alexnet.data.file_checks import Scalar, check_sizes, find_fault, read_array, read_extents, read_names, size_fault
from alexnet.data.manifest import JOURNAL, MANIFEST, MEAN, RESTORE, Codec, Manifest, ShardRecord, read_manifest
from alexnet.data.order import epoch_order, evenly_spaced
from alexnet.data.quarantine import Quarantined
from alexnet.data.remarks import Remark
from alexnet.errors import UserError

OnProgress = Callable[[int, int], object]
"""Called with (done, total)."""

Extent = tuple[mmap.mmap, int, int]
"""An image in a memory map: the map, the image's first byte, its bytes."""


def is_packed(path: Path | str) -> bool:
    """Whether a folder holds a finished pack."""
    return (Path(path) / MANIFEST).is_file()


def open_packed(path: Path | str) -> PackedDataset:
    """Open a packed folder. All files are checked except the shards, of which only the size is.

    `PackedDataset.verify` checks every byte. Raises UserError for a folder that is not packed or not finished, and
    names a file that is missing, truncated or damaged.
    """
    path = Path(path)
    if not is_packed(path):
        if (path / JOURNAL).is_file():
            raise UserError(f"the packing of {path} is not finished", "run the same `alexnet pack` again to resume it")
        make = "make a packed folder with `alexnet pack SOURCE DEST`"
        raise UserError(f"{path} is not a packed folder: it has no {MANIFEST}" if path.exists()
                        else f"{path} does not exist", make)
    manifest = read_manifest(path)
    check_sizes(path, manifest.files)
    packed = PackedDataset(path, manifest)
    packed.verify(only=manifest.files.keys() - {shard.file for shard in manifest.shards})  # 0.1% of ImageNet's bytes
    return packed


@dataclass(frozen=True)
class PackedDataset:
    """A packed folder. `open_packed` makes one."""

    path: Path
    manifest: Manifest

    @property
    def side(self) -> int:
        """Of the stored squares, in pixels."""
        return self.manifest.plan.side

    @property
    def codec(self) -> Codec:
        return self.manifest.plan.codec

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names; a label is an index into them."""
        return self.manifest.classes

    @property
    def wnids(self) -> tuple[str, ...] | None:
        """WordNet IDs of the classes, if the source has them."""
        return self.manifest.wnids

    @property
    def source(self) -> str:
        """Where the images came from: a path, or a description."""
        return self.manifest.source

    @property
    def credits(self) -> str:
        return self.manifest.credits

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the data set and its packing."""
        return self.manifest.notes

    @property
    def division(self) -> str:
        """How the images were divided into `train` and `val`; "" if the source has its own splits."""
        counts = {name: dict(enumerate(split.images_per_class)) for name, split in self.manifest.splits.items()}
        return held_out_note(self.manifest.held_out, self.manifest.grouped_by, self.classes, counts)

    @property
    def all_notes(self) -> tuple[str, ...]:
        """`notes`, and `division` if there is one."""
        return self.notes + (self.division,) * bool(self.division)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are not empty."""
        return tuple(name for name, count in self.counts.items() if count)

    @property
    def counts(self) -> dict[str, int]:
        """The number of images in each split."""
        return {name: split.images for name, split in self.manifest.splits.items()}

    @property
    def quarantined(self) -> dict[str, tuple[Quarantined, ...]]:
        """By split, the images that could not be decoded, and why."""
        return {name: split.quarantined for name, split in self.manifest.splits.items()}

    @property
    def remarks(self) -> dict[str, tuple[Remark, ...]]:
        """By split, what should be known of images that were decoded."""
        return {name: split.remarks for name, split in self.manifest.splits.items()}

    @property
    def mean_HWC(self) -> NDArray[np.float32]:
        """The training set's mean of every pixel, [side, side, 3], RGB on 0..255 (§2)."""
        return read_array(self.path / MEAN, (self.side, self.side, 3), np.float32)

    @property
    def rgb_mean(self) -> NDArray[np.float64]:
        """The training set's mean color, [3] on 0..255."""
        return np.array(self.manifest.rgb_mean)

    @property
    def rgb_covariance(self) -> NDArray[np.float64]:
        """Covariance of red, green and blue over all training pixels, [3, 3] on 0..255 (§4.1)."""
        return np.array(self.manifest.rgb_covariance)

    @cached_property
    def fingerprint(self) -> str:
        """Identify the data: equal for equal classes, images, order and pixels, wherever the folder is."""
        return self.manifest.fingerprint()

    @property
    def test_splits(self) -> tuple[str, ...]:
        """The splits to evaluate on: `val`, else `test`; all of them if the data has no such split of its own.

        A `val` that was held out of the training images is no split of its own: another pack holds out other images.
        """
        own = ("test",) if self.manifest.held_out else ("val", "test")
        return tuple(name for name in own if name in self.splits)[:1] or self.splits

    def split(self, *names: str) -> PackedSplit:
        """The images of a split, or of several, one after the other. Raises UserError for a name that is none."""
        return PackedSplit(self.path, self.codec, self.side, self._shards_of(names), len(self.classes))

    def _shards_of(self, names: Sequence[str]) -> list[ShardRecord]:
        splits = self.manifest.splits
        require_splits(self.source, splits, names)
        return [shard for name in names for shard in splits[name].shards]

    def verify(self, on_progress: OnProgress | None = None, only: Collection[str] | None = None) -> None:
        """Verify the checksum of every file. Raises UserError naming all that are missing, truncated or damaged.

        Args:
            only: names of the files to verify; default: all.
        """
        files = {name: record for name, record in self.manifest.files.items() if only is None or name in only}
        faults = []
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for done, fault in enumerate(pool.map(partial(find_fault, self.path), files.items()), 1):
                faults += [fault] if fault else []
                if on_progress:
                    on_progress(done, len(files))
        if faults:
            raise UserError(f"{self.path}: {'; '.join(faults)}", RESTORE)


class PackedSplit:
    """The images of one split, read at random from memory-mapped shards. Any number of threads may read."""

    def __init__(self, folder: Path, codec: Codec, side: int, shards: Sequence[ShardRecord], classes: int) -> None:
        self.folder, self.codec, self.side, self.shards, self.classes = folder, codec, side, shards, classes
        self._stored_N: NDArray[np.int64] | None = None
        """Positions of the images in the shards; None: the split has all of them."""

    def __len__(self) -> int:
        return sum(shard.images for shard in self.shards) if self._stored_N is None else len(self._stored_N)

    def subset(self, indices: NDArray[np.int64]) -> Self:
        """The images with these indices, which ascend, as a split of their own, numbered from 0."""
        chosen = copy.copy(self)
        for name in ("labels", "names", "content_hashes", "perceptual_hashes", "groups", "_extents"):
            chosen.__dict__.pop(name, None)  # cached values
        chosen._stored_N = self.stored(indices)
        return chosen

    def stored(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions in the shards of the images with these indices."""
        return indices if self._stored_N is None else self._stored_N[indices]

    def _chosen(self, values_N: NDArray[Scalar]) -> NDArray[Scalar]:
        """Of the values of all images in the shards, those of the split's images."""
        return values_N if self._stored_N is None else values_N[self._stored_N]

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """[N]. Raises UserError naming the file with a label that is not one of the classes."""
        labels_N = [np.empty(0, np.int64)]
        for shard in self.shards:
            labels_N.append(read_array(self.folder / shard.labels, (shard.images,), np.int64))
            if not ((labels_N[-1] >= 0) & (labels_N[-1] < self.classes)).all():
                raise UserError(f"{self.folder / shard.labels} has a label that is not in 0..{self.classes - 1}",
                                RESTORE)
        return self._chosen(np.concatenate(labels_N))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """[N], the name of each image in its source."""
        names = tuple(name for shard in self.shards for name in read_names(self.folder / shard.names, shard.images))
        return names if self._stored_N is None else tuple(names[place] for place in self._stored_N)

    @cached_property
    def content_hashes(self) -> NDArray[np.uint64]:
        """[N], `content.content_hash` of each image in its source: equal for equal files, whatever their names."""
        return self._hashes([shard.hashes for shard in self.shards])

    @cached_property
    def perceptual_hashes(self) -> NDArray[np.uint64]:
        """[N, 2], `perceptual_hash.perceptual_hash` of each stored image: nearly equal for images that look alike."""
        return self._hashes([shard.perceptual for shard in self.shards], 2)

    @cached_property
    def groups(self) -> NDArray[np.uint64] | None:
        """[N], equal for images that belong together (--group); None if that was not stated."""
        files = [shard.groups for shard in self.shards]
        return self._hashes(files) if any(files) else None

    def _hashes(self, files: Sequence[str | None], *shape: int) -> NDArray[np.uint64]:
        """[N, *shape], read from a file of each shard; a shard without one has no images."""
        return self._chosen(np.concatenate([np.empty((0, *shape), np.uint64), *(
            read_array(self.folder / file, (shard.images, *shape), np.uint64)
            for file, shard in zip(files, self.shards, strict=True) if file)]))

    def read(self, indices: NDArray[np.int64], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """The images with these indices, in this order: int64 [B] -> uint8 [B, side, side, 3], into `out` if given.

        Raises IndexError for an index that is not in 0..N-1, BadImage naming a JPEG that is damaged.
        """
        if out is None:
            out = np.empty((len(indices), self.side, self.side, 3), np.uint8)
        if self.codec == "raw" and native.level():
            native.gather(self._addresses(indices), out, self.side * self.side * 3)
            return out
        extents = self._prefetch(indices)
        if self.codec == "jpeg":
            images.decode_all(out, extents, lambda row: f"{self.folder}: number {indices[row]}")
            return out
        for row_HWC, (memory, begin, length) in zip(out, extents, strict=True):
            row_HWC[:] = np.frombuffer(memory, np.uint8, length, begin).reshape(row_HWC.shape)
        return out

    def read_one(self, index: int) -> NDArray[np.uint8]:
        """One image: uint8 [side, side, 3]."""
        return self.read(np.array([index], np.int64))[0]

    def mapped(self, indices: NDArray[np.int64]) -> MmapBatch:
        """As `read`, without a copy; codec raw only. The operating system begins to read the pages."""
        assert self.codec == "raw"
        addresses_B = self._addresses(indices)
        if native.level():
            native.gather(addresses_B, None, self.side * self.side * 3)
        else:
            self._prefetch(indices)
        return MmapBatch(addresses_B, indices, self)

    def sample(self, count: int) -> NDArray[np.int64]:
        """The indices of `count` images, evenly spaced; of all images if there are fewer."""
        return evenly_spaced(len(self), count)

    # --- An epoch, which remote.StreamedSplit reads in another order ---

    def lanes(self, world: int) -> int:
        """The order of an epoch is the same for all numbers of processes that have equal `lanes`."""
        return 1

    def epoch_order(self, batch_size: int, shuffle: tuple[int, int] | None, lanes: int) -> NDArray[np.int64]:
        """The order in which an epoch shows the images: int64 [N].

        Args:
            shuffle: (seed, epoch), or None for the order of the split.
            lanes: into which the epoch is cut.
        """
        return epoch_order(len(self), *shuffle) if shuffle else np.arange(len(self))

    @contextlib.contextmanager
    def epoch_reader(
        self, order_M: NDArray[np.int64], steps_M: NDArray[np.int64], ahead: int,
    ) -> Iterator[tuple[Self, Callable[[int], None]]]:
        """Open the split for one epoch.

        Args:
            order_M: the images that this process will read, in this order.
            steps_M: the step in which each is read.
            ahead: how many batches may be read before they are used.

        Yields:
            The split to read from, and a function to call with each step before its batch is used.
        """
        yield self, lambda step: None

    # --- Where the images are ---

    def _addresses(self, indices: NDArray[np.int64]) -> NDArray[np.uintp]:
        """The address of each image's first byte; codec raw only."""
        self._require_indices(indices)
        shards_B, begins_B, lengths_B = self._extents[indices].T
        for shard in np.unique(shards_B).tolist():
            last = int(np.where(shards_B == shard, begins_B, -1).argmax())
            self._require_bytes(self._memory_maps[shard], int(begins_B[last] + lengths_B[last]), shard)
        return self._base_addresses[shards_B] + begins_B.astype(np.uintp)

    def _prefetch(self, indices: NDArray[np.int64]) -> list[Extent]:
        """Locate each image, and ask the operating system to read its pages."""
        self._require_indices(indices)
        extents = self._locate(indices)
        shards_B = np.searchsorted(np.cumsum([shard.images for shard in self.shards]), self.stored(indices), "right")
        for (memory, begin, length), shard in zip(extents, shards_B.tolist(), strict=True):
            self._require_bytes(memory, begin + length, shard)
            if hasattr(mmap, "MADV_WILLNEED"):
                page = begin - begin % mmap.PAGESIZE
                memory.madvise(mmap.MADV_WILLNEED, page, begin + length - page)
        return extents

    def _require_indices(self, indices: NDArray[np.int64]) -> None:
        if len(indices) and not 0 <= min(indices) <= max(indices) < len(self):
            raise IndexError(f"images {min(indices)} to {max(indices)} exceed a split of {len(self)}")

    def _require_bytes(self, memory: mmap.mmap, end: int, shard: int) -> None:
        """Raise UserError if the shard's file has been truncated since it was opened."""
        if memory.size() < end:
            path = self.folder / self.shards[shard].file
            raise UserError(f"{path} {size_fault(path, max(end, len(memory)))}", RESTORE)

    def _locate(self, indices: NDArray[np.int64]) -> list[Extent]:
        return [(self._memory_maps[shard], begin, length) for shard, begin, length in self._extents[indices].tolist()]

    @cached_property
    def _base_addresses(self) -> NDArray[np.uintp]:
        """The address of each shard's first byte."""
        return np.array([np.frombuffer(memory, np.uint8).ctypes.data for memory in self._memory_maps], np.uintp)

    @cached_property
    def _memory_maps(self) -> list[mmap.mmap]:
        def open_map(name: str) -> mmap.mmap:
            with (self.folder / name).open("rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

        return [open_map(shard.file) for shard in self.shards]

    @cached_property
    def _extents(self) -> NDArray[np.int64]:
        """[N, 3]: the shard of each image, its first byte in the shard's file, its bytes."""
        extents_N3 = [np.empty((0, 3), np.int64)]
        for number, shard in enumerate(self.shards):
            extents_n2 = read_extents(self.folder, shard, self.side * self.side * 3)
            extents_N3.append(np.column_stack([np.full(shard.images, number), extents_n2]))
        return self._chosen(np.concatenate(extents_N3))
