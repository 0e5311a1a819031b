"""Batch normalization's statistics are those of the given images, whatever they were before."""

import torch

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.models.alexnet import AlexNet
from alexnet.models.reestimate_batch_norm import reestimate_batch_norm

NETWORK = override(arch("small"), ["input.side=32", "input.crop=28", "conv.width=8", "dense.width=16", "classes=4"])


def test_the_first_norm_has_the_mean_and_the_variance_of_its_inputs():
    network, batches = AlexNet(NETWORK, seed=0).eval(), torch.randn(3, 16, 3, 28, 28) * 2 + 1
    norm = network.features.norm1
    norm.running_mean.fill_(9.0)
    weights = [parameter.clone() for parameter in network.parameters()]
    reestimate_batch_norm(network, batches)
    with torch.no_grad():
        maps = network.features.conv1(batches.flatten(0, 1))
        each = network.features.conv1(batches.flatten(0, 1)).unflatten(0, (3, 16))
    torch.testing.assert_close(norm.running_mean, maps.mean((0, 2, 3)), atol=1e-4, rtol=1e-4)
    expected = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in each]).mean(0)
    torch.testing.assert_close(norm.running_var, expected, atol=1e-4, rtol=1e-4)
    assert not network.training
    assert norm.momentum == 0.1
    assert all(torch.equal(before, after) for before, after in zip(weights, network.parameters(), strict=True))


def test_later_norms_see_what_the_first_gives_in_training_and_dropout_stays_off():
    network, batch = AlexNet(NETWORK, seed=0), torch.randn(32, 3, 28, 28)
    reestimate_batch_norm(network, [batch])
    first = network.features.norm2.running_mean.clone()
    reestimate_batch_norm(network, [batch])
    assert torch.equal(first, network.features.norm2.running_mean)
    assert network.training
