"""Receptive fields of `explain`, as far as they lie in the image: against hand computation and against gradients."""

import io

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import ARCHS, arch
from alexnet.architecture.overrides import override
from alexnet.cli.render import explanation_table
from alexnet.models.alexnet import AlexNet


def columns_seen(network: AlexNet, name: str, size: int) -> list[tuple[int, int]]:
    """First and last column of the image from which each unit of a layer's middle row gets a gradient.

    Average pooling stands for max pooling, and no activation cuts, so that every pixel of a window has a gradient.
    """
    for layer in map(network.named_layer, network.layer_names()):
        if isinstance(layer, torch.nn.MaxPool2d):
            layer.forward = lambda x, layer=layer: F.avg_pool2d(
                x, layer.kernel_size, layer.stride, ceil_mode=layer.ceil_mode)
        elif isinstance(layer, torch.nn.ReLU):
            layer.forward = lambda x: x
    seen = {}
    network.named_layer(name).register_forward_hook(lambda *call: seen.update(out=call[-1]))
    pixels = torch.rand(1, 3, size, size, requires_grad=True)
    network(pixels)
    row, found = seen["out"].shape[2] // 2, []
    for column in range(seen["out"].shape[3]):
        gradient, = torch.autograd.grad(seen["out"][0, :, row, column].sum(), pixels, retain_graph=True)
        touched = (gradient[0].abs().sum((0, 1)) > 0).nonzero().flatten()
        found.append((int(touched[0]), int(touched[-1])))
    return found


@pytest.mark.parametrize(("preset", "size", "layers"), [
    ("code2012", 224, ("conv1", "mapnorm2", "conv5", "pool5")), ("code2012", 129, ("pool2", "conv5")),
    ("paper-conv6", 224, ("pool5", "conv6")), ("torchvision", 224, ("pool5", "average_pool")),
    ("caffe", 229, ("conv1", "pool5")), ("cifar", 28, ("conv2", "conv3", "pool3")),
    ("small", 56, ("conv3", "conv4", "pool5"))])
def test_the_field_is_what_the_widest_unit_sees_of_the_image(preset, size, layers):
    narrow = [] if preset in ("small", "cifar") else ["conv.width=4", "dense.width=8"]
    its = override(arch(preset), [*narrow, f"input.crop={size}", f"input.side={size}", "dropout=0"])
    network, explained = AlexNet(its).eval(), {layer.name: layer for layer in explain(its).layers}
    for name in layers:
        fields = columns_seen(network, name, size)
        assert explained[name].receptive_field == max(last - first + 1 for first, last in fields), name
    if name in ("pool5", "conv6", "pool3"):  # the last maps: the fully connected layers see all that they see
        dense = next(layer for layer in explained.values() if layer.kind == "fully connected")
        assert dense.receptive_field == max(last for _, last in fields) - min(first for first, _ in fields) + 1


def test_pool5_of_code2012_covers_227_pixels_of_which_211_are_image():
    """Its units begin at -80, -48, -16, 16, ...: by paddings of 2 x 8 twice (conv2, 5x5 norm) and 3 x 16.

    The third ends at -16 + 227 = 211, and the fourth sees 16 to 224: 208.
    """
    layers = {layer.name: layer for layer in explain(arch("code2012")).layers}
    pool5 = layers["pool5"]
    assert (pool5.begin, pool5.jump, pool5.receptive_field_with_padding, pool5.receptive_field) == (-80, 32, 227, 211)
    assert pool5.receptive_field_worked == "195 + (3 - 1) x 16 = 227"
    assert layers["fc6"].receptive_field == 224
    console = Console(width=80, file=io.StringIO(), highlight=False)
    console.print(explanation_table(explain(arch("code2012")), "pool5"))
    assert "field   227x227 input pixels, 32 pixels from one unit to the next" in console.file.getvalue()
    assert "of which at most 211x211 lie in the image" in console.file.getvalue()


@pytest.mark.parametrize("name", ARCHS)
def test_no_layer_sees_more_than_the_image_and_none_less_than_the_layer_before(name):
    explanation = explain(arch(name))
    fields = [layer.receptive_field for layer in explanation.layers]
    assert fields == sorted(fields)
    assert fields[-1] == arch(name).input.crop


def test_columns_that_rounding_down_leaves_out_are_not_seen():
    """(229 - 11) / 4 leaves out two columns of Caffe's conv1."""
    assert {layer.name: layer.receptive_field for layer in explain(arch("caffe"), 229).layers}["fc6"] == 227
