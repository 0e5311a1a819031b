"""The arithmetic is right: against the literature, against torch's functions, and against real forward passes."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alexnet.config import ARCHS, LRN, Arch, Conv, Dense, InputSpec, arch, override
from alexnet.explain import explain, output_size, pooled_size, render, smallest_input
from alexnet.model import AlexNet, CeilConv2d


@pytest.mark.parametrize(("name", "parameters", "million_multiply_adds"), [
    ("paper", 60_965_224, 724.4), ("code2012", 60_965_224, 724.4), ("caffe", 60_965_224, 724.4),
    ("caffenet", 60_965_224, 724.4), ("torchvision", 61_100_840, 714.2), ("one-gpu", 62_378_344, 1135.3)])
def test_totals_are_the_published_ones(name, parameters, million_multiply_adds):
    explanation = explain(arch(name))
    assert explanation.parameters == parameters
    assert explanation.multiply_adds / 1e6 == pytest.approx(million_multiply_adds, abs=0.06)


def test_paper_has_2_334_080_parameters_in_convolutions_and_58_631_144_in_the_rest():
    layers = explain(arch("paper")).layers
    assert sum(layer.parameters for layer in layers if layer.kind == "convolution") == 2_334_080
    assert sum(layer.parameters for layer in layers if layer.kind == "fully connected") == 58_631_144


def test_paper_sides_are_55_27_13_6():
    sizes = {layer.name: layer.output_shape for layer in explain(arch("paper")).layers}
    assert [sizes[name][1] for name in ("conv1", "pool1", "conv2", "pool2", "conv3", "conv5", "pool5")] == [
        55, 27, 27, 13, 13, 13, 6]
    assert sizes["pool5"] == (256, 6, 6)


def test_paper_neurons_are_section_3_5s_but_for_its_slip():
    neurons = {layer.name: layer.neurons for layer in explain(arch("paper")).layers}
    assert [neurons[f"conv{number}"] for number in range(1, 6)] == [290_400, 186_624, 64_896, 64_896, 43_264]
    assert 3 * 224 * 224 + sum(neurons[name] for name in (
        "conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")) - 150_528 == 659_272


def test_the_receptive_field_of_pool5_is_195_pixels():
    sees = {layer.name: (layer.receptive_field, layer.jump) for layer in explain(arch("paper")).layers}
    assert sees["conv1"] == (11, 4)
    assert sees["conv2"] == (51, 8)
    assert sees["conv5"] == (163, 16)
    assert sees["pool5"] == (195, 32)


@pytest.mark.parametrize(("name", "size", "words"), [
    ("paper", 224, "(224 - 11)/4 + 1 = 54.25, ceil 55"),
    ("torchvision", 224, "(224 + 2*2 - 11)/4 + 1 = 55.25, floor 55"),
    ("caffe", 227, "(227 - 11)/4 + 1 = 55"),
])
def test_conv1s_arithmetic_is_shown_with_the_numbers_put_in(name, size, words):
    assert explain(arch(name), size).layers[0].worked == words


def test_pad_1_gives_54_and_then_6400_features():
    d2l = override(arch("torchvision"), ["conv1.padding=1", "average_pool=0"])
    shapes = {layer.name: layer.output_shape for layer in explain(d2l).layers}
    assert [shapes[name][1] for name in ("conv1", "pool1", "pool2", "pool5")] == [54, 26, 12, 5]
    assert math.prod(shapes["pool5"]) == 6400


def test_sizes_equal_torchs_for_every_small_case():
    for side, kernel, stride, padding in np.ndindex(14, 6, 5, 3):
        kernel, stride = kernel + 1, stride + 1
        picture = torch.zeros(1, 1, side, side)
        if side and side + 2 * padding >= kernel:
            made = F.conv2d(picture, torch.zeros(1, 1, kernel, kernel), stride=stride, padding=padding)
            assert output_size(side, kernel, stride, padding, "floor") == made.shape[2]
        if side >= kernel:
            for rounding in ("floor", "ceil"):
                made = F.max_pool2d(picture, kernel, stride, ceil_mode=rounding == "ceil")
                assert pooled_size(side, kernel, stride, rounding) == made.shape[2], (side, kernel, stride, rounding)
        if side and (expected := output_size(side, kernel, stride, padding, "ceil")):
            with torch.device("meta"):
                made = CeilConv2d(1, 1, kernel, stride, padding)(torch.zeros(1, 1, side, side))
            assert made.shape[2] == expected


def real_shapes(network: AlexNet, size: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name in network.layer_names():
        network.named_layer(name).register_forward_hook(
            lambda m, i, output, name=name: shapes.update({name: tuple(output.shape[1:])}))
    with torch.device("meta"):
        network.eval()(torch.zeros(2, 3, size, size))
    return shapes


def agrees(network: Arch, size: int) -> None:
    network = override(network, [f"input.crop={size}", f"input.side={max(size, network.input.side)}"])
    explanation = explain(network)
    with torch.device("meta"):
        module = AlexNet(network)
    shapes = real_shapes(module, size)
    assert [layer.name for layer in explanation.layers] == module.layer_names()
    for layer in explanation.layers:
        assert math.prod(layer.output_shape) == math.prod(shapes[layer.name]), layer
        assert layer.output_shape == shapes[layer.name] or len(layer.output_shape) == 1, layer
        held = sum(parameter.numel() for parameter in module.named_layer(layer.name).parameters())
        assert layer.parameters == held, layer
    assert explanation.parameters == sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", ARCHS)
def test_explain_agrees_with_a_real_forward_pass(name):
    least = smallest_input(arch(name))
    for size in {least, least + 1, least + 5, arch(name).input.crop, 224, 227, 231}:
        agrees(arch(name), size)


def random_arch(rng: np.random.Generator) -> Arch:
    towers = int(rng.choice([1, 2, 3]))
    steps = ["act", "norm act", "act pool", "act norm pool", "norm pool act", "act norm mapnorm pool", "pool"]
    conv = tuple(
        Conv(6 * int(rng.integers(1, 4)), int(rng.integers(1, 8)), int(rng.integers(1, 4)), int(rng.integers(0, 4)),
             bool(number and rng.random() < 0.4), str(rng.choice(steps)))
        for number in range(rng.integers(1, 7)))
    return Arch(
        "random", conv, tuple(Dense(int(rng.integers(2, 20))) for _ in range(rng.integers(0, 4))), classes=5,
        input=InputSpec(side=512, crop=64), towers=towers, activation=str(rng.choice(["relu", "tanh", "sigmoid"])),
        norm=str(rng.choice(["lrn", "batch", "none"])), lrn=LRN(within_tower=bool(rng.random() < 0.5)),
        dense_norm=bool(rng.random() < 0.3), pool_kernel=int(rng.integers(2, 4)), pool_stride=int(rng.integers(1, 4)),
        conv_rounding=str(rng.choice(["floor", "ceil"])), pool_rounding=str(rng.choice(["floor", "ceil"])),
        average_pool=int(rng.choice([0, 0, 1, 3])), dropout=float(rng.choice([0, 0.5])),
        dropout_before=bool(rng.random() < 0.5))


def test_explain_agrees_with_a_real_forward_pass_over_200_random_architectures():
    rng = np.random.default_rng(2012)
    for _ in range(200):
        network = random_arch(rng)
        least = smallest_input(network)
        agrees(network, least + int(rng.integers(0, 60)))


@pytest.mark.parametrize("name", ARCHS)
def test_the_smallest_input_works_and_one_pixel_less_does_not(name):
    least = smallest_input(arch(name))
    explain(arch(name), least)
    with pytest.raises(ValueError, match=f"needs {least} or more"):
        explain(arch(name), least - 1)


def test_torchvisions_smallest_input_is_63():
    assert smallest_input(arch("torchvision")) == 63


def test_a_dependency_of_a_unit_is_its_receptive_field():
    """Gradients reach exactly as far as the arithmetic says (floor rounding, all padding away from the unit)."""
    network = override(arch("torchvision"), ["conv.width=6", "dense.width=4", "average_pool=0", "input.crop=224"])
    module = AlexNet(network).eval()
    for _, layer in module.weight_layers():
        torch.nn.init.constant_(layer.weight, 0.01)
    layers = {layer.name: layer for layer in explain(network).layers}
    for name in ("conv1", "pool1", "conv2", "conv3"):
        x = torch.rand(1, 3, 224, 224, requires_grad=True)
        maps = x
        for step in module.layer_names()[:module.layer_names().index(name) + 1]:
            # Averages instead of maxima, so that every pixel of a window has a gradient.
            layer = module.named_layer(step)
            maps = F.avg_pool2d(maps, 3, 2) if step.startswith("pool") else layer(maps)
        middle = maps.shape[2] // 2
        maps[0, :, middle, middle].sum().backward()
        rows = (x.grad[0].abs().sum((0, 2)) > 0).nonzero().flatten()
        assert int(rows[-1] - rows[0]) + 1 == layers[name].receptive_field, name


def test_json_has_the_promised_fields():
    tree = json.loads(json.dumps(explain(arch("paper")).to_json()))
    assert (tree["arch"], tree["input"]) == ("paper", [3, 224, 224])
    assert tree["parameters"] == 60_965_224
    assert tree["multiply_adds"] == sum(layer["multiply_adds"] for layer in tree["layers"])
    assert tree["layers"][0]["output"] == [96, 55, 55]


def test_unknown_layer_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean conv1"):
        render(explain(arch("paper")), "cnv1")


@pytest.mark.parametrize(("arguments", "expected"), [
    (["paper"], ["2 x 48x55x55", "60,965,224 parameters", "ceil 55"]),
    (["torchvision"], ["64x55x55", "61,100,840 parameters"]),
    (["paper", "--layer", "conv1"], ["54.25, ceil 55   <- here", "an input of 227 gives 55", "34,944", "253,440"]),
    (["torchvision", "--layer", "conv1", "--size", "227"], ["= 56"]),
])
def test_the_command_tells_the_story(arguments, expected):
    printed = subprocess.run([sys.executable, "-m", "alexnet", "explain", *arguments], capture_output=True, text=True,
                             check=True, env={"COLUMNS": "120", "PATH": "/usr/bin"}).stdout
    for words in expected:
        assert words in printed
