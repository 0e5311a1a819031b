"""Batches out of memory maps: one call without the GIL, the bytes that NumPy reads, and no buffer reused too early."""

from __future__ import annotations

import threading
import time
import weakref

import numpy as np
import pytest
import torch

from alexnet._runtime import native
from alexnet.data import loader
from alexnet.data.dataset import ArrayImage, Dataset
from alexnet.data.packing import pack

SIDE = 40


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """61 random images in shards of 10, raw and jpeg."""
    pixels = np.random.default_rng(0).integers(0, 256, (61, SIDE, SIDE, 3), np.uint8)
    images = [ArrayImage(f"{number}", number % 2, image) for number, image in enumerate(pixels)]
    folder = tmp_path_factory.mktemp("noise")
    return {codec: pack(Dataset("noise", ("a", "b"), {"train": images, "val": images[:4]}, "random numbers"),
                        folder / codec, side=SIDE, codec=codec, shard_images=10) for codec in ("raw", "jpeg")}


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
@pytest.mark.parametrize("order", [[], [7], [60, 0, 60, 33, 10, 9]])
def test_the_kernel_reads_what_numpy_reads(noise, monkeypatch, codec, order):
    split, indices = noise[codec].split("train"), np.array(order, np.int64)
    subset = split.subset(np.array([3, 20, 21, 59]))
    found = split.read(indices), subset.read(np.array([2, 0]))
    into = np.full((len(indices), SIDE, SIDE, 3), 7, np.uint8)
    assert split.read(indices, into) is into
    monkeypatch.setenv("ALEXNET_NATIVE", "0")
    np.testing.assert_array_equal(found[0], split.read(indices))
    np.testing.assert_array_equal(into, found[0])
    np.testing.assert_array_equal(found[1], split.read(np.array([21, 3])))
    if codec == "raw":
        shards = {number: np.load(noise[codec].path / f"train-{number:05}.npy") for number in range(7)}
        for row, index in zip(found[0], order, strict=True):
            np.testing.assert_array_equal(row, shards[index // 10][index % 10])


@pytest.mark.skipif(not native.level(), reason="no compiled kernels")
def test_a_batch_that_does_not_fit_is_refused_before_the_kernel_writes(noise):
    split = noise["raw"].split("train")
    with pytest.raises(AssertionError):
        split.read(np.arange(4), np.empty((3, SIDE, SIDE, 3), np.uint8))
    with pytest.raises(IndexError, match="images 60 to 61 exceed a split of 61"):
        split.read(np.array([60, 61]))
    with pytest.raises(IndexError, match="images 61 to 61 exceed a split of 61"):
        split.mapped(np.array([61]))


@pytest.mark.skipif(not native.level(), reason="no compiled kernels")
def test_other_threads_run_while_a_batch_is_copied():
    """One call copies 600 MB; with the GIL no other thread would count meanwhile."""
    source, counts, done = np.zeros(2_000_000, np.uint8), [], threading.Event()
    addresses, out = np.full(300, source.ctypes.data, np.uintp), np.zeros(600_000_000, np.uint8)

    def count():
        while not done.is_set():
            counts.append(time.perf_counter())

    counter = threading.Thread(target=count)
    counter.start()
    began = time.perf_counter()
    native.gather(addresses, out, source.nbytes)
    ended = time.perf_counter()
    done.set()
    counter.join()
    within = [moment for moment in counts if began < moment < ended]
    gaps = np.diff([began, *within, ended])
    assert gaps.max() < 0.9 * (ended - began)


class Pool:
    """Pinned memory as torch hands it out: a buffer that nothing refers to any more goes to the next batch at once."""

    def __init__(self):
        self.free, self.made = [], 0
        self.real_empty = torch.empty

    def empty(self, shape, *, dtype, pin_memory):
        assert pin_memory
        size = int(np.prod(shape))
        if self.free:
            memory = self.free.pop()
        else:
            memory, self.made = np.empty(16 * SIDE * SIDE * 3, np.uint8), self.made + 1
        owner = memory[:size].reshape(shape)  # a view of its own, which lives as long as its tensor
        weakref.finalize(owner, self.free.append, memory)
        return torch.from_numpy(owner)


def test_a_slow_consumer_finds_every_batch_as_it_was_read(noise, monkeypatch):
    """Three threads read ahead into pinned buffers, which are reused, while the consumer keeps its last two batches."""
    pool, split = Pool(), noise["raw"].split("train")
    monkeypatch.setattr(loader.torch, "empty", pool.empty)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor.clone())
    order = np.random.default_rng(1).integers(0, len(split), (40, 16))

    def read(step):
        return loader._read_batch(split, order[step], 0, 1, torch.device("cuda"))

    kept = []
    for step, batch in enumerate(loader._read_ahead(read, range(40), workers=3, ahead=4)):
        kept = [*kept[-1:], (step, batch)]
        time.sleep(0.002)  # the threads have filled all buffers that they may
        for number, held in kept:
            np.testing.assert_array_equal(held.pixels_NHWC.numpy(), split.read(order[number]))
            assert held.labels_N.tolist() == split.labels[order[number]].tolist()
    assert pool.made < 20, "buffers are reused, so that the test can fail"
