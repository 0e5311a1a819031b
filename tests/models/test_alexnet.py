"""Networks have the published sizes, layers and initial weights. References: the literature, and formulas in NumPy."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from alexnet.architecture.network_presets import ARCHS, arch
from alexnet.architecture.overrides import override
from alexnet.architecture.spec import LRN, MapLRN
from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import CeilConv2d, MapNorm
from alexnet.models.response_norm import ResponseNorm


def parameters(name: str) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in AlexNet(arch(name)).parameters())


@pytest.mark.parametrize(("name", "count"), [
    ("paper", 60_965_224), ("code2012", 60_965_224), ("caffe", 60_965_224), ("caffenet", 60_965_224),
    ("torchvision", 61_100_840), ("one-gpu", 62_378_344),
])
def test_parameters_are_the_published_count(name, count):
    assert parameters(name) == count


def test_torchvision_prints_its_own_layers_under_its_own_keys():
    with torch.device("meta"):
        network = AlexNet(arch("torchvision"))
    assert [str(layer) for layer in network.features] == [
        "Conv2d(3, 64, kernel_size=(11, 11), stride=(4, 4), padding=(2, 2))", "ReLU()",
        "MaxPool2d(kernel_size=3, stride=2, padding=0, dilation=1, ceil_mode=False)",
        "Conv2d(64, 192, kernel_size=(5, 5), stride=(1, 1), padding=(2, 2))", "ReLU()",
        "MaxPool2d(kernel_size=3, stride=2, padding=0, dilation=1, ceil_mode=False)",
        "Conv2d(192, 384, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))", "ReLU()",
        "Conv2d(384, 256, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))", "ReLU()",
        "Conv2d(256, 256, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))", "ReLU()",
        "MaxPool2d(kernel_size=3, stride=2, padding=0, dilation=1, ceil_mode=False)"]
    assert str(network.avgpool) == "AdaptiveAvgPool2d(output_size=6)"
    assert [type(layer).__name__ for layer in network.classifier] == [
        "Dropout", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]
    assert list(network.state_dict()) == [
        f"{part}.{number}.{kind}" for part, numbers in (("features", (0, 3, 6, 8, 10)), ("classifier", (1, 4, 6)))
        for number in numbers for kind in ("weight", "bias")]


@pytest.mark.parametrize("name", ARCHS)
def test_every_preset_gives_one_logit_a_class(name):
    network = AlexNet(override(arch(name), ["classes=7"])).eval()
    with torch.inference_mode():
        assert network(torch.randn(2, 3, network.arch.input.crop, network.arch.input.crop)).shape == (2, 7)


@pytest.mark.parametrize("name", ARCHS)
def test_no_activation_works_in_place(name):
    with torch.device("meta"):
        network = AlexNet(arch(name))
    assert not [layer for layer in network.modules() if getattr(layer, "inplace", False)]


def test_an_input_too_small_is_rejected_before_any_tensor_is_made(monkeypatch):
    monkeypatch.setattr(nn.Conv2d, "__init__", lambda *a, **k: pytest.fail("a layer was made"))
    with pytest.raises(ValueError, match="needs 63 or more") as error:
        AlexNet(override(arch("torchvision"), ["input.crop=32"]))
    assert "cifar" in str(error.value)


def test_an_input_of_another_side_is_rejected():
    with torch.device("meta"):
        paper, flexible = AlexNet(arch("paper")), AlexNet(arch("torchvision"))
        with pytest.raises(ValueError, match="takes 224 pixels a side and got 200"):
            paper(torch.zeros(1, 3, 200, 200))
        with pytest.raises(ValueError, match="an input of 32 pixels is too small for paper"):
            paper(torch.zeros(1, 3, 32, 32))
        with pytest.raises(ValueError, match="needs 63 or more"):
            flexible(torch.zeros(1, 3, 62, 62))
        assert flexible(torch.zeros(1, 3, 63, 63)).shape == (1, 1000)


def test_paper_draws_its_weights_as_section_5_says():
    network = AlexNet(override(arch("paper"), ["dense.width=256"]), seed=3)
    for name, layer in network.weight_layers():
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02), name
        assert layer.weight.mean().item() == pytest.approx(0, abs=2e-4), name
        ones = name in ("conv2", "conv4", "conv5", "fc6", "fc7")
        assert torch.equal(layer.bias, torch.full_like(layer.bias, float(ones))), name


def test_code2012_draws_conv3_to_conv5_with_sigma_003():
    network = AlexNet(override(arch("code2012"), ["dense.width=64"]))
    deviations = [layer.weight.std().item() for _, layer in network.weight_layers()]
    assert deviations[:5] == pytest.approx([0.01, 0.01, 0.03, 0.03, 0.03], rel=0.03)


def test_seed_alone_decides_the_weights():
    first, again, other = (AlexNet(arch("small"), seed) for seed in (1, 1, 2))
    torch.manual_seed(99)  # the global generator has no say
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.features[0].weight, other.features[0].weight)


def reference_lrn(a: np.ndarray, lrn: LRN, towers: int) -> np.ndarray:
    """§3.3 as a loop over maps."""
    maps = a.shape[1]
    tower = maps // towers if lrn.within_tower else maps
    b = np.empty_like(a)
    for i in range(maps):
        low, high = max(i // tower * tower, i - lrn.n // 2), min((i // tower + 1) * tower - 1, i + lrn.n // 2)
        total = (a[:, low:high + 1] ** 2).sum(1)
        b[:, i] = a[:, i] / (lrn.k + (lrn.alpha / lrn.n if lrn.divide_by_n else lrn.alpha) * total) ** lrn.beta
    return b


@pytest.mark.parametrize("lrn", [
    LRN(alpha=0.02), LRN(alpha=0.02, divide_by_n=True), LRN(k=1.0, alpha=0.02, divide_by_n=True),
    LRN(alpha=0.02, within_tower=True), LRN(n=9, alpha=0.1, beta=0.5)])
def test_response_norm_is_the_printed_formula(lrn):
    a = np.random.default_rng(0).normal(0, 3, (2, 12, 4, 5))
    ours = ResponseNorm(lrn, 12, towers=2).double()(torch.from_numpy(a)).numpy()
    np.testing.assert_allclose(ours, reference_lrn(a, lrn, towers=2), rtol=1e-12)


def test_response_norm_conventions_in_torch_terms():
    x = torch.randn(2, 16, 3, 3, dtype=torch.float64) * 10
    code2012, printed = nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0), nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)
    torch.testing.assert_close(ResponseNorm(LRN(divide_by_n=True), 16, 1).double()(x), code2012(x))
    torch.testing.assert_close(ResponseNorm(LRN(), 16, 1).double()(x), printed(x))


def test_response_norm_and_map_norm_have_right_gradients():
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ResponseNorm(LRN(alpha=0.1, within_tower=True), 6, 2).double(), x)
    assert torch.autograd.gradcheck(MapNorm(MapLRN()), x)


def test_map_norm_sums_a_window_of_its_own_map():
    a = np.random.default_rng(1).normal(0, 30, (1, 2, 7, 6))
    b = np.empty_like(a)
    for y, x in np.ndindex(7, 6):
        window = a[:, :, max(0, y - 2):y + 3, max(0, x - 2):x + 3]
        b[:, :, y, x] = a[:, :, y, x] / (1 + 0.001 / 25 * (window ** 2).sum((2, 3))) ** 0.75
    np.testing.assert_allclose(MapNorm(MapLRN())(torch.from_numpy(a)).numpy(), b, rtol=1e-12)


def test_ceil_convolution_pads_zeros_on_the_right_and_bottom():
    layer = CeilConv2d(3, 4, 11, 4).double()
    x = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    ours = layer(x)
    assert ours.shape[2:] == (55, 55)
    fed_227 = nn.functional.conv2d(nn.functional.pad(x, (0, 3, 0, 3)), layer.weight, layer.bias, stride=4)
    torch.testing.assert_close(ours, fed_227)
    # Where it goes up without a rest, nothing is added.
    assert layer(torch.randn(1, 3, 227, 227, dtype=torch.float64)).shape[2:] == (55, 55)


def test_two_towers_meet_only_in_conv3_and_the_fully_connected_layers():
    network = AlexNet(override(arch("paper"), ["dense.width=16", "classes=4"])).eval()
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        before = network.features[:network.layer_names().index("conv3")](x)
        network.named_layer("conv1").weight[48:] += 1.0  # tower 2 of conv1
        after = network.features[:network.layer_names().index("conv3")](x)
        assert torch.equal(before[:, :128], after[:, :128])
        assert not torch.equal(before[:, 128:], after[:, 128:])


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_activation_is_a_field(activation):
    network = AlexNet(override(arch("small"), [f"activation={activation}"]))
    assert f"{activation}1" in network.layer_names()
    assert network.named_layer(f"{activation}6").__class__.__name__.lower() == activation


def test_a_sixth_convolution_is_one_more_layer():
    paper = arch("paper")
    six = AlexNet(override(type(paper)(**{**vars(paper), "conv": (*paper.conv[:4], paper.conv[3], paper.conv[4])}),
                           ["dense.width=32", "classes=5"])).eval()
    assert [name for name, _ in six.weight_layers()] == [
        "conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "fc7", "fc8", "fc9"]
    with torch.inference_mode():
        assert six(torch.randn(1, 3, 224, 224)).shape == (1, 5)


def test_hooks_get_each_layers_output():
    network, seen = AlexNet(arch("small")).eval(), {}
    for name in network.layer_names():
        network.named_layer(name).register_forward_hook(lambda m, i, o, name=name: seen.update({name: (i[0], o)}))
    with torch.inference_mode():
        network(torch.randn(2, 3, 56, 56))
    for name in ("relu1", "relu5", "relu6"):
        given, got = seen[name]
        assert torch.equal(got, given.clamp(min=0))
        assert (given < 0).any(), "an activation in place would have left none"
    assert math.prod(seen["pool5"][1].shape[1:]) == seen["fc6"][0].shape[1]


def test_a_hidden_layer_as_wide_as_the_output_is_no_output_layer():
    """He et al., arXiv 1502.01852: variance 2 / fan-in. It was drawn with output_init_std, as the output layer is."""
    network = override(arch("small"), ["initialization=kaiming", "dense.width=64", "classes=64",
                                       "output_init_std=0.001"])
    layers = [layer for _, layer in AlexNet(network, 0).weight_layers()]
    hidden, output = layers[-2:]
    assert hidden.weight.shape[0] == output.weight.shape[0] == 64
    assert float(hidden.weight.detach().std()) == pytest.approx((2 / hidden.weight.shape[1]) ** 0.5, rel=0.05)
    assert float(output.weight.detach().std()) == pytest.approx(0.001, rel=0.05)
