"""What differs between GPUs: NCCL's gather and sum, and torch's SyncBatchNorm; by fake CUDA tensors, and by gloo."""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from test_parallel import launch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore

from alexnet.architecture.overrides import override
from alexnet.models.alexnet import AlexNet
from alexnet.models.reestimate_batch_norm import reestimate_batch_norm
from alexnet.reproduce.claim_networks import PAPER_SMALL
from alexnet.training.parallel.collectives import Gather, TakeOwnRows, gather_rows
from alexnet.training.parallel.layers import BatchSlice, CudaGlobalBatchNorm, GlobalBatchNorm, global_batch_norm
from alexnet.training.parallel.process_group import ProcessGroup
from alexnet.training.parallel.split_network import replace_layer

CUDA = torch.device("cuda", 0)
SIZE, RANK = 3, 1


def test_nccls_operations_give_what_all_to_all_gives(tmp_path):
    """Run by gloo on three processes, which has them too: blocks of one length, of several, and an empty one."""
    launch("collect", tmp_path, [{"lengths": lengths} for lengths in ([4, 4, 4], [5, 4, 4], [3, 3, 0])], SIZE)
    for rank in range(SIZE):
        assert json.loads((tmp_path / f"equal-{rank}.json").read_text()) == [[True, True]] * 3


@pytest.fixture
def fake_cuda(monkeypatch):
    """A process between two others, whose collective operations send nothing; tensors have a device and no values."""
    class Event:
        def __init__(self, enable_timing):
            pass

        def record(self):
            pass

    monkeypatch.setattr(torch.cuda, "Event", Event)
    dist.init_process_group("fake", store=FakeStore(), rank=RANK, world_size=SIZE)
    group = ProcessGroup(RANK, SIZE, CUDA)
    try:
        with FakeTensorMode(), torch.no_grad(), group.clock.running():
            yield group
    finally:
        dist.destroy_process_group()


def called(monkeypatch):
    """The names of torch.distributed's operations, in order of their calls."""
    names = []

    def spy(name):
        original = getattr(dist, name)
        monkeypatch.setattr(dist, name, lambda *arguments, **options: names.append(name) or original(
            *arguments, **options))

    for name in ("all_gather_single", "all_gather_into_tensor", "reduce_scatter_single", "reduce_scatter_tensor",
                 "all_to_all_single", "all_reduce"):
        if hasattr(dist, name):
            spy(name)
    return names


def kinds(names):
    """The operation whatever its name in this version of torch."""
    return [name.removesuffix("_single").removesuffix("_into_tensor").removesuffix("_tensor") for name in names]


@pytest.mark.parametrize(("lengths", "block"), [([4, 4, 4], 4), ([5, 4, 2], 5)])
def test_gpus_gather_and_sum_by_nccls_own_operations(fake_cuda, monkeypatch, lengths, block):
    """Each sends its block to two others, filled up to the longest one; 8 floats a row."""
    names, context = called(monkeypatch), SimpleNamespace()
    whole = Gather.forward(context, torch.empty(lengths[RANK], 8, device=CUDA), fake_cuda, 0, lengths, False)
    assert (whole.shape, whole.device) == ((sum(lengths), 8), CUDA)
    assert kinds(names) == ["all_gather"]
    assert fake_cuda.sent == {"activations": 2 * block * 8 * 4}

    names.clear()
    gradient, *_ = Gather.backward(context, whole)
    assert gradient.shape == (lengths[RANK], 8)
    assert kinds(names) == ["reduce_scatter"]
    assert fake_cuda.sent == {"activations": 2 * (2 * block * 8 * 4)}

    names.clear()
    own = TakeOwnRows.forward(context, whole, fake_cuda, lengths)
    assert TakeOwnRows.backward(context, own)[0].shape == whole.shape
    assert gather_rows(own, fake_cuda, lengths).shape == whole.shape
    assert kinds(names) == ["all_gather"] * 2


def test_batch_normalization_on_gpus_is_torchs_and_counts_what_it_sends(monkeypatch):
    """Forward 6 + 6 + 1 floats to each of two others; backward a ring of three with 6 + 6 floats: 4/3 of them.

    torch's forward is replaced: its kernels exist for CUDA only, and not for fake tensors either.
    """
    group, trained = ProcessGroup(RANK, SIZE), []
    layer = global_batch_norm(nn.BatchNorm2d(6), group, BatchSlice(), CUDA)
    monkeypatch.setattr(nn.SyncBatchNorm, "forward", lambda layer, maps: trained.append(maps.shape) or maps)
    layer(torch.ones(2, 6, 5, 5))
    assert trained == [(2, 6, 5, 5)]
    assert group.sent == {"statistics": pytest.approx((2 * 13 + 4 / 3 * 12) * 4)}
    layer.eval()
    layer(torch.ones(2, 6, 5, 5))
    assert len(trained) == 1, "evaluation exchanges nothing"


@pytest.mark.parametrize(("device", "kind"), [("cuda", CudaGlobalBatchNorm), ("cpu", GlobalBatchNorm)])
def test_the_layer_of_each_device_has_the_weights_and_statistics_of_the_one_it_replaces(device, kind):
    layer = nn.BatchNorm2d(3, eps=1e-3, momentum=0.2)
    for number, tensor in enumerate(layer.state_dict().values()):
        tensor.fill_(number + 1)
    made = global_batch_norm(layer, ProcessGroup(0, 2), BatchSlice(), torch.device(device))
    assert type(made) is kind
    assert (made.eps, made.momentum) == (1e-3, 0.2)
    assert list(made.state_dict()) == list(layer.state_dict())
    assert all(torch.equal(made.state_dict()[key], tensor) for key, tensor in layer.state_dict().items())


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_statistics_are_estimated_anew_with_several_processes_as_with_one(device):
    """Each process has the same images, so nothing is exchanged: there is no process group here that could."""
    arch = override(PAPER_SMALL, ["norm=batch", "dense_norm=true", "classes=4"])
    views = [torch.randn(6, 3, arch.input.crop, arch.input.crop, generator=torch.Generator().manual_seed(number))
             for number in range(2)]
    one, several = AlexNet(arch, 1), AlexNet(arch, 1)
    for layer in [*several.features, *several.classifier]:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            replace_layer(several, layer, global_batch_norm(
                layer, ProcessGroup(0, 2), BatchSlice(), torch.device(device)))
    before = one.features.norm1.running_mean.clone()
    for network in (one, several):
        reestimate_batch_norm(network, views)
    assert not torch.equal(one.features.norm1.running_mean, before)
    for key, tensor in one.state_dict().items():
        assert torch.equal(several.state_dict()[key], tensor), key
    assert several.features.norm1.momentum == 0.1


def test_on_a_cpu_the_running_variance_is_the_unbiased_one():
    """Of 1, 2 and 6: mean 3, variance 14 / 3 for the outputs, 14 / 2 for the running variance; momentum 0.1."""
    layer = GlobalBatchNorm(nn.BatchNorm1d(1, eps=0.0), ProcessGroup(0, 1), BatchSlice(images_per_process=(3,)))
    outputs = layer(torch.tensor([[1.0], [2.0], [6.0]]))
    assert outputs.flatten().tolist() == pytest.approx([centered / (14 / 3) ** 0.5 for centered in (-2, -1, 3)])
    assert layer.running_mean.item() == pytest.approx(0.3)
    assert layer.running_var.item() == pytest.approx(0.9 * 1 + 0.1 * 7)
