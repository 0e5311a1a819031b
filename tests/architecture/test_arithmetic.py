"""The arithmetic is right: against the literature, against torch's functions, and against real forward passes."""

import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console, RenderableType

from alexnet.architecture.arithmetic import explain, output_size, pooled_size, smallest_input
from alexnet.architecture.network_presets import ARCHS, arch
from alexnet.architecture.overrides import override
from alexnet.architecture.spec import Arch, Conv
from alexnet.cli.render import explanation_table
from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import CeilConv2d
from random_networks import random_arch


@pytest.mark.parametrize(("name", "parameters", "million_multiply_adds"), [
    ("paper", 60_965_224, 724.4), ("code2012", 60_965_224, 724.4), ("caffe", 60_965_224, 724.4),
    ("caffenet", 60_965_224, 724.4), ("paper-conv6", 61_555_304, 745.6),
    ("torchvision", 61_100_840, 714.2), ("one-gpu", 62_378_344, 1135.3)])
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


def test_paper_neurons_are_those_of_section_3_5_except_its_misprint():
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


def test_receptive_fields_are_worked_from_the_layer_before():
    worked = {layer.name: layer.receptive_field_worked for layer in explain(arch("paper")).layers}
    assert worked["conv1"] == "1 + (11 - 1) x 1 = 11"
    assert worked["pool1"] == "11 + (3 - 1) x 4 = 19"
    assert worked["conv2"] == "19 + (5 - 1) x 8 = 51"
    assert worked["relu1"] == ""


def test_the_papers_misprint_is_mentioned_for_conv1_only():
    mentioned = [layer.name for layer in explain(arch("paper")).layers
            if "253,440" in as_printed(explanation_table(explain(arch("paper")), layer.name))]
    assert mentioned == ["conv1"]


def as_printed(renderable: RenderableType, width: int = 100) -> str:
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


@pytest.mark.parametrize("name", ARCHS)
def test_every_explanation_fits_into_80_columns(name):
    explanation = explain(arch(name))
    for layer in (None, *(layer.name for layer in explanation.layers)):
        printed = as_printed(explanation_table(explanation, layer), width=80)
        assert (layer or name) in printed
        assert max(map(len, printed.splitlines())) <= 80
        assert layer is None or all(line.startswith(" ") for line in printed.splitlines()[1:] if line), printed


def test_at_80_columns_the_formula_of_sizes_is_whole_and_small_layers_have_work():
    """cifar-18pct's output layer: 64 x 4 x 4 = 1,024 inputs x 10 = 10,240 products; cifar's: 576 x 10 = 5,760."""
    for name, work in (("cifar", "5.8 k"), ("cifar-18pct", "10.2 k")):
        printed = as_printed(explanation_table(explain(arch(name))), width=80)
        assert printed.splitlines()[0].strip() == "(side + 2*pad - kernel)"
        assert "/stride + 1  " in printed.splitlines()[1]
        assert work in printed
        assert "0.0 M" not in printed


@pytest.mark.parametrize(("name", "size", "words"), [
    ("paper", 224, "(224 - 11)/4 + 1 = 54.25, ceil 55"),
    ("torchvision", 224, "(224 + 2*2 - 11)/4 + 1 = 55.25, floor 55"),
    ("caffe", 227, "(227 - 11)/4 + 1 = 55"),
])
def test_conv1_arithmetic_is_worked_out(name, size, words):
    assert explain(arch(name), size).layers[0].worked == words


def test_padding_1_gives_54_and_then_6400_features():
    d2l = override(arch("torchvision"), ["conv1.padding=1", "average_pool=0"])
    shapes = {layer.name: layer.output_shape for layer in explain(d2l).layers}
    assert [shapes[name][1] for name in ("conv1", "pool1", "pool2", "pool5")] == [54, 26, 12, 5]
    assert math.prod(shapes["pool5"]) == 6400


def torch_convolution(
    side: int, kernel: int, stride: int, padding: int, rounding: str, device: str = "meta", dilation: int = 1,
) -> int:
    """Output side of torch.nn.functional.conv2d; 0 where it raises. With ceil: zeros until the last step fits."""
    covered = dilation * kernel - dilation + 1  # after the last pixel there is no gap
    if side + 2 * padding < covered:
        rounding = "floor"  # zeros complete a last step, not the first; torch is to refuse
    extra = 0
    while rounding == "ceil" and (side + 2 * padding + extra - covered) % stride:
        extra += 1
    picture = F.pad(torch.zeros(1, 1, side, side, device=device), (padding, padding + extra) * 2)
    try:
        weight = torch.zeros(1, 1, kernel, kernel, device=device)
        return F.conv2d(picture, weight, stride=stride, dilation=dilation).shape[2]
    except RuntimeError:
        return 0


def torch_pooling(side: int, kernel: int, stride: int, rounding: str, device: str = "meta") -> int:
    picture = torch.zeros(1, 1, side, side, device=device)
    try:
        return F.max_pool2d(picture, kernel, stride, ceil_mode=rounding == "ceil").shape[2]
    except RuntimeError:
        return 0


def torch_accepts(network: Arch, side: int) -> bool:
    """Whether torch's functions compute all convolutions and poolings for an image of that side."""
    for number, conv in enumerate(network.conv, 1):
        side = side and torch_convolution(side, conv.kernel, conv.stride, conv.padding, network.conv_rounding,
                                          dilation=conv.dilation)
        if side and {"pool", "avgpool"} & {*network.post_ops(number)}:
            side = torch_pooling(side, network.pool_kernel, network.pool_stride, network.pool_rounding)
    return side > 0


def test_sizes_equal_torchs_for_every_small_case():
    refused = 0
    for side, kernel, stride, padding in np.ndindex(10, 5, 4, 3):
        side, kernel, stride = side + 1, kernel + 1, stride + 1
        for rounding in ("floor", "ceil"):
            case = (side, kernel, stride, padding, rounding)
            for device in ("cpu", "meta"):  # what torch computes, and what it says it would
                assert output_size(*case) == torch_convolution(*case, device), case
                pooled = pooled_size(side, kernel, stride, rounding)
                assert pooled == torch_pooling(side, kernel, stride, rounding, device), case
            refused += not output_size(*case)
        if expected := output_size(side, kernel, stride, padding, "ceil"):
            with torch.device("meta"):
                made = CeilConv2d(1, 1, kernel, stride, padding)(torch.zeros(1, 1, side, side))
            assert made.shape[2] == expected
    assert refused > 100


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


def test_a_dilated_kernel_is_worked_out_with_its_gaps():
    dilated = override(arch("paper"), ["conv3.dilation=2", "conv3.padding=2"])
    layer = next(each for each in explain(dilated).layers if each.name == "conv3")
    assert layer.worked == "(13 + 2*2 - (2*(3 - 1) + 1))/1 + 1 = 13"
    assert layer.formula == "(side + 2*padding - (dilation*(kernel - 1) + 1)) / stride + 1"
    plain = next(each for each in explain(arch("paper")).layers if each.name == "conv3")
    assert layer.receptive_field - layer.jump * 2 == plain.receptive_field
    assert (layer.parameters, layer.dilation) == (plain.parameters, 2)


def test_explain_agrees_with_a_real_forward_pass_over_200_random_architectures():
    rng = np.random.default_rng(2012)
    for _ in range(200):
        network = random_arch(rng)
        agrees(network, smallest_input(network) + int(rng.integers(0, 60)))


def test_the_smallest_input_is_the_one_torch_accepts_over_200_random_architectures():
    """Checked at every side near the limit and at some far from it."""
    rng = np.random.default_rng(1998)
    limits = 0
    for _ in range(200):
        network = random_arch(rng)
        least = smallest_input(network)
        below = {*range(max(1, least - 3), least), *rng.integers(1, least, 3).tolist()} if least > 1 else set()
        assert not [side for side in below if torch_accepts(network, side)], network
        assert all(torch_accepts(network, side) for side in range(least, least + 4)), network
        limits += bool(below)
    assert limits > 100


@pytest.mark.parametrize("name", ARCHS)
def test_torch_itself_refuses_one_pixel_less_than_a_presets_smallest_input(name):
    least = smallest_input(arch(name))
    assert torch_accepts(arch(name), least)
    assert not any(torch_accepts(arch(name), side) for side in range(1, least))


def test_a_network_for_enormous_images_has_a_smallest_input():
    # Each convolution is 200 pixels wide and steps 200: four of them make one unit of 200 ^ 4.
    assert smallest_input(Arch("enormous", (Conv(2, 200, stride=200),) * 4)) == 200**4


def test_a_kernel_larger_than_the_padded_image_is_refused_by_the_ceiling_too():
    network = Arch("large kernel", (Conv(2, 7, stride=4, padding=1),), conv_rounding="ceil")
    assert smallest_input(network) == 5
    assert output_size(4, 7, 4, 1, "ceil") == 0


def test_a_changed_preset_is_not_suggested_to_itself():
    with pytest.raises(ValueError, match="needs 47 or more; use --arch cifar-18pct, made") as refusal:
        explain(override(arch("cifar"), ["conv1.kernel=40", "conv1.padding=0"]), 28)
    assert "--arch cifar," not in str(refusal.value)


@pytest.mark.parametrize("size", [20, 37, 56])
def test_the_suggested_preset_accepts_the_size(size):
    with pytest.raises(ValueError, match="--arch") as refusal:
        explain(arch("torchvision"), size)
    suggested = str(refusal.value).split("--arch ")[1].split(",")[0]
    assert explain(arch(suggested), size).size == size


def test_a_pooling_window_that_would_start_outside_is_mentioned():
    network = Arch("sparse", (Conv(2, 1, post_ops="pool"),), pool_kernel=1, pool_stride=3, pool_rounding="ceil")
    assert explain(network, 5).layers[1].worked == "(5 - 1)/3 + 1 = 2.33333, ceil 3, of which 2 start inside the input"


@pytest.mark.parametrize(("name", "words"), [
    ("paper", "floor would give 54; ceil gives 55, with 3 more columns and rows of zeros at the right and bottom, the "
              "same size as from an input of 227"),
    ("torchvision", "floor leaves out the last column and row, which are padding; ceil would give 56")])
def test_conv1_note_explains_the_rounding(name, words):
    assert words in explain(arch(name), 224).layers[0].notes


def test_maps_that_are_not_split_evenly_are_not_called_split():
    network = Arch("odd", (Conv(97, 3),), towers=2)
    assert not explain(network, 9).layers[0].notes


@pytest.mark.parametrize("name", ARCHS)
def test_the_smallest_input_works_and_one_pixel_less_does_not(name):
    least = smallest_input(arch(name))
    explain(arch(name), least)
    with pytest.raises(ValueError, match=f"needs {least} or more"):
        explain(arch(name), least - 1)


def test_torchvisions_smallest_input_is_63():
    assert smallest_input(arch("torchvision")) == 63


def test_gradients_reach_exactly_the_receptive_field():
    """With floor rounding, for a unit far from the padding."""
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


@pytest.mark.parametrize(("size", "side"), [(13, 6), (6, 6), (2, 6), (7, 5), (13, 8)])
def test_adaptive_pooling_has_the_receptive_field_of_its_widest_window(size, side):
    """Window widths from torch's gradients. For (7, 5) and (13, 8) the windows differ in width."""
    pixels = torch.rand(1, 1, size, size, requires_grad=True)
    averages = F.adaptive_avg_pool2d(pixels, side)[0, 0, 0]
    widths = [int((torch.autograd.grad(average, pixels, retain_graph=True)[0][0, 0, 0] != 0).sum())
              for average in averages]
    network = Arch("even", (Conv(2, 1),), average_pool=side)
    layers = {layer.name: layer for layer in explain(network, size).layers}
    assert layers["average_pool"].receptive_field == max(widths)


def test_json_has_the_promised_fields():
    tree = json.loads(json.dumps(explain(arch("paper")).to_json()))
    assert (tree["arch"], tree["input"]) == ("paper", [3, 224, 224])
    assert tree["parameters"] == 60_965_224
    assert tree["multiply_adds"] == sum(layer["multiply_adds"] for layer in tree["layers"])
    assert tree["layers"][0]["output"] == [96, 55, 55]


def test_unknown_layer_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean conv1"):
        explanation_table(explain(arch("paper")), "cnv1")


@pytest.mark.parametrize(("name", "on_gpus"), [
    # §3.2 puts the towers on two GPUs. Caffe's files have one network with `group: 2`, whose LRN sums over both halves;
    # `medium` is of our making, with grouped convolutions.
    ("paper", True), ("paper-conv6", True), ("code2012", True), ("code2010", True), ("paper-bn", True),
    ("caffe", False), ("caffenet", False), ("medium", False), ("one-gpu", False), ("torchvision", False)])
def test_gpus_are_only_in_networks_with_the_papers_towers(name, on_gpus):
    printed = as_printed(explanation_table(explain(arch(name))))
    assert ("GPUs" in printed) == ("towers" in printed) == bool(re.search(r" 2 x \d+x\d+", printed)) == on_gpus
    assert ("groups" in printed) == (name in ("caffe", "caffenet", "medium"))


@pytest.mark.parametrize(("name", "layer", "constants"), [
    ("paper", "norm1", "k=2 n=5 α=0.0001 β=0.75"),  # §3.3 multiplies the sum by α
    # cuda-convnet, layer.py: scale /= size in cmrnorm, size^2 in rnorm; Caffe, lrn_layer.cpp: alpha_ / size_
    ("code2012", "norm1", "k=2 n=5 α=0.0001/5 β=0.75"), ("code2012", "mapnorm2", "5x5 α=0.001/25 β=0.75"),
    ("caffe", "norm1", "k=1 n=5 α=0.0001/5 β=0.75"), ("cifar", "norm1", "k=1 n=9 α=5e-05 β=0.75"),
    ("cifar-18pct", "mapnorm1", "3x3 α=5e-05/9 β=0.75")])
def test_alpha_is_printed_with_what_divides_it(name, layer, constants):
    assert constants in as_printed(explanation_table(explain(arch(name))))
    assert next(each.constants for each in explain(arch(name)).layers if each.name == layer) == constants


@pytest.mark.parametrize(("arguments", "expected"), [
    (["paper"], ["2 x 48x55x55", "60,965,224 parameters", "ceil 55"]),
    (["torchvision"], ["64x55x55", "61,100,840 parameters"]),
    (["paper", "--layer", "conv1"], ["54.25, ceil 55   <- here", "an input of 227 gives 55", "34,944", "253,440"]),
    (["torchvision", "--layer", "conv1", "--size", "227"], ["= 56"]),
    (["paper", "--layer", "norm1"], ["in      2 x 48x55x55", "out     2 x 48x55x55", "= 1.16 MB"]),
    (["paper"], ["conv1: 96 filters on 2 GPUs: 48x55x55 on each.", "conv2: grouped convolution: each of 2 towers reads",
                 "conv3: both towers read all 256 maps: the GPUs exchange them here.", "α=0.0001 β"]),
    # bvlc_alexnet/train_val.prototxt: conv2 has group: 2; lrn_layer.cpp divides alpha by local_size: 5.
    (["caffe"], ["pool1     96x27x27", "conv2: grouped convolution: each of 2 groups reads its own 48 of the 96 maps.",
                 "conv3: not grouped: every filter reads all 256 maps.", "k=1 n=5 α=0.0001/5 β=0.75"]),
    (["paper", "--layer", "fc8"], ["1,000 units x 4 bytes = 4.00 KB"]),
])
def test_the_command_prints_the_explanation(arguments, expected):
    printed = subprocess.run([sys.executable, "-m", "alexnet", "explain", *arguments], capture_output=True, text=True,
                             check=True, env=os.environ | {"COLUMNS": "120"}).stdout
    for words in expected:
        assert words in printed
