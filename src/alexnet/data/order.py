"""Which images, in which order: the permutation of an epoch, its batches, evenly spaced samples. Pure arithmetic.

The order of an epoch is a function of (seed, epoch), never replayed: a run resumes in the middle of an epoch at no
cost, and any number of workers or ranks sees the same global batches.

Shapes: N images of a split.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def epoch_order(images: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The permutation of all images in this epoch: int64 [N]."""
    return _generator(seed, epoch).permutation(images)


def lane_order(
    shard_images: NDArray[np.int64], batch_size: int, shuffle: tuple[int, int] | None, lanes: int,
) -> NDArray[np.int64]:
    """The order of an epoch that is read shard by shard: int64 [N].

    The shards are shuffled, and the images within each. This sequence is cut into lanes; the image at position p of a
    batch is the next one of lane p % lanes. Images are thus mixed as by a shuffle buffer of `lanes` shards, and a
    process that reads some of the lanes needs only the shards in them.

    Args:
        shard_images: the number of images in each shard.
        shuffle: (seed, epoch), or None for the order of the split.
    """
    total, firsts = int(shard_images.sum()), shard_images.cumsum() - shard_images
    sequence = np.arange(total)
    if shuffle:
        generator = _generator(*shuffle)
        sequence = np.concatenate([sequence[:0], *(
            firsts[shard] + generator.permutation(shard_images[shard])
            for shard in generator.permutation(len(shard_images)))])
    order_N = np.empty_like(sequence)
    _, positions_N = batch_positions(total, batch_size)
    order_N[np.argsort(positions_N % lanes, kind="stable")] = sequence
    return order_N


def _generator(seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, epoch]))


def batches_per_epoch(images: int, batch_size: int) -> int:
    """Steps that show each image once. No batch is dropped, and none is larger than `batch_size`."""
    return -(-images // batch_size)


def smallest_batch(images: int, batch_size: int) -> int:
    """The number of images in the smallest batch of an epoch; the others have at most one more (`batch_bounds`)."""
    return images // batches_per_epoch(images, batch_size)


def batch_bounds(images: int, batch_size: int) -> NDArray[np.int64]:
    """Where each batch of an epoch begins, and where the last one ends: int64 [steps + 1].

    The batches are as equal as possible, so that none is a remnant of one or two images: 1,000 images in batches of
    at most 128 are eight of 125.
    """
    steps = batches_per_epoch(images, batch_size)
    return np.arange(steps + 1) * images // max(steps, 1)


def batch_positions(images: int, batch_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each image of an epoch, in its order: its batch, and its position in this batch. Two of int64 [N]."""
    bounds = batch_bounds(images, batch_size)
    step_N = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    return step_N, np.arange(images) - bounds[step_N]


def evenly_spaced(total: int, count: int) -> NDArray[np.int64]:
    """`count` indices from 0 to total - 1, evenly spaced, both ends included; all of them if there are fewer."""
    return np.unique(np.linspace(0, total - 1, min(total, count)).astype(np.int64))
