"""Fast inference: convolutions as before, in bf16 or fp32, int8 for fully connected layers; logits differ by little."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from alexnet._runtime.devices import cpu_has_bf16
from alexnet.architecture.network_presets import ARCHS, arch
from alexnet.inference.evaluate import evaluate
from alexnet.inference.predictor import Model
from alexnet.models import quantized
from alexnet.models.alexnet import AlexNet
from alexnet.models.quantized import FastNetwork


@pytest.fixture(params=["bf16", "fp32"])
def precision(request, monkeypatch):
    """Both kinds of processors, on any. torch can do bf16 on every CPU, if slowly.

    One without bf16 instructions lacks the fused operator for bf16 and rounds sums of products to bf16, too: here its
    convolutions add in fp32.
    """
    monkeypatch.setattr(quantized, "cpu_has_bf16", lambda: request.param == "bf16")
    if request.param == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        plain = functional.conv2d
        monkeypatch.setattr(quantized, "_pointwise", lambda: None)
        monkeypatch.setattr(functional, "conv2d", lambda maps, *tensors_and_geometry: plain(maps.float(), *(
            each.float() if isinstance(each, torch.Tensor) else each for each in tensors_and_geometry)).to(maps.dtype))
    return request.param


def trained(name: str) -> AlexNet:
    """A network whose batch normalization has statistics as after some training."""
    network = AlexNet(arch(name), seed=3).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
    return network


def images(network: AlexNet, count: int) -> torch.Tensor:
    crop = network.arch.input.crop
    return torch.randn(count, 3, crop, crop) * 60


@pytest.mark.parametrize("name", sorted(ARCHS))
def test_fast_logits_differ_by_less_than_five_percent(name, precision):
    network = trained(name)
    pixels = images(network, 2)
    with torch.no_grad():
        expected, seen = network(pixels), FastNetwork(network)(pixels)
    assert seen.dtype == torch.float32
    assert (seen - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", ["paper", "torchvision", "small", "paper-bn", "cifar-18pct"])
def test_in_fp32_the_convolutions_are_the_networks_own(name, count, monkeypatch):
    """Batch normalization and ReLU are part of the convolutions; one image has weights in another layout than three."""
    monkeypatch.setattr(quantized, "cpu_has_bf16", lambda: False)
    network = trained(name)
    maps = images(network, count)
    quick = FastNetwork(network)
    with torch.inference_mode():
        expected, seen = network.features(maps), maps
        for step in quick._features:
            seen = step(seen)
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_weights_are_laid_out_for_the_size_of_their_input(monkeypatch):
    """Without it oneDNN changed the layout at each call: 44 ms for a convolution of 2.5 ms."""
    monkeypatch.setattr(quantized, "cpu_has_bf16", lambda: False)
    sizes, lay_out = [], torch._C._nn.mkldnn_reorder_conv2d_weight
    monkeypatch.setattr(torch._C._nn, "mkldnn_reorder_conv2d_weight",
                        lambda *arguments: sizes.append(arguments[5]) or lay_out(*arguments))
    FastNetwork(AlexNet(arch("torchvision")).eval())
    assert sizes == [[1, 3, 224, 224], [1, 64, 27, 27], [1, 192, 13, 13], [1, 384, 13, 13], [1, 256, 13, 13]]


def test_sums_of_int8_products_do_not_overflow():
    """64 products of the largest weight and the largest unit: 64, and less where two products overflow 16 bits."""
    layer = nn.Linear(64, 4)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    with torch.inference_mode():
        seen = quantized._int8(layer)(torch.ones(2, 64))
    torch.testing.assert_close(seen, torch.full((2, 4), 64.0), rtol=0.01, atol=0)


def test_the_network_may_be_changed_afterwards(precision):
    network = AlexNet(arch("cifar")).eval()
    quick = FastNetwork(network)
    pixels = images(network, 1)
    before = quick(pixels)
    for parameter in network.parameters():
        parameter.data.zero_()
    assert torch.equal(quick(pixels), before)


def test_without_the_fused_operator_the_logits_are_the_same(monkeypatch, precision):
    network = AlexNet(arch("small")).eval()
    pixels = torch.randn(2, 3, network.arch.input.crop, network.arch.input.crop)
    seen = FastNetwork(network)(pixels)
    monkeypatch.setattr(quantized, "_pointwise", lambda: None)
    torch.testing.assert_close(FastNetwork(network)(pixels), seen, rtol=2e-2, atol=2e-3)


def test_a_fast_model_has_the_same_loss_within_a_percent(packed, tiny, precision):
    network = AlexNet(tiny).eval()
    from alexnet.data.preprocessing import Preprocess

    preprocess = Preprocess.from_data(tiny.input, packed.mean_HWC)
    model = Model(network, preprocess, packed.classes, fast=FastNetwork(network))
    assert model.inference_network is model.fast
    split = packed.split("val")
    exact, quick = (evaluate([(one, preprocess)], split) for one in (network, model.inference_network))
    assert quick.images == exact.images
    assert quick.loss == pytest.approx(exact.loss, rel=1e-2)


def test_a_network_on_another_device_is_refused():
    with pytest.raises(ValueError, match="fast inference is for CPUs, and the network is on meta; leave out --fast"):
        FastNetwork(AlexNet(arch("cifar")).to("meta"))


def test_whether_thecpu_has_bf16_can_be_told():
    assert cpu_has_bf16() in (True, False)
