"""Which layers run in one kernel: by the operator's implementation for a CPU, as if it were for CUDA."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from alexnet._runtime import native
from alexnet._runtime.norm_pool import norm_pool, supports_norm_pool
from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.architecture.spec import Arch
from alexnet.models import convolutions
from alexnet.models.alexnet import AlexNet
from alexnet.models.hooks import captured_outputs

pytestmark = pytest.mark.skipif(not native.level(), reason="no compiled kernels")
SMALL = ["input.side=72", "input.crop=67", "conv.width=16", "dense.width=16", "classes=8", "dropout=0"]


def small(name: str, *settings: str) -> Arch:
    return override(arch(name), [*SMALL, *settings])


@pytest.fixture
def fused(monkeypatch) -> list[tuple[torch.Size, dict[str, object]]]:
    """The shape of the convolution's output and the constants of each call of `norm_pool`, which here is for a CPU."""
    calls = []

    def support(device, *others):
        return supports_norm_pool(torch.device("cuda"), *others)

    def note(maps, bias, kernel, stride, **numbers):
        calls.append((maps.shape, numbers))
        return norm_pool(maps, bias, kernel, stride, **numbers)

    monkeypatch.setattr("alexnet._runtime.kernels._has_triton", lambda: True)
    monkeypatch.setattr(convolutions, "supports_norm_pool", support)
    monkeypatch.setattr(convolutions, "norm_pool", note)
    return calls


def gradients(network: nn.Module, views: torch.Tensor) -> list[torch.Tensor]:
    """The logits, and the gradients of all parameters."""
    logits = network(views)
    logits.square().sum().backward()
    return [logits.detach(), *(parameter.grad for parameter in network.parameters())]


@pytest.mark.parametrize(("name", "settings", "calls"), [
    ("paper", [], 3), ("paper", ["lrn.within_tower=true"], 3), ("paper", ["norm=none"], 3), ("torchvision", [], 3),
    ("code2012", [], 1), ("caffe", [], 3), ("caffenet", [], 3), ("paper-bn", [], 0), ("paper", ["activation=tanh"], 0),
    ("paper", ["pool_kernel=1", "pool_stride=2"], 0),
    ("paper", ["conv_rounding=ceil", "pool_rounding=ceil", "input.crop=65"], 3)])
def test_a_network_computes_the_same_with_and_without_the_kernel(fused, name, settings, calls):
    """In `caffenet`, ReLU and pooling are fused, and normalization follows; in `code2012`, only those of conv5."""
    network = AlexNet(small(name, *settings), seed=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(8)  # so that normalization matters
    views = torch.randn(3, 3, network.arch.input.crop, network.arch.input.crop) * 50
    alone = copy.deepcopy(network)
    alone.features.__class__ = nn.Sequential
    expected = gradients(alone, views.contiguous(memory_format=torch.channels_last))
    results = gradients(network, views)
    assert len(fused) == calls
    for result, right in zip(results, expected, strict=True):
        torch.testing.assert_close(result, right, rtol=1e-4, atol=1e-5 * float(right.abs().max()))


def test_the_constants_are_those_of_the_layers(fused):
    network = AlexNet(small("paper", "pool_rounding=ceil", "lrn.within_tower=true"))
    network(torch.randn(2, 3, 67, 67))
    lrn = {"ceil": True, "k": 2.0, "alpha": 1e-4, "beta": 0.75, "n": 5, "towers": 2}
    assert fused == [((2, 16, 15, 15), lrn), ((2, 16, 7, 7), lrn), ((2, 16, 3, 3), {"ceil": True})]


@pytest.mark.parametrize("layer", ["conv1", "relu1", "norm1", "pool1"])
def test_an_observed_layer_runs_alone_and_the_others_do_not(fused, layer):
    network, views = AlexNet(small("paper")).eval(), torch.randn(2, 3, 67, 67)
    logits = network(views)
    assert len(fused) == 3
    with captured_outputs(network, [layer], retain_grad=True) as outputs:
        again = network(views)
        again.sum().backward()
    assert len(fused) == 5, "conv2 and conv5"
    assert outputs[layer].grad is not None
    torch.testing.assert_close(again, logits)
    network(views)
    assert len(fused) == 8


def test_hooks_of_every_kind_see_their_layers(fused):
    network, views, seen = AlexNet(small("paper")), torch.randn(2, 3, 67, 67), []

    def hook(module: nn.Module, *others: object) -> None:
        seen.append(module)

    norm, relu, pool = (network.named_layer(name) for name in ("norm1", "relu2", "pool5"))
    norm.register_forward_pre_hook(hook)
    relu.register_full_backward_hook(hook)
    pool.register_full_backward_pre_hook(hook)
    network(views).sum().backward()
    assert seen == [norm, pool, relu]
    assert not fused
    others = AlexNet(small("paper"))
    handle = register_module_forward_hook(hook)
    others(views)
    handle.remove()
    assert set(others.features) < set(seen)
    assert not fused


def test_a_layer_that_a_user_has_replaced_computes_what_it_does(fused):
    class Doubled(nn.ReLU):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(maps)

    network, views = AlexNet(small("paper")), torch.randn(2, 3, 67, 67)
    before = network(views)
    network.features.relu1 = Doubled()
    network.named_layer("pool5").forward = lambda maps: maps[..., :1, :1] + 1
    fused.clear()
    assert not torch.equal(network(views), before)
    assert len(fused) == 1, "conv2"


def test_autocast_decides_the_dtype(fused):
    network, views = AlexNet(small("paper")).requires_grad_(False), torch.randn(2, 3, 67, 67)
    exact = network(views)
    with torch.autocast("cpu", torch.bfloat16):
        assert network.features(views).dtype == torch.bfloat16
        torch.testing.assert_close(network(views).float(), exact, rtol=0.1, atol=0.1 * float(exact.abs().max()))
    assert len(fused) == 9
    with torch.autocast("cpu", torch.float16):
        assert network.features(views).dtype == torch.float16
    network.double()(views.double())
    assert len(fused) == 9, "neither in float16 nor in float64"


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_neither_a_compiled_network_nor_an_exported_one_has_the_kernel(fused):
    network, views, graphs = AlexNet(small("paper")).eval(), torch.randn(2, 3, 67, 67), []

    def keep(graph: torch.fx.GraphModule, inputs: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    with torch.no_grad():
        torch.testing.assert_close(torch.compile(network, backend=keep, fullgraph=True)(views), network(views))
        assert "norm_pool" not in graphs[0].code
        assert "norm_pool" not in torch.export.export(network, (views,)).graph_module.code
        assert "norm_pool" not in str(torch.jit.trace(network, views, check_trace=False).inlined_graph)
    assert len(fused) == 3, "once, uncompiled"
    with torch.device("meta"):
        assert AlexNet(small("paper"))(torch.empty(2, 3, 67, 67)).shape == (2, 8)


@pytest.mark.parametrize("name", ["small", "medium", "torchvision", "paper", "cifar"])
def test_maps_on_the_cpu_are_in_channels_last_and_the_formats_of_input_and_weights_change_no_bit(name):
    network = AlexNet(arch(name)).eval()
    side = network.arch.input.crop
    views_NCHW = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    observed = []

    def observe(layer, inputs, output):
        observed.append(output.is_contiguous(memory_format=torch.channels_last))

    for layer in network.features:
        layer.register_forward_hook(observe)
    with torch.inference_mode():
        logits_NK = network(views_NCHW)
        assert all(observed)
        assert torch.equal(network(views_NCHW.contiguous(memory_format=torch.channels_last)), logits_NK)
        network.to(memory_format=torch.channels_last)
        assert torch.equal(network(views_NCHW), logits_NK)
