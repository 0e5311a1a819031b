"""Fast inference: logits differ by a few percent, and a processor without bf16 is rejected."""

from __future__ import annotations

import re

import pytest
import torch
from torch.nn import functional

from alexnet._runtime.devices import cpu_has_bf16
from alexnet.architecture.network_presets import ARCHS, arch
from alexnet.inference.evaluate import evaluate
from alexnet.inference.predictor import Model
from alexnet.models import quantized
from alexnet.models.alexnet import AlexNet
from alexnet.models.quantized import FastNetwork

WITHOUT_BF16 = ("this CPU has no bf16 instructions, which fast inference needs; leave out --fast (in Python, "
                "fast=True)")


@pytest.fixture(autouse=True)
def as_if_it_had_bf16(monkeypatch):
    """torch can do bf16 on every CPU, if slowly, so the answers can be checked on every CPU.

    A processor with AVX2 alone lacks the fused operator, rounds sums of products to bf16, too, and adds products of
    int8 in 16 bits, where they overflow. There convolutions add in fp32, and units have 7 bits.
    """
    monkeypatch.setattr(quantized, "choose_precision", lambda wanted, device: "bf16")
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        plain, linear = functional.conv2d, torch.ops.quantized.linear_dynamic
        monkeypatch.setattr(torch.ops.quantized, "linear_dynamic",
                            lambda units, packed, reduce_range: linear(units, packed, True))
        monkeypatch.setattr(quantized, "_pointwise", lambda: None)
        monkeypatch.setattr(functional, "conv2d", lambda maps, *tensors_and_geometry: plain(maps.float(), *(
            each.float() if isinstance(each, torch.Tensor) else each for each in tensors_and_geometry)).to(maps.dtype))


@pytest.mark.parametrize("name", sorted(ARCHS))
def test_fast_logits_differ_by_less_than_five_percent(name):
    network = AlexNet(arch(name), seed=3).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):  # as after some training
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
    crop = network.arch.input.crop
    pixels = torch.randn(2, 3, crop, crop) * 60
    with torch.no_grad():
        expected, seen = network(pixels), FastNetwork(network)(pixels)
    assert seen.dtype == torch.float32
    assert (seen - expected).norm() < 0.05 * expected.norm()


def test_the_network_may_be_changed_afterwards():
    network = AlexNet(arch("cifar")).eval()
    quick = FastNetwork(network)
    pixels = torch.randn(1, 3, 24, 24)[..., : network.arch.input.crop, : network.arch.input.crop]
    before = quick(pixels)
    for parameter in network.parameters():
        parameter.data.zero_()
    assert torch.equal(quick(pixels), before)


def test_without_the_fused_operator_the_logits_are_the_same(monkeypatch):
    network = AlexNet(arch("small")).eval()
    pixels = torch.randn(2, 3, network.arch.input.crop, network.arch.input.crop)
    seen = FastNetwork(network)(pixels)
    monkeypatch.setattr(quantized, "_pointwise", lambda: None)
    torch.testing.assert_close(FastNetwork(network)(pixels), seen, rtol=2e-2, atol=2e-3)


def test_a_fast_model_has_the_same_loss_within_a_percent(packed, tiny):
    network = AlexNet(tiny).eval()
    from alexnet.data.preprocessing import Preprocess

    preprocess = Preprocess.from_data(tiny.input, packed.mean_HWC)
    model = Model(network, preprocess, packed.classes, fast=FastNetwork(network))
    assert model.inference_network is model.fast
    split = packed.split("val")
    exact, quick = (evaluate([(one, preprocess)], split) for one in (network, model.inference_network))
    assert quick.images == exact.images
    assert quick.loss == pytest.approx(exact.loss, rel=1e-2)


def test_a_processor_without_bf16_is_told(monkeypatch):
    monkeypatch.setattr(quantized, "choose_precision", lambda wanted, device: "fp32")
    with pytest.raises(ValueError, match=re.escape(WITHOUT_BF16)):
        FastNetwork(AlexNet(arch("cifar")))


def test_a_network_on_another_device_is_refused():
    with pytest.raises(ValueError, match="fast inference is for CPUs, and the network is on meta; leave out --fast"):
        FastNetwork(AlexNet(arch("cifar")).to("meta"))


def test_whether_thecpu_has_bf16_can_be_told():
    assert cpu_has_bf16() in (True, False)
