"""The NumPy network computes what the torch network does: each layer at random shapes, random networks, all presets."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from alexnet.architecture.network_presets import ARCHS, arch
from alexnet.architecture.overrides import override
from alexnet.architecture.spec import LRN, Conv, MapLRN
from alexnet.errors import UserError
from alexnet.models import numpy_network
from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import CeilConv2d, MapNorm
from alexnet.models.numpy_network import NumpyNetwork, state_prefixes
from alexnet.models.response_norm import ResponseNorm
from random_networks import random_arch
from weight_files import narrow

pytestmark = pytest.mark.usefixtures("one_thread")

SEEDS = range(25)


def assert_close(got: np.ndarray, expected: torch.Tensor) -> None:
    """Same shape, still float32, and equal to 1e-5 of the largest value."""
    wanted = expected.detach().numpy()
    assert got.dtype == np.float32
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))


def maps(rng: np.random.Generator, channels: int) -> np.ndarray:
    return rng.normal(0, 3, (2, channels, *rng.integers(9, 20, 2))).astype(np.float32)


# --- Layers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_convolution_of_any_stride_padding_dilation_groups_and_rounding(seed, rounding):
    rng = np.random.default_rng(seed)
    groups, kernel, stride, padding = (int(rng.choice(each)) for each in (
        [1, 2, 3], [1, 2, 3, 5], [1, 2, 3, 4], [0, 1, 2]))
    conv = Conv(6, kernel, stride, padding, dilation=int(rng.choice([1, 2])))
    layer = (CeilConv2d if rounding == "ceil" else nn.Conv2d)(6, 6, kernel, stride, padding, conv.dilation, groups)
    x = maps(rng, 6)
    got = numpy_network.convolve(x, layer.weight.detach().numpy(), layer.bias.detach().numpy(), conv, groups, rounding)
    assert_close(got, layer(torch.from_numpy(x)))


def test_a_convolution_by_hand():
    """3x3 pixels 0 to 8, the kernel [[1, 2], [3, 4]], bias 10: 0 + 2 + 9 + 16 + 10 at the top left."""
    x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    weight = np.array([[[[1, 2], [3, 4]]]], np.float32)
    got = numpy_network.convolve(x, weight, np.array([10], np.float32), Conv(1, 2))
    assert got.tolist() == [[[[37, 47], [67, 77]]]]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_max_and_average_pooling_with_windows_beyond_the_edge(seed, rounding):
    rng = np.random.default_rng(seed)
    kernel, stride, x = int(rng.integers(1, 5)), int(rng.integers(1, 5)), maps(rng, 3)
    for function, layer in ((numpy_network.max_pool, nn.MaxPool2d), (numpy_network.average_pool, nn.AvgPool2d)):
        expected = layer(kernel, stride, ceil_mode=rounding == "ceil")(torch.from_numpy(x))
        assert_close(function(x, kernel, stride, rounding), expected)


@pytest.mark.parametrize("side", [1, 2, 6, 9])
def test_adaptive_average_pooling(side):
    x = maps(np.random.default_rng(side), 4)
    assert_close(numpy_network.adaptive_average_pool(x, side), F.adaptive_avg_pool2d(torch.from_numpy(x), side))


@pytest.mark.parametrize("lrn", [
    LRN(), LRN(k=1, n=3, alpha=0.1, beta=0.5, divide_by_n=True), LRN(within_tower=True, alpha=1)])
@pytest.mark.parametrize("towers", [1, 2])
def test_response_normalization_across_maps_and_within_towers(lrn, towers):
    x = 100 * maps(np.random.default_rng(towers), 8)
    assert_close(numpy_network.response_norm(x, lrn, towers), ResponseNorm(lrn, 8, towers)(torch.from_numpy(x)))


@pytest.mark.parametrize("side", [1, 3, 5])
def test_normalization_within_a_map(side):
    x = 30 * maps(np.random.default_rng(side), 4)
    lrn = MapLRN(side=side)
    assert_close(numpy_network.map_norm(x, lrn), MapNorm(lrn)(torch.from_numpy(x)))


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(4), nn.BatchNorm1d(4)])
def test_batch_normalization_of_maps_and_of_units(layer):
    x = maps(np.random.default_rng(0), 4)
    x = x if isinstance(layer, nn.BatchNorm2d) else x[..., 0, 0]
    for each, low in (layer.weight, -1), (layer.bias, -1), (layer.running_mean, -1), (layer.running_var, 0):
        nn.init.uniform_(each, low, 2)
    state = {key: tensor.numpy() for key, tensor in layer.state_dict().items() if tensor.ndim}
    assert_close(numpy_network.batch_norm(x, **state), layer.eval()(torch.from_numpy(x)))


@pytest.mark.parametrize(("name", "function"), [("relu", torch.relu), ("tanh", torch.tanh), ("sigmoid", torch.sigmoid)])
def test_activations_also_of_large_values(name, function):
    x = np.array([-1e4, -90, -1, 0, 1, 90, 1e4], np.float32)
    assert_close(numpy_network.activate(x, name), function(torch.from_numpy(x)))


def test_softmax_of_large_logits():
    x = np.array([[1000, 999, -1000], [0, 0, 0]], np.float32)
    assert_close(numpy_network.softmax(x), torch.from_numpy(x).softmax(1))


# --- Networks ---------------------------------------------------------------------------------------------------------


def assert_same_network(network: AlexNet, views: torch.Tensor, tolerance: float = 1e-5) -> None:
    state = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    with torch.inference_mode():
        expected = network.eval()(views).numpy()
    got = NumpyNetwork(network.arch, state, network.temperature)(views.numpy())
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("seed", range(40))
def test_random_networks(seed):
    rng, torch_rng = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    while True:
        spec = random_arch(rng)
        try:
            network = AlexNet(spec, seed, temperature=1.7)
            break
        except UserError:  # the input is too small for the layers
            continue
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=torch_rng) * 0.4 + (0.6 if "running_var" in key else -0.2))
    assert_same_network(network, torch.randn(3, 3, 64, 64, generator=torch_rng))


@pytest.mark.parametrize("name", ARCHS)
def test_every_preset(name):
    saved = narrow(name)
    side = saved.arch.input.crop
    assert_same_network(saved.network(), 50 * torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("name", ARCHS)
@pytest.mark.parametrize("keys", ["names", "torchvision"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_keys_are_those_of_the_state_dict(name, keys, dropout):
    spec = override(arch(name), [f"state_keys={keys}", f"dropout={dropout}"])
    with torch.device("meta"):
        theirs = AlexNet(spec, seed=None).state_dict()
    assert {key.rpartition(".")[0] for key in theirs} == {*state_prefixes(spec).values()}
    weighted = [key.removesuffix(".weight") for key in theirs if key.endswith(".weight")]
    assert weighted == [*state_prefixes(spec).values()]  # in order


def test_a_missing_or_misshapen_tensor_is_refused():
    saved = narrow("small")
    state = {key: tensor.numpy() for key, tensor in saved.weights.items()}
    with pytest.raises(KeyError, match=r"features\.conv2\.bias"):
        NumpyNetwork(saved.arch, {key: value for key, value in state.items() if key != "features.conv2.bias"})
    with pytest.raises(ValueError, match=r"conv1\.weight is float32 \(8, 3, 1, 1\)"):
        NumpyNetwork(saved.arch, state | {"features.conv1.weight": np.zeros((8, 3, 1, 1), np.float32)})
    with pytest.raises(ValueError, match=r"conv1\.bias is float64"):
        NumpyNetwork(saved.arch, state | {"features.conv1.bias": np.zeros(8)})
