"""Values of layers that symmetric settings hide: dropout with other probabilities than one half."""

import pytest
import torch
from torch import nn

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.models.alexnet import AlexNet


@pytest.mark.parametrize("name", ["paper", "torchvision"])
@pytest.mark.parametrize("probability", [0.2, 0.7])
def test_dropout_zeroes_units_with_the_probability_that_is_set_and_enlarges_the_others(name, probability):
    network = AlexNet(override(arch(name), ["conv.width=16", "dense.width=64", "classes=2", f"dropout={probability}"]))
    layers = [layer for layer in network.train().classifier if isinstance(layer, nn.Dropout)]
    assert len(layers) == 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for layer in layers:
            outputs = layer(torch.ones(400, 500))
            assert (outputs == 0).double().mean().item() == pytest.approx(probability, abs=0.005)
            assert outputs.max().item() == pytest.approx(1 / (1 - probability))
            assert outputs.mean().item() == pytest.approx(1, abs=0.02)
