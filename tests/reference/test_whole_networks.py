"""Whole networks, forward and backward, against NumPy, torchvision and torchinfo."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from comparing import assert_agrees, numbers
from numpy_networks import PUBLISHED, assert_network_agrees, network, small_network
from torch import nn

import peers
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import ARCHS, arch
from alexnet.models.alexnet import AlexNet


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_network_equals_its_published_layers_forward_and_backward(name):
    rng = np.random.default_rng(0)
    ours, weights = small_network(name, rng)
    x = numbers(rng, 3, 3, ours.arch.input.crop, ours.arch.input.crop, scale=60)
    pixels = torch.tensor(x, requires_grad=True)
    assert_network_agrees(ours, pixels, ours.eval()(pixels), network(name, x, weights))


@pytest.fixture(scope="module")
def torchvision_pair() -> tuple[AlexNet, nn.Module]:
    """The package's network, and torchvision's network with the same weights."""
    vision = peers.torchvision()
    ours = AlexNet(arch("torchvision"), seed=1)
    with torch.device("meta"):
        theirs = vision.models.alexnet(weights=None)
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)
    return ours, theirs


def test_torchvisions_alexnet_has_our_logits(torchvision_pair):
    ours, theirs = (each.eval() for each in torchvision_pair)
    for side in (224, 63, 259):
        x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(side))
        with torch.inference_mode():
            assert_agrees(ours(x), theirs(x).double().numpy(), 1e-6)


def test_torchvisions_alexnet_has_our_dropout_masks_and_gradients(torchvision_pair):
    gradients = []
    for each in torchvision_pair:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            loss = F.cross_entropy(each.train()(torch.randn(2, 3, 224, 224)), torch.tensor([3, 907]))
        parameters = {name: p for name, p in each.named_parameters() if p.ndim != 2}  # the large matrices take seconds
        gradients.append(dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True)))
    ours, theirs = gradients
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert_agrees(ours[name], gradient.double().numpy(), 1e-5, name)


def test_torchvisions_layers_are_ours_except_for_inplace(torchvision_pair):
    ours, theirs = ([str(layer).replace("inplace=True", "") for part in (each.features, each.classifier)
                     for layer in part] for each in torchvision_pair)
    assert ours == theirs


@pytest.mark.parametrize("name", ARCHS)
def test_torchinfo_counts_the_same_parameters_and_multiply_adds_as_explain(name):
    network = arch(name)
    with torch.device("meta"):
        ours = AlexNet(network)
    summary = peers.torchinfo().summary(ours, (1, 3, network.input.crop, network.input.crop), device="meta", verbose=0)
    explanation = explain(network)
    assert summary.total_params == explanation.parameters
    theirs = {info.layer_id: info for info in summary.summary_list}
    extra = 0
    for layer in explanation.layers:
        info = theirs[id(ours.named_layer(layer.name))]
        assert tuple(info.output_size[1:]) == layer.output_shape, layer.name
        assert info.num_params == layer.parameters, layer.name
        # torchinfo counts a bias as one more multiply-add per output, and batch norm's parameters once per image.
        counted_besides = layer.neurons if layer.multiply_adds else layer.parameters
        assert info.macs == layer.multiply_adds + counted_besides, layer.name
        extra += counted_besides
    assert summary.total_mult_adds == explanation.multiply_adds + extra
    if name == "paper":
        assert extra == 659_272  # its neurons (§3.5): each adds one bias
