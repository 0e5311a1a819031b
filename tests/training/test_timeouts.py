"""How long processes wait for each other, by what is waited for; and what each process's device is."""

from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from alexnet._runtime.transfer import BLOCK_SECONDS
from alexnet.data.shard_cache import STALL_SECONDS
from alexnet.training.parallel import process_group, rendezvous
from alexnet.training.parallel.process_group import ProcessGroup, init_distributed
from alexnet.training.parallel.timeouts import step_seconds
from alexnet.training.request import TrainRequest


def test_a_step_waits_by_device_and_data():
    assert step_seconds("gloo", is_streamed=False) == 20
    assert step_seconds("nccl", is_streamed=False) == 120
    for backend in ("gloo", "nccl"):
        # A shard and its index.
        assert step_seconds(backend, is_streamed=True) >= 2 * (STALL_SECONDS + 2 * BLOCK_SECONDS)
    assert step_seconds("gloo", is_streamed=True, asked=7) == 7


def test_less_than_two_minutes_between_gpus_is_refused():
    with pytest.raises(ValueError, match=r"--timeout 20 is too short between GPUs.*give 120 or more"):
        step_seconds("nccl", is_streamed=False, asked=20)
    assert step_seconds("nccl", is_streamed=False, asked=600) == 600


class Asked(Exception):
    """What `init_process_group` was called with."""


def fake_start(monkeypatch):
    """Set torchrun's variables of a process that meets no others."""
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "3"), ("MASTER_ADDR", "localhost"),
                        ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(dist, "rendezvous", lambda *_, **__: iter([(dist.HashStore(), 0, 1)]))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(process_group, "gpu_identity", str)


@pytest.mark.parametrize(("device", "timeout", "backend", "device_id", "seconds"), [
    ("cuda", None, "nccl", torch.device("cuda", 3), 120), ("cpu", None, "gloo", None, 600),
    ("cpu", 900, "gloo", None, 900)])
def test_nccl_connects_at_the_start_and_gloo_has_the_time_of_the_meeting_for_it(
        monkeypatch, device, timeout, backend, device_id, seconds):
    def init_process_group(*arguments, **options):
        raise Asked(*arguments, options)

    fake_start(monkeypatch)
    monkeypatch.setattr(dist, "init_process_group", init_process_group)
    with pytest.raises(Asked) as asked, init_distributed(device, timeout):
        pass
    name, options = asked.value.args
    assert (name, options.get("device_id"), options["timeout"]) == (backend, device_id, timedelta(seconds=seconds))


def test_once_connected_gloo_waits_as_long_as_a_step_may(monkeypatch):
    fake_start(monkeypatch)
    monkeypatch.setattr(dist, "rendezvous", lambda *_, **__: iter([(dist.HashStore(), 0, 1)]))
    with init_distributed("cpu", 7):
        gloo = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
        assert gloo.options._timeout == timedelta(seconds=7)


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
    with pytest.raises(ValueError, match=r"cuda:2 is not available: this host has 2 GPUs; start 2 processes"):
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
