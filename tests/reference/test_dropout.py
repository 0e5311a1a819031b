"""Dropout (§4.2): where it acts, its scale, and the independence of its masks."""

import math

import numpy as np
import pytest
import torch
from comparing import assert_agrees, numbers
from numpy_networks import assert_network_agrees, network, small_network
from torch import Tensor, nn

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.models.alexnet import AlexNet


def record_dropout_masks(network: AlexNet) -> list[Tensor]:
    """Record each dropout's mask of the next forward pass: its output for ones, with the same random state."""
    masks = []

    def before(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        state = torch.get_rng_state()
        masks.append(layer.forward(torch.ones_like(inputs[0])))
        torch.set_rng_state(state)

    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.register_forward_pre_hook(before)
    return masks


@pytest.mark.parametrize(("name", "units"), [("paper", [24, 24]), ("torchvision", [16 * 6 * 6, 24])])
def test_dropout_acts_on_the_outputs_of_hidden_layers_in_torchvision_on_their_inputs(name, units):
    rng = np.random.default_rng(0)
    ours, weights = small_network(name, rng)
    masks = record_dropout_masks(ours)
    x = numbers(rng, 8, 3, ours.arch.input.crop, ours.arch.input.crop, scale=60)
    pixels = torch.tensor(x, requires_grad=True)
    logits = ours.train()(pixels)
    assert [mask.shape for mask in masks] == [(8, width) for width in units]
    assert {value for mask in masks for value in mask.unique().tolist()} == {0.0, 2.0}
    assert_network_agrees(ours, pixels, logits, network(name, x, weights, tuple(mask.numpy() for mask in masks)))


def test_dropout_equals_the_papers_which_halves_the_outputs_at_test_time():
    # §4.2 zeroes with probability 0.5 and multiplies by 0.5 at test time. The package doubles the kept units in
    # training instead. That is the same network with half the weights after each dropout.
    rng = np.random.default_rng(0)
    ours, weights = small_network("paper", rng)
    masks = record_dropout_masks(ours)
    x = numbers(rng, 8, 3, 74, 74, scale=60)
    papers_weights = [*weights[:12], 2 * weights[12], weights[13], 2 * weights[14], weights[15]]  # of fc7 and fc8
    training = ours.train()(torch.from_numpy(x))
    zeroed = tuple(mask.bool().double().numpy() for mask in masks)
    assert_agrees(training, network("paper", x, papers_weights, zeroed)[0], 1e-10)
    halved = (np.full((8, 24), 0.5),) * 2
    assert_agrees(ours.eval()(torch.from_numpy(x)), network("paper", x, papers_weights, halved)[0], 1e-10)


@pytest.mark.parametrize("name", ["paper", "torchvision"])
def test_dropout_keeps_half_of_the_units_independently(name):
    ours = AlexNet(override(arch(name), ["conv.width=16", "dense.width=64", "classes=2"])).train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = (layer(torch.ones(400, 500)).bool().double()
                         for layer in ours.classifier if isinstance(layer, nn.Dropout))
    for coins in (first, second):
        assert abs(coins.mean().item() - 0.5) < 5 * 0.5 / math.sqrt(coins.numel())
    # Neighbors in a layer, images in a batch, and the two layers agree half of the time.
    for one, other in ((first[:, 1:], first[:, :-1]), (first[1:], first[:-1]), (first, second)):
        assert abs((one == other).double().mean().item() - 0.5) < 5 * 0.5 / math.sqrt(one.numel())
