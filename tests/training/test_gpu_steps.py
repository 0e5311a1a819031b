"""A training step on a GPU waits for nothing: torch raises at whatever would. Without a GPU: test_fake_gpu.py."""

from __future__ import annotations

import copy
from contextlib import closing
from dataclasses import replace

import pytest
import torch

from alexnet._runtime.devices import compute_fp32_in_fp32
from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import recipe
from alexnet.models.alexnet import AlexNet
from alexnet.training.build import build
from alexnet.training.spec import RunSpec


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["paper", "modern"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_waits_for_nothing_on_the_gpu(packed, tiny, tmp_path, name, precision):
    trainer = build(RunSpec(packed, tiny, replace(recipe(name), batch_size=20), tmp_path, device="cuda",
                            precision=precision))
    trainer.network.train()
    with closing(trainer.epoch_batches()) as source:
        for number, batch in enumerate(source):
            if number == 2:  # the first ones compile the kernels, fill the allocators and measure the units
                torch.cuda.set_sync_debug_mode("error")
            try:
                step = trainer._queue_step(batch, 0.0, 0.0, None)
            finally:
                torch.cuda.set_sync_debug_mode("default")
    assert all(map(torch.isfinite, torch.tensor(step.results.read())))
    trainer.validate()  # compiles what evaluation needs
    torch.cuda.set_sync_debug_mode("error")
    try:
        errors = trainer.validate()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert errors.images == len(packed.split("val"))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["paper", "modern", "lars"])
def test_cuda_graphs_train_what_launched_kernels_train_on_the_gpu(packed, tiny, tmp_path, name):
    """18 steps of 6 and 7 images, of which 3 of each size are not replayed. Sums in another order differ in rounding;
    another mask of dropout or another learning rate differs by far more."""
    weights = []
    for graph in (False, True):
        trainer = build(RunSpec(packed, tiny, replace(recipe(name), batch_size=7, epochs=1), tmp_path / str(graph),
                                device="cuda", precision="fp32", cuda_graph=graph))
        before = torch.cat([parameter.detach().flatten() for parameter in trainer.optimizer.parameters])
        trainer.fit()
        after = torch.cat([parameter.detach().flatten() for parameter in trainer.optimizer.parameters])
        weights.append(after - before)
    assert (weights[1] - weights[0]).norm() < 1e-3 * weights[0].norm()


@pytest.mark.gpu
@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("name", ["paper", "lars"])
def test_the_gpu_computes_with_the_rounded_weights(packed, tiny, tmp_path, name, graph):
    """Two epochs in bf16, with averaged weights that are swapped in and out between them."""
    train = replace(recipe(name), batch_size=7, epochs=2, ema_decay=0.9)
    trainer = build(RunSpec(packed, tiny, train, tmp_path, device="cuda", precision="bf16", cuda_graph=graph))
    trainer.fit()
    copies = trainer.optimizer._bf16_weights
    assert copies is not None
    weights = trainer.optimizer.parameters
    assert all(torch.equal(weight.bfloat16(), copy) for weight, copy in zip(weights, copies.of(weights), strict=True))


@pytest.mark.gpu
def test_a_network_trains_the_same_with_and_without_one_kernel():
    """For all that follows a convolution: gradients in float32."""
    compute_fp32_in_fp32()
    layout = override(arch("paper"), ["input.side=72", "input.crop=67", "conv.width=32", "dense.width=32", "dropout=0"])
    network = AlexNet(layout).to("cuda", memory_format=torch.channels_last)
    alone = copy.deepcopy(network)
    alone.features.__class__ = torch.nn.Sequential
    views, gradients = torch.randn(16, 3, 67, 67, device="cuda"), []
    for each in (network, alone):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            each(views).square().sum().backward()
        fused = [event.count for event in profile.key_averages() if event.key == "alexnet::norm_pool"]
        assert sum(fused) == (3 if each is network else 0)
        gradients.append([parameter.grad for parameter in each.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours - theirs).norm() < 1e-3 * theirs.norm()
