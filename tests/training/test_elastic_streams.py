"""A streamed run that resumes within an epoch with another number of processes keeps the epoch's order."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_parallel import NETWORKS, RECIPE, assert_close, job, launch

from alexnet.data.loader import batches
from alexnet.data.packing import pack
from alexnet.data.remote import LANES, open_stream
from alexnet.data.sources.detect import open_dataset
from alexnet.models import checkpoint
from alexnet.training.build import build
from alexnet.training.parallel.strategy import Strategy
from alexnet.training.spec import RunSpec
from alexnet.training.state import Interrupted
from worlds import precise_batch_norm

STREAMED = replace(RECIPE, epochs=2, batch_size=20)
"""Six steps an epoch of 120 images."""


@pytest.fixture(scope="module")
def stream(class_folders, tmp_path_factory):
    """120 training images in 18 shards, so that 8 lanes and 24 give orders that differ."""
    folder = tmp_path_factory.mktemp("bucket") / "data"
    pack(open_dataset(class_folders), folder, side=32, codec="jpeg", shard_images=7)
    return open_stream(folder)


def stopped(stream, out, step):
    """A run of one process that a signal stops after a step."""
    run = build(RunSpec(stream, NETWORKS["norm"], STREAMED, out, seed=3), on_event=lambda event: (
        event["event"] == "step" and event["step"] == step and setattr(run.signals, "pending", 15)))
    with pytest.raises(Interrupted):
        run.fit()
    return checkpoint.load(out / "last").training


def indices(source):
    return [batch.global_indices.tolist() for batch in source]


def test_processes_of_any_number_divide_the_batches_of_another_numbers_order(stream):
    split = stream.split("train")
    of_three = list(batches(split, 20, shuffle=(3, 1), world=3))
    assert indices(of_three) != indices(batches(split, 20, shuffle=(3, 1), world=2))
    seen = Counter()
    for rank in range(2):
        rest = list(batches(split, 20, shuffle=(3, 1), rank=rank, world=2, lanes=split.lanes(3), start=2))
        assert indices(rest) == indices(of_three[2:])
        for batch in rest:
            np.testing.assert_array_equal(batch.indices, batch.global_indices[rank::2])
            seen.update(batch.indices.tolist())
            assert torch.equal(batch.pixels_NHWC, torch.from_numpy(split.read(batch.indices)))
    assert seen == Counter(index for batch in of_three[2:] for index in batch.global_indices.tolist())


def test_the_order_stays_to_the_epochs_end_and_changes_then(stream, tmp_path, monkeypatch, one_thread):
    """Stopped by one process after two of six steps, resumed by the second of three."""
    assert stopped(stream, tmp_path / "run", 2)["lanes"] == LANES
    split = stream.split("train")
    before, after = (indices(batches(split, 20, shuffle=(3, epoch), world=1 + 2 * epoch)) for epoch in range(2))
    run = build(RunSpec(stream, NETWORKS["norm"], STREAMED, tmp_path / "run", seed=3, resume=True))
    monkeypatch.setattr(Strategy, "batch_part", (1, 3))
    rest = list(run.epoch_batches())
    assert indices(rest) == before[2:]
    assert [batch.indices.tolist() for batch in rest] == [of_step[1::3] for of_step in before[2:]]
    run.state.step, run.state.epoch = 6, 1
    assert indices(run.epoch_batches()) == after
    assert run.state.lanes == 3 * LANES


def test_a_checkpoint_within_an_epoch_that_does_not_know_the_order_is_refused(stream, packed, tmp_path, one_thread):
    stopped(stream, tmp_path / "run", 2)
    saved = checkpoint.load(tmp_path / "run" / "last", with_velocity=True)
    checkpoint.save(replace(saved, training={**saved.training, "lanes": 0}), tmp_path / "run" / "last")
    with pytest.raises(ValueError, match="within an epoch of a stream, and its checkpoint does not have the epoch's o"):
        build(RunSpec(stream, NETWORKS["norm"], STREAMED, tmp_path / "run", seed=3, resume=True))


@pytest.mark.slow
def test_a_run_that_three_processes_resume_within_an_epoch_ends_as_that_of_one(stream, one_thread, tmp_path):
    recipe = replace(STREAMED, epochs=1)
    with precise_batch_norm():
        build(RunSpec(stream, NETWORKS["norm"], recipe, tmp_path / "whole", seed=3)).fit()
        run = build(RunSpec(stream, NETWORKS["norm"], recipe, tmp_path / "run", seed=3), on_event=lambda event: (
            event["event"] == "step" and event["step"] == 3 and setattr(run.signals, "pending", 15)))
        with pytest.raises(Interrupted):
            run.fit()
        launch("train", tmp_path, [job(stream, "run", "norm", recipe=recipe, resume=True, streamed=True)], 3)
    whole, resumed = (checkpoint.load(tmp_path / out / "last", with_velocity=True) for out in ("whole", "run"))
    assert_close(resumed, whole, 1e-4)
    assert resumed.training["lanes"] == LANES
    assert resumed.errors["loss"] == pytest.approx(whole.errors["loss"], rel=1e-5)
