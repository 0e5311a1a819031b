"""Load uint8 batches, read ahead by threads; rank r of W reads images r, r + W, ... of each global batch.

The order is arithmetic (order.py), so any number of workers or ranks sees the same global batches.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet._runtime.pixels import Pixels, TensorPixels
from alexnet.data.augmentation import ViewDraws
from alexnet.data.order import batch_bounds, batch_positions
from alexnet.data.packed import PackedSplit

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Batch:
    """A rank's share of one global batch."""

    pixels: Pixels
    """uint8 [N, side, side, 3]; on a CPU, images of raw shards stay in the memory map."""
    labels_N: Tensor
    """int64 [N]"""
    indices: NDArray[np.int64]
    """[N], of each image in its split."""
    global_indices: NDArray[np.int64]
    """The same of all images of the global batch."""
    positions: NDArray[np.int64]
    """[N], of each image in the global batch: indices = global_indices[positions]."""
    draws: ViewDraws | None = None
    """The random numbers of the images' training views, if the loader's threads were to draw them."""

    def parts(self, count: int) -> list[Batch]:
        """Cut the batch into micro-batches, as equal as possible."""
        if count == 1:
            return [self]
        images = len(self.indices)
        slices = [slice(part * images // count, (part + 1) * images // count) for part in range(count)]
        return [replace(self, pixels=self.pixels[part], labels_N=self.labels_N[part], indices=self.indices[part],
                        positions=self.positions[part], draws=self.draws and self.draws[part]) for part in slices]

    def group_leaders(self, group: int) -> NDArray[np.int64]:
        """For each image, the index of the first image of its group, if the global batch is cut into such groups."""
        return self.global_indices[self.positions // group * group]

    @property
    def pixels_NHWC(self) -> Tensor:
        """The images in a tensor."""
        return self.pixels.tensor()


def batches(
    split: PackedSplit, batch_size: int, *, shuffle: tuple[int, int] | None = None,
    lanes: int | None = None, start: int = 0, stop: int | None = None, rank: int = 0, world: int = 1,
    workers: int = 2, ahead: int = 4, device: torch.device = CPU, draw: Callable[[Batch], ViewDraws] | None = None,
) -> Generator[Batch]:
    """Yield this rank's share of the global batches of one epoch, in order.

    An epoch is cut into batches as equal as possible, none larger than `batch_size`. On CUDA the batches go through
    pinned memory, and each is copied while the one before it is used. For a streamed split, each process fetches only
    the shards that its own images are in, and none for batches before `start`.

    Args:
        shuffle: (seed, epoch), or None for the order of the split.
        lanes: of the order of a streamed split; default: those for `world` processes. With others each process may have
            to fetch more shards.
        start: the first batch, to resume in the middle of an epoch.
        stop: the batch after the last; default: the end of the epoch.
        workers: threads that read. The result does not depend on them.
        ahead: batches that are read before they are used.
        device: of the batches.
        draw: draws the random numbers of a batch's training views, in the threads that read.
    """
    order_N = split.epoch_order(batch_size, shuffle, lanes or (split.lanes(world) if shuffle else world))
    step_N, position_N = batch_positions(len(order_N), batch_size)
    bounds = batch_bounds(len(order_N), batch_size).tolist()
    stop = len(bounds) - 1 if stop is None else stop
    mine = np.flatnonzero((step_N >= start) & (step_N < stop) & (position_N % world == rank))
    with split.epoch_reader(order_N[mine], step_N[mine], ahead) as (reader, before_step):

        def read(step: int) -> Batch:
            loaded = _read_batch(reader, order_N[bounds[step] : bounds[step + 1]], rank, world, device)
            return replace(loaded, draws=draw(loaded)) if draw else loaded

        source = _read_ahead(read, range(start, stop), workers, ahead)
        for step, batch in enumerate(_copy_ahead(source, device) if device.type != "cpu" else source, start + 1):
            before_step(step)
            yield batch


def _read_batch(
    split: PackedSplit, global_indices: NDArray[np.int64], rank: int, world: int, device: torch.device,
) -> Batch:
    positions = np.arange(rank, len(global_indices), world)
    indices = global_indices[positions]
    labels_N = torch.from_numpy(split.labels[indices])
    if device.type == "cpu" and split.codec == "raw":
        return Batch(split.mapped(indices), labels_N, indices, global_indices, positions)
    if device.type != "cuda":
        return Batch(TensorPixels(torch.from_numpy(split.read(indices))), labels_N, indices, global_indices, positions)
    # torch gives freed pinned memory to a later batch, after the copies from it are done: a ring of buffers.
    pixels_NHWC = torch.empty((len(indices), split.side, split.side, 3), dtype=torch.uint8, pin_memory=True)
    split.read(indices, pixels_NHWC.numpy())
    return Batch(TensorPixels(pixels_NHWC), labels_N.pin_memory(), indices, global_indices, positions)


def _read_ahead(read: Callable[[int], Batch], steps: range, workers: int, ahead: int) -> Iterator[Batch]:
    """Yield read(step) of each step in order; threads read up to `ahead` batches before they are used."""
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
        # A consumer that stops early must not wait for batches that it will not use.
        pool.shutdown(wait=True, cancel_futures=True)


def _copy_ahead(source: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the batches on a device; the next one is being copied while a batch is used.

    On CUDA the copies have a stream of their own, so that they run beside the step and not in its queue.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def copied(batch: Batch) -> Batch:
        with torch.cuda.stream(stream) if stream else nullcontext():
            return replace(batch, pixels=TensorPixels(batch.pixels_NHWC.to(device, non_blocking=True)),
                           labels_N=batch.labels_N.to(device, non_blocking=True),
                           draws=batch.draws and batch.draws.to(device))

    waiting: deque[Batch] = deque()
    for batch in source:
        if stream and waiting:
            torch.cuda.current_stream(device).wait_stream(stream)  # for the batch that is yielded, not the next one
        waiting.append(copied(batch))
        if len(waiting) > 1:
            yield _record_stream(waiting.popleft(), stream)
    if stream:
        torch.cuda.current_stream(device).wait_stream(stream)
    while waiting:
        yield _record_stream(waiting.popleft(), stream)


def timed(source: Iterator[Batch]) -> Iterator[tuple[Batch, float, float]]:
    """Batches, each with the time at which the wait for it began and the seconds that it lasted."""
    began = time.perf_counter()
    for batch in source:
        yield batch, began, time.perf_counter() - began
        began = time.perf_counter()


def _record_stream(batch: Batch, stream: torch.cuda.Stream | None) -> Batch:
    """Keep the batch's memory from being reused by another copy before the step that uses it has run."""
    if stream:
        for tensor in (batch.pixels_NHWC, batch.labels_N):
            tensor.record_stream(torch.cuda.current_stream(tensor.device))
        if batch.draws:
            batch.draws.record_stream(torch.cuda.current_stream(batch.labels_N.device))
    return batch
