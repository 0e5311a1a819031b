"""Batches: each image once an epoch, from any start, with any workers and any number of processes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from alexnet.data.loader import _copy_ahead, batches
from alexnet.data.packed import PackedSplit


def indices(packed, **settings):
    return [batch.indices for batch in batches(packed.split("train"), 32, **settings)]


def test_every_image_is_read_once_an_epoch(packed):
    epoch = np.concatenate(indices(packed, shuffle=(0, 0)))
    assert sorted(epoch) == list(range(120))
    assert not np.array_equal(epoch, np.arange(120))


def test_an_epoch_started_in_the_middle_gives_the_same_batches(packed):
    whole = indices(packed, shuffle=(7, 3))
    rest = indices(packed, shuffle=(7, 3), start=2)
    assert len(whole) == 4
    assert len(rest) == 2
    for a, b in zip(whole[2:], rest, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_workers_do_not_change_what_comes_out(packed, workers):
    reference = list(batches(packed.split("train"), 32, shuffle=(1, 1), workers=0))
    for a, b in zip(reference, batches(packed.split("train"), 32, shuffle=(1, 1), workers=workers), strict=True):
        assert torch.equal(a.pixels_NHWC, b.pixels_NHWC)
        assert torch.equal(a.labels_N, b.labels_N)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_ranks_share_the_same_global_batches(packed, world):
    whole = indices(packed, shuffle=(1, 0))
    shares = [indices(packed, shuffle=(1, 0), rank=rank, world=world) for rank in range(world)]
    for step, batch in enumerate(whole):
        together = np.concatenate([share[step] for share in shares])
        assert sorted(together) == sorted(batch)


def test_labels_and_pixels_belong_together(packed):
    split = packed.split("val")
    for batch in batches(split, 16):
        np.testing.assert_array_equal(batch.labels_N.numpy(), split.labels[batch.indices])
        np.testing.assert_array_equal(batch.pixels_NHWC.numpy(), split.read(batch.indices))


def test_closing_the_loader_early_does_not_block(packed):
    source = batches(packed.split("train"), 8, shuffle=(0, 0), workers=2)
    next(source)
    source.close()  # must not block, and must end the threads


def test_an_error_of_a_reading_thread_is_raised_in_the_consumer(packed):
    class Broken(PackedSplit):
        def read(self, indices):
            raise OSError("the disk is gone")

    split = packed.split("train")
    broken = Broken(split.folder, "jpeg", split.side, split.shards, split.classes)
    with pytest.raises(OSError, match="the disk is gone"):
        list(batches(broken, 32))


LIMITED = """
import resource, sys
import numpy as np, torch
from pathlib import Path
from alexnet.data.preprocessing import Preprocess
from alexnet.architecture.recipe_presets import recipe
from alexnet.architecture.spec import InputSpec
from alexnet.data.loader import batches
from alexnet.data.manifest import ShardRecord
from alexnet.data.packed import PackedSplit

folder, images, side, allowed = Path(sys.argv[1]), 40_000, 256, 600_000_000
now = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (now + allowed, now + allowed))
try:
    np.empty(images * side * side * 3, np.uint8)
    sys.exit("the memory limit has no effect")
except MemoryError:
    pass
split = PackedSplit(folder, "raw", side, [ShardRecord("train-00000.npy", "labels.npy", "", "", "", images)], 1)
preprocess = Preprocess(InputSpec(256, 224), torch.zeros(1, 1, 3))
seen = []
for number, batch in enumerate(batches(split, 64, shuffle=(0, 0))):
    views = preprocess.training_views(batch.pixels, batch.indices, recipe("paper"), 0, 0)
    seen.extend(batch.indices)
    if number == 40:
        break
print(len(set(seen)), max(seen) - min(seen) > 0.9 * images, tuple(views.shape))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and measured as on Linux")
def test_a_set_larger_than_memory_is_read_in_random_order(tmp_path):
    """7.9 GB of images (a sparse file) with 0.6 GB of memory; the order spans the whole set."""
    with (tmp_path / "train-00000.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {
            "descr": "|u1", "fortran_order": False, "shape": (40_000, 256, 256, 3)})
        file.truncate(file.tell() + 40_000 * 256 * 256 * 3)
    np.save(tmp_path / "labels.npy", np.zeros(40_000, np.int64))
    said = subprocess.run([sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert said.returncode == 0, said.stderr
    assert said.stdout.split(maxsplit=1) == [str(41 * 64), "True (64, 3, 224, 224)\n"]


def test_copying_ahead_keeps_all_batches_and_their_order(packed):
    """The double buffering for CUDA, tested with the CPU as the device."""
    split = packed.split("train")
    plain = list(batches(split, 32, shuffle=(0, 0)))
    copied = list(_copy_ahead(batches(split, 32, shuffle=(0, 0)), torch.device("cpu")))
    assert len(plain) == len(copied)
    for a, b in zip(plain, copied, strict=True):
        assert torch.equal(a.pixels_NHWC, b.pixels_NHWC)
        assert torch.equal(a.labels_N, b.labels_N)
        assert (a.indices == b.indices).all()
    assert list(_copy_ahead(iter(()), torch.device("cpu"))) == []
