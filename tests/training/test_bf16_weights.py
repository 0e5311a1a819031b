"""Training with copies of the weights in bf16 is training with autocast, to the last bit; on a CPU, by a patch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from alexnet._runtime import kernels, native
from alexnet._runtime.norm_pool import norm_pool
from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import recipe
from alexnet.models import convolutions
from alexnet.models.alexnet import AlexNet
from alexnet.training import bf16_weights
from alexnet.training.bf16_weights import Bf16Weights
from alexnet.training.build import build
from alexnet.training.optimizer import SGD
from alexnet.training.precision import MixedPrecision
from alexnet.training.spec import RunSpec
from alexnet.training.step import train_step

CPU = torch.device("cpu")
needs_kernels = pytest.mark.skipif(not native.level(), reason="no compiled kernels")


@pytest.fixture
def with_copies(monkeypatch):
    """Runs that are built from now on have copies."""
    def begin() -> None:
        monkeypatch.setattr("alexnet.training.build.bf16_weights", lambda network, precision: Bf16Weights(network))

    return begin


def run(packed, arch, folder, train="paper", *, epochs=1, micro_batch=None, **options):
    """Train in bf16, 18 steps an epoch, of 6 and of 7 images; the trainer."""
    trainer = build(RunSpec(packed, arch, replace(recipe(train), batch_size=7, epochs=epochs, **options), folder,
                            precision="bf16", save_minutes=1e9, resume=True, micro_batch=micro_batch))
    trainer.fit()
    return trainer


def assert_equal(plain, copied):
    for a, b in ((plain.network.state_dict(), copied.network.state_dict()),
                 (plain.optimizer.velocity, copied.optimizer.velocity)):
        assert a.keys() == b.keys()
        for name, tensor in a.items():
            assert torch.equal(tensor, b[name]), name


@pytest.mark.parametrize("native_level", ["0", pytest.param(native.level(), marks=needs_kernels)])
@pytest.mark.parametrize(("train", "options"), [
    ("paper", {"micro_batch": 3}), ("modern", {"ema_decay": 0.9, "clip_norm": 1.0}), ("lars", {"freeze": "conv1"}),
    ("paper", {"conv1_stop_epoch": 1, "epochs": 2})])
def test_copies_train_what_autocast_trains(packed, tiny, tmp_path, monkeypatch, with_copies, train, options,
                                           native_level):
    """With the kernel and without, in micro-batches, with averages that are swapped in and out, and frozen layers."""
    monkeypatch.setenv("ALEXNET_NATIVE", native_level)
    plain = run(packed, tiny, tmp_path / "plain", train, **options)
    with_copies()
    copied = run(packed, tiny, tmp_path / "copied", train, **options)
    assert_equal(plain, copied)
    if native_level != "0":
        weights = list(copied.network.parameters())
        for weight, copy in zip(weights, copied.optimizer._bf16_weights.of(weights), strict=True):
            assert torch.equal(weight.bfloat16(), copy)


def test_a_run_that_is_resumed_with_copies_is_one_that_was_not_stopped(packed, tiny, tmp_path, with_copies):
    plain = run(packed, tiny, tmp_path / "plain", epochs=2)
    with_copies()
    run(packed, tiny, tmp_path / "copied")
    assert_equal(plain, run(packed, tiny, tmp_path / "copied", epochs=2))


@needs_kernels
@pytest.mark.parametrize("through_operators", [False, True])
def test_only_what_torch_has_changed_is_copied_again(monkeypatch, through_operators):
    """The update writes the copies itself, whether it is called as it is or as an operator."""
    if through_operators:
        monkeypatch.setattr(kernels, "_is_plain", lambda tensor: False)
    copied, copy = [], torch._foreach_copy_
    monkeypatch.setattr(torch, "_foreach_copy_", lambda to, given: [copied.append(len(to)), copy(to, given)])
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    weights = Bf16Weights(network)
    optimizer, precision = SGD(network, Recipe("r"), bf16_weights=weights), MixedPrecision("bf16", CPU)

    def step() -> None:
        train_step(network, optimizer, torch.randn(5, 3), torch.zeros(5, dtype=torch.int64), 0.1, precision)

    step()
    step()
    assert copied == [4], "all once, before the first step"
    with torch.no_grad():
        network[2].weight.mul_(2)
    step()
    assert copied == [4, 1]
    network.load_state_dict({name: tensor + 1 for name, tensor in network.state_dict().items()})
    step()
    assert copied == [4, 1, 4]
    parameters = list(network.parameters())
    assert all(torch.equal(weight.bfloat16(), copy)
               for weight, copy in zip(parameters, weights.of(parameters), strict=True))


def test_layers_read_the_copies_and_gradients_are_of_the_parameters():
    network = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)).to(
        memory_format=torch.channels_last)
    weights = Bf16Weights(network)
    assert [copy.stride() for copy in weights.of(network.parameters())] == [
        parameter.stride() for parameter in network.parameters()]
    for copy in weights.of(network.parameters()):
        copy.zero_()
    with torch.autocast("cpu", torch.bfloat16):
        with weights.in_forward():
            zeros = network(torch.randn(2, 3, 2, 2))
        other = network(torch.randn(2, 3, 2, 2))
    assert not zeros.any(), "also batch normalization's maps are 0 here, and its own weights are not read"
    assert other.any(), "outside, the parameters are read"
    zeros.float().sum().backward()
    assert [parameter.grad.dtype for parameter in network.parameters()] == [torch.float32] * 6
    assert network[3].bias.grad.tolist() == [2.0, 2.0]


@needs_kernels
def test_one_kernel_after_a_convolution_has_the_same_bias_with_copies_and_without(monkeypatch):
    """It adds the bias, which a convolution would read in bf16, in float32."""
    calls = []

    def note(*arguments, **numbers):
        calls.append(arguments[1].dtype)
        return norm_pool(*arguments, **numbers)

    monkeypatch.setattr(convolutions, "supports_norm_pool", lambda *maps: True)
    monkeypatch.setattr(convolutions, "norm_pool", note)
    layout = override(arch("paper"), ["input.side=72", "input.crop=67", "conv.width=16", "dense.width=16", "dropout=0"])
    views, labels, networks = torch.randn(4, 3, 67, 67), torch.arange(4), [AlexNet(layout, seed=1) for _ in range(2)]
    for network, weights in zip(networks, (None, Bf16Weights(networks[1])), strict=True):
        optimizer = SGD(network.train(), Recipe("r"), bf16_weights=weights)
        for _ in range(3):
            train_step(network, optimizer, views, labels, 0.1, MixedPrecision("bf16", CPU))
    assert calls == [torch.float32] * 18
    for name, tensor in networks[0].state_dict().items():
        assert torch.equal(tensor, networks[1].state_dict()[name]), name


@pytest.mark.parametrize(("precision", "device", "available", "expected"), [
    ("bf16", "cuda", True, True), ("bf16", "cuda", False, False), ("fp32", "cuda", True, False),
    ("fp16", "cuda", True, False), ("bf16", "cpu", True, False)])
def test_a_run_in_bf16_on_cuda_has_copies(monkeypatch, precision, device, available, expected):
    monkeypatch.setattr(kernels, "available", lambda kind: available)
    made = bf16_weights.bf16_weights(nn.Linear(2, 2), MixedPrecision(precision, torch.device(device)))
    assert (made is not None) is expected
