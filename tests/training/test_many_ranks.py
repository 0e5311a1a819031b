"""Evaluation by many ranks: any world size, also with fewer images than ranks, gives the bits of one process."""

import time

import numpy as np
import pytest
import torch
from torch import nn

from alexnet.architecture.recipe import Recipe
from alexnet.data.packed import PackedDataset
from alexnet.data.preprocessing import Preprocess
from alexnet.inference.evaluate import evaluate, rank_batches, sum_errors
from alexnet.inference.metrics import Errors
from alexnet.models.alexnet import AlexNet
from alexnet.reproduce.claim_networks import PAPER_SMALL
from alexnet.training import stop_signal
from alexnet.training.build import build
from alexnet.training.parallel.process_group import ProcessGroup
from alexnet.training.spec import RunSpec
from alexnet.training.stop_signal import SignalPoll


def model(packed, arch):
    return [(AlexNet(arch, 1), Preprocess.from_data(arch.input, packed.mean_HWC))]


@pytest.mark.parametrize("world", [1, 2, 3, 5, 44, 130])
def test_the_errors_of_any_number_of_ranks_are_those_of_one_process_to_the_last_bit(packed, tiny, world):
    models, split, batches = model(packed, tiny), packed.split("val"), []
    progress = [[] for _ in range(world)]

    def keep(errors):
        batches.append(errors)
        return sum_errors(errors)

    for rank in range(world):
        evaluate(models, split, batch_size=3, share=(rank, world), total=keep,
                 on_progress=lambda *done, rank=rank: progress[rank].append(done))
    assert {len(errors) for errors in batches} == {15}  # 44 images in batches of at most 3
    summed = [sum(of_one, Errors()) for of_one in zip(*batches, strict=True)]  # what an all-reduce gives
    assert sum_errors(summed) == evaluate(models, split, batch_size=3)
    assert progress == [progress[0]] * world, "each rank reports, and so polls for signals, equally often"
    assert progress[0][-1] == (44, 44)
    assert len(progress[0]) == -(-15 // world)


def test_each_batch_is_evaluated_by_one_rank():
    """Worked out by hand: 5 batches of 7, 7, 7, 7 and 6 images on two, three and eight ranks."""
    assert rank_batches(34, 7, 2).tolist() == [0, 2, 5]
    assert rank_batches(34, 7, 3).tolist() == [0, 1, 3, 5]
    assert rank_batches(34, 7, 8).tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 5]
    assert rank_batches(0, 7, 2).tolist() == [0, 0, 0]


def test_a_rank_has_batches_of_full_size():
    """Eight ranks that share 1,024 images evaluate one batch of 128 each, not eight of 16."""
    assert np.diff(rank_batches(1024, 128, 8)).tolist() == [1] * 8


def test_a_forward_pass_that_all_ranks_make_together_is_made_equally_often_by_each(packed, tiny):
    """Of 15 batches, two ranks have 7 and 8: the first one makes the last pass with no images."""
    sizes = []

    class Network(nn.Module):
        def forward(self, x):
            sizes[-1].append(len(x))
            return torch.zeros(len(x), 4)

    for rank in (0, 1):
        sizes.append([])
        evaluate([(Network(), Preprocess.from_data(tiny.input, packed.mean_HWC))], packed.split("val"), batch_size=3,
                 share=(rank, 2), collective=True)
    assert [len(of_rank) for of_rank in sizes] == [8, 8]
    assert [of_rank[-1] for of_rank in sizes] == [0, 3]


def test_networks_accept_no_images(packed):
    """A rank without images takes part in the forward passes of `--parallel hybrid`."""
    for arch in (PAPER_SMALL,):
        network = AlexNet(arch).eval()
        with torch.inference_mode():
            assert network(torch.zeros(0, 3, arch.input.crop, arch.input.crop)).shape == (0, arch.classes)


class ManyRanks(ProcessGroup):
    """Rank 0 of a group whose other processes do nothing that a build needs."""

    def __init__(self, size):
        super().__init__(0, size)

    def _exchange(self, post, decide):
        return decide([post["text"]] * self.size)

    def from_rank0(self, make):
        return make()

    def wait(self):
        pass


def test_only_training_batches_limit_the_number_of_ranks(packed, tiny, tmp_path, monkeypatch):
    """130 of 130 images each: more than a batch of validation has, which is 128, and three times those of validation.

    The 120 training images in the folder are not enough, so ten of them stand in it twice.
    """
    monkeypatch.setattr("alexnet.training.parallel.data_parallel.sum_gradients", lambda network, processes: network)
    split = PackedDataset.split
    monkeypatch.setattr(PackedDataset, "split", lambda data, name: split(data, name).subset(
        np.arange(130) % 120 if name == "train" else np.arange(44)))
    recipe = Recipe("r", epochs=1, batch_size=150, learning_rate=0.01)
    trainer = build(RunSpec(packed, tiny, recipe, tmp_path / "run"), ManyRanks(130))
    assert (len(trainer.training), len(trainer.validation)) == (130, 44)
    assert trainer.strategy.batch_part == (0, 130)
    with pytest.raises(ValueError, match="batches of 130 images cannot be shared by 131 processes"):
        build(RunSpec(packed, tiny, recipe, tmp_path / "run"), ManyRanks(131))


class Polled(ProcessGroup):
    """Counts polls; the other process of the group is as fast as `others` batches a second."""

    def __init__(self, others):
        super().__init__(0, 2)
        self.others, self.polls = others, 0

    def largest(self, *numbers):
        self.polls += 1
        stop, own = numbers
        return [stop, max(own, -self.others)]


def test_signals_are_polled_every_two_seconds_and_as_often_as_the_slowest_process_needs(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert stop_signal.POLL_SECONDS == 2
    for others, most in ((10**6, 15), (10, 110)):
        group = Polled(others)
        poll = SignalPoll(group)
        for _ in range(1000):  # of 10 milliseconds
            now[0] += 0.01
            assert poll.stop_requested(0) == 0
        assert 5 <= group.polls <= most
    stopped = [poll.stop_requested(15) for _ in range(20)]
    assert stopped.count(15) == 2
    assert SignalPoll(ProcessGroup()).stop_requested(15) == 15
