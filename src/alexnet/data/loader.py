"""(split, seed, epoch, rank, world, start) -> uint8 batches on a device, read ahead by threads.

Order is arithmetic, never replayed: which images stand in batch b is a function of seed, epoch and b, so a run
resumes in the middle of an epoch at no cost, and any number of workers or ranks sees the same global batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet._runtime.mmap_batch import MmapBatch
from alexnet.data.packed import PackedSplit

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Batch:
    """A rank's share of one global batch."""

    pixels: Tensor | MmapBatch
    """uint8 [N, side, side, 3]; on a CPU, images of raw shards stay where the memory map has them."""
    labels_N: Tensor
    """int64 [N]"""
    indices: NDArray[np.int64]
    """Each image's place in its split."""
    global_indices: NDArray[np.int64]
    """The same of all images of the global batch."""
    places: NDArray[np.int64]
    """Where in the global batch each of these stands: indices = everyone[places]."""

    def parts(self, pieces: int) -> list[Batch]:
        """The same in that many parts, as equal as can be."""
        if pieces == 1:
            return [self]
        count = len(self.indices)
        return [replace(self, pixels=self.pixels[cut], labels_N=self.labels_N[cut], indices=self.indices[cut],
                        places=self.places[cut])
                for cut in (slice(piece * count // pieces, (piece + 1) * count // pieces) for piece in range(pieces))]

    def group_leaders(self, group: int) -> NDArray[np.int64]:
        """The first image of each one's group, where the global batch is cut into groups of that many."""
        return self.global_indices[self.places // group * group]

    @property
    def pixels_NHWC(self) -> Tensor:
        """The images in a tensor."""
        return torch.from_numpy(self.pixels.read()) if isinstance(self.pixels, MmapBatch) else self.pixels


def batches_per_epoch(images: int, batch_size: int) -> int:
    """Steps that show each image once. No batch is dropped, and none is larger than `batch_size`."""
    return -(-images // batch_size)


def order(images: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The epoch's permutation of all images."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(images)


def batches(
    split: PackedSplit, batch_size: int, *, shuffle: tuple[int, int] | None = None, start: int = 0,
    rank: int = 0, world: int = 1, workers: int = 2, ahead: int = 4, device: torch.device = CPU,
) -> Generator[Batch]:
    """This rank's share of the global batches of one epoch, from batch `start` on, in order.

    shuffle: (seed, epoch), or None for the order of the split. An epoch is cut into batches as equal as can be, so
    that none is a remnant of one or two images: 1,000 in batches of 128 are eight of 125.
    workers: threads that read; ahead: batches that are held ready. Neither changes what comes out.
    device: where the batches will be. On CUDA they go through pinned memory, each copied while the one before is used.
    """
    global_indices = order(len(split), *shuffle) if shuffle else np.arange(len(split))
    return in_order(split, global_indices, batch_size, start, rank, world, workers, ahead, device)


def in_order(
    split: PackedSplit, global_indices: NDArray[np.int64], batch_size: int, start: int, rank: int, world: int, workers: int,
    ahead: int, device: torch.device,
) -> Generator[Batch]:
    """The same of images in a given order: int64 [N]."""
    total = len(global_indices)
    steps = batches_per_epoch(total, batch_size)

    def read(step: int) -> Batch:
        whole = global_indices[step * total // steps : (step + 1) * total // steps]
        places = np.arange(rank, len(whole), world)
        share = whole[places]
        labels_N = torch.from_numpy(split.labels[share])
        if device.type == "cpu" and split.codec == "raw":
            return Batch(split.mapped(share), labels_N, share, whole, places)
        pixels_NHWC = torch.from_numpy(split.read(share))
        if device.type == "cuda":
            pixels_NHWC, labels_N = pixels_NHWC.pin_memory(), labels_N.pin_memory()
        return Batch(pixels_NHWC, labels_N, share, whole, places)

    source = _read_ahead(read, range(start, steps), workers, ahead)
    yield from _copied_ahead(source, device) if device.type != "cpu" else source


def _read_ahead(read: Callable[[int], Batch], steps: range, workers: int, ahead: int) -> Iterator[Batch]:
    """read(step) of each step in order, by threads that are `ahead` batches in front."""
    if workers == 0:
        yield from map(read, steps)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="loader")
    waiting: deque[Future[Batch]] = deque()
    try:
        for step in steps:
            waiting.append(pool.submit(read, step))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # A consumer that stops early must not wait for images that nobody will see.
        pool.shutdown(wait=True, cancel_futures=True)


def _copied_ahead(source: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on a device: the copy of the next is under way when one is handed out.

    On CUDA the copies have a stream of their own, so that they run beside the step and not in its queue.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def copied(batch: Batch) -> Batch:
        with torch.cuda.stream(stream) if stream else nullcontext():
            return replace(batch, pixels=batch.pixels_NHWC.to(device, non_blocking=True),
                           labels_N=batch.labels_N.to(device, non_blocking=True))

    waiting: deque[Batch] = deque()
    for batch in source:
        if stream and waiting:
            torch.cuda.current_stream(device).wait_stream(stream)  # for the batch that is handed out, not the next
        waiting.append(copied(batch))
        if len(waiting) > 1:
            yield _handed_out(waiting.popleft(), stream)
    if stream:
        torch.cuda.current_stream(device).wait_stream(stream)
    while waiting:
        yield _handed_out(waiting.popleft(), stream)


def _handed_out(batch: Batch, stream: torch.cuda.Stream | None) -> Batch:
    """Its memory must not be given to another copy before the step that uses it has run."""
    if stream:
        for tensor in (batch.pixels_NHWC, batch.labels_N):
            tensor.record_stream(torch.cuda.current_stream(tensor.device))
    return batch
