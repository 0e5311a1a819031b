"""(split, seed, epoch, rank, world, start) -> uint8 batches, read ahead by threads.

Order is arithmetic, never replayed: which photographs stand in batch b is a function of seed, epoch and b, so a run
resumes in the middle of an epoch at no cost, and any number of workers or ranks sees the same global batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.shards import Split


@dataclass(frozen=True)
class Batch:
    """A rank's share of one global batch."""

    pixels_NHWC: Tensor
    """uint8 [N, side, side, 3]"""
    labels_N: Tensor
    """int64 [N]"""
    indices: NDArray[np.int64]
    """Each photograph's place in its split."""


def batches_per_epoch(photographs: int, batch_size: int) -> int:
    """Steps that show each photograph once. No batch is dropped, and none is larger than `batch_size`."""
    return -(-photographs // batch_size)


def order(photographs: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The epoch's permutation of all photographs."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(photographs)


def batches(
    split: Split, batch_size: int, *, shuffle: tuple[int, int] | None = None, start: int = 0,
    rank: int = 0, world: int = 1, workers: int = 2, ahead: int = 4,
) -> Iterator[Batch]:
    """This rank's share of the global batches of one epoch, from batch `start` on, in order.

    shuffle: (seed, epoch), or None for the order of the split. An epoch is cut into batches as equal as can be, so
    that none is a remnant of one or two photographs: 1,000 in batches of 128 are eight of 125.
    workers: threads that read; ahead: batches that are held ready. Neither changes what comes out.
    """
    total = len(split)
    steps = batches_per_epoch(total, batch_size)
    everyone = order(total, *shuffle) if shuffle else np.arange(total)

    def read(step: int) -> Batch:
        share = everyone[step * total // steps : (step + 1) * total // steps][rank::world]
        return Batch(torch.from_numpy(split.read(share)), torch.from_numpy(split.labels[share]), share)

    if workers == 0:
        yield from map(read, range(start, steps))
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="loader")
    waiting: deque[Future[Batch]] = deque()
    try:
        for step in range(start, steps):
            waiting.append(pool.submit(read, step))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # A consumer that stops early must not wait for photographs that nobody will see.
        pool.shutdown(wait=True, cancel_futures=True)
