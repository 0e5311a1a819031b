"""Initial weights and biases (§5, and the other sources): mean, deviation, distribution, independence."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from comparing import ks_distance, normal
from numpy_layers import Array
from torch import nn

from alexnet.architecture.network_presets import ARCHS, arch
from alexnet.architecture.overrides import override
from alexnet.models.alexnet import AlexNet

#: Standard deviation of the weights and the biases, conv1 to the last layer (§5; code2012, of which paper-conv6
#: has conv6 from layers-146-2012-2011.cfg; Caffe's two models; layers-18pct.cfg of cuda-convnet; `cifar` is ours).
_ONES = (0, 1, 0, 1, 1, 1, 1, 0)


GAUSSIAN = {
    "paper": ((0.01,) * 8, _ONES),
    "paper-conv6": ((0.01,) * 5 + (0.03,) + (0.01,) * 3, (0, 1, 0, 1, 1, 1, 1, 1, 0)),
    "one-gpu": ((0.01,) * 8, _ONES),
    "code2012": ((0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01), _ONES),
    "code2010": ((0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01), _ONES),
    "caffe": ((0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01), (0, 0.1, 0, 0.1, 0.1, 0.1, 0.1, 0)),
    "caffenet": ((0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01), _ONES),
    "cifar-18pct": ((0.0001, 0.01, 0.01, 0.01), (0, 0, 0, 0)),
    "cifar": ((0.0001, 0.01, 0.01, 0.1), (0, 0, 0, 0)),
}


def initialized_layers(name: str) -> list[tuple[str, Array, Array]]:
    """Name, weights and biases of each layer of the preset, with fewer fully connected units."""
    ours = AlexNet(override(arch(name), ["classes=60", *(["dense.width=200"] if arch(name).dense else [])]), seed=7)
    return [(layer, module.weight.detach().double().numpy(), module.bias.detach().double().numpy())
            for layer, module in ours.weight_layers()]


def assert_distribution(
    sample: Array, deviation: float, kurtosis: float, distribution: Callable[[Array], Array],
) -> None:
    """Assert mean 0, the standard deviation, the kurtosis and the distribution, within about five standard errors.

    Of n draws with deviation s and kurtosis q the mean has standard error s / sqrt(n), and the sample's deviation
    s sqrt((q - 1) / 4n); the kurtosis of normal draws has sqrt(24 / n), and of uniform ones less.
    """
    sample, n = sample.ravel(), sample.size
    assert abs(sample.mean()) < 5 * deviation / math.sqrt(n)
    assert abs(sample.std() - deviation) < 5 * deviation * math.sqrt((kurtosis - 1) / (4 * n))
    assert abs(((sample / sample.std()) ** 4).mean() - kurtosis) < 5 * math.sqrt(24 / n)
    some = sample[:100_000]
    assert ks_distance(some / deviation, distribution) < 2.4 / math.sqrt(len(some))


@pytest.mark.parametrize("name", GAUSSIAN)
def test_each_layer_has_the_published_standard_deviation_and_biases(name):
    for (layer, weights, biases), init_std, bias in zip(initialized_layers(name), *GAUSSIAN[name], strict=True):
        assert_distribution(weights, init_std, 3.0, normal)
        assert (biases == np.float32(bias)).all(), layer


def uniform(z: Array) -> Array:
    """Cumulative distribution of a uniform number with mean 0 and deviation 1: between -sqrt(3) and sqrt(3)."""
    return np.clip(0.5 + z / math.sqrt(12), 0, 1)


def test_torchvision_weights_and_biases_are_uniform_within_one_over_sqrt_fan_in():
    for layer, weights, biases in initialized_layers("torchvision"):
        bound = 1 / math.sqrt(weights[0].size)
        assert_distribution(weights, bound / math.sqrt(3), 1.8, uniform)
        assert np.abs(weights).max() <= bound * (1 + 1e-6), layer
        assert np.abs(biases).max() <= bound * (1 + 1e-6), layer
        assert ks_distance(biases * math.sqrt(3) / bound, uniform) < 2.4 / math.sqrt(len(biases)), layer


def test_torchs_default_initialization_is_torchvisions():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(192, 384, 3), nn.Linear(9216, 60)]
    for layer in layers:
        weights = layer.weight.detach().double().numpy()
        assert_distribution(weights, 1 / math.sqrt(3 * weights[0].size), 1.8, uniform)


@pytest.mark.parametrize("name", ["paper-bn", "torchvision-bn", "small", "medium"])
def test_networks_with_batch_norm_have_variance_two_over_fan_in(name):
    *hidden, (_, output, output_biases) = initialized_layers(name)
    for layer, weights, biases in hidden:
        assert_distribution(weights, math.sqrt(2 / weights[0].size), 3.0, normal)
        assert (biases == 0).all(), layer
    assert_distribution(output, 0.01, 3.0, normal)
    assert (output_biases == 0).all()


def test_every_preset_has_an_initialization_test():
    assert {*GAUSSIAN, "torchvision", "paper-bn", "torchvision-bn", "small", "medium"} == set(ARCHS)


@pytest.mark.parametrize("name", ["paper", "torchvision", "small"])
def test_no_two_layers_have_the_same_random_numbers(name):
    beginnings = [weights.ravel()[:5000] for _, weights, _ in initialized_layers(name) if weights.size >= 5000]
    correlations = np.corrcoef(beginnings) - np.eye(len(beginnings))
    assert len(beginnings) >= 5
    assert np.abs(correlations).max() < 5 / math.sqrt(5000)
