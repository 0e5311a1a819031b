"""How long processes wait for each other, by what is waited for; and what each process's device is."""

import pytest
import torch

from alexnet._runtime.download import ATTEMPTS, TIMEOUT_SECONDS
from alexnet.training.parallel import rendezvous
from alexnet.training.parallel.process_group import ProcessGroup
from alexnet.training.parallel.timeouts import step_seconds
from alexnet.training.request import TrainRequest


def test_a_step_waits_by_device_and_data():
    assert step_seconds("gloo", is_streamed=False) == 20
    assert step_seconds("nccl", is_streamed=False) == 120
    for backend in ("gloo", "nccl"):
        assert step_seconds(backend, is_streamed=True) >= 2 * (ATTEMPTS * TIMEOUT_SECONDS + 3)  # a shard and its index
    assert step_seconds("gloo", is_streamed=True, asked=7) == 7


def test_less_than_two_minutes_between_gpus_is_refused():
    with pytest.raises(ValueError, match=r"--timeout 20 is too short between GPUs.*give 120 or more"):
        step_seconds("nccl", is_streamed=False, asked=20)
    assert step_seconds("nccl", is_streamed=False, asked=600) == 600


@pytest.mark.parametrize(("data", "is_streamed"), [("https://host/packed", True), ("s3://bucket/packed", True),
                                                   ("folder", False)])
def test_a_url_is_streamed(tmp_path, data, is_streamed):
    assert TrainRequest(data=data, out=tmp_path, options={}).is_streamed == is_streamed


@pytest.mark.parametrize(("visible", "local_rank", "index"), [(8, 0, 0), (8, 5, 5), (1, 0, 0), (1, 5, 0)])
def test_each_process_has_the_gpu_of_its_number_or_the_only_one_it_sees(monkeypatch, visible, local_rank, index):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    assert rendezvous.own_device(torch.device("cuda"), local_rank) == torch.device("cuda", index)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"cuda:2 is absent: this host has 2 GPUs; start 2 processes"):
        rendezvous.own_device(torch.device("cuda"), 2)


class Fourth(ProcessGroup):
    """A group of which this process knows the others' texts."""

    def __init__(self, others):
        super().__init__(0, len(others) + 1)
        self.others = others

    def _exchange(self, post, decide):
        return decide([post["text"], *self.others])


def test_two_processes_on_one_gpu_are_refused():
    Fourth(["b of host", "a of other", "b of other"]).require_own_gpus("a of host")
    with pytest.raises(ValueError, match="processes 1 and 3 have the same GPU, b of host; start one process for each"):
        Fourth(["b of host", "a of other", "b of host"]).require_own_gpus("a of host")
