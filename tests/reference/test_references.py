"""Each layer, rule and view against plain NumPy written from its formula, and against peers that compute the same.

The references work in float64 and know nothing of torch. Each gives its output and its way back: a function from the
gradient of the output to the gradients of all that went in. Relative error is the largest difference over the largest
value of the reference. Sources: §N, a section of the paper; code2012, the configuration and code of 2012; Caffe and
torchvision, their models. Shapes: N images, C maps or channels, H rows, W columns, O kernels or units,
K classes, V views.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call

import peers
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.overrides import override
from alexnet.architecture.presets import ARCHS, arch, recipe
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import LRN, InputSpec
from alexnet.data import images
from alexnet.data.augmentation import lighting_basis
from alexnet.data.preprocessing import Preprocess
from alexnet.inference.evaluate import probabilities
from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import CeilConv2d, MapNorm
from alexnet.models.response_norm import ResponseNorm
from alexnet.training.optimizer import SGD
from alexnet.training.schedule import Plateau, conv1_rate, learning_rate

Array = NDArray[np.float64]
Back = Callable[[Array], tuple[Array, ...]]
"""From the gradient of an output to the gradients of what it was made from."""

ROUND = {"floor": math.floor, "ceil": math.ceil}

#: §3.3 as printed; code2012, which divides alpha by n; Caffe, which leaves k = 1 besides.
LRN_PAPER = {"k": 2.0, "n": 5, "alpha": 1e-4, "beta": 0.75}
LRN_CODE2012 = {**LRN_PAPER, "alpha": 1e-4 / 5}
LRN_CAFFE = {**LRN_CODE2012, "k": 1.0}

many_shapes = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Layers this small gain nothing from threads, and on a busy machine wait for them five times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --- References: the layers ---


def convolution(
    x: Array, w: Array, b: Array, stride: int = 1, padding: int = 0, groups: int = 1, rounding: str = "floor",
) -> tuple[Array, Back]:
    """y[o, r, c] = b[o] + sum of w[o, i, u, v] x[i, stride r + u - padding, stride c + v - padding] (§3.5).

    i runs over the maps of o's group; beyond its edges x is 0. A side has (side + 2 padding - kernel) / stride + 1,
    rounded, outputs.
    """
    (samples, maps, height, width), (kernels, _, kernel, _) = x.shape, w.shape
    rows, columns = (1 + ROUND[rounding]((side + 2 * padding - kernel) / stride) for side in (height, width))
    canvas = np.zeros((samples, maps, height + 2 * padding + stride, width + 2 * padding + stride))
    inside = np.s_[:, :, padding:padding + height, padding:padding + width]
    canvas[inside] = x
    w_GOCUV = w.reshape(groups, kernels // groups, -1, kernel, kernel)

    def seen_through(u: int, v: int) -> tuple[slice, ...]:
        return np.s_[:, :, u:u + stride * rows:stride, v:v + stride * columns:stride]

    def by_group(a: Array) -> Array:
        return a.reshape(samples, groups, -1, rows, columns)

    y = np.zeros((samples, kernels, rows, columns)) + b[:, None, None]
    for u, v in np.ndindex(kernel, kernel):
        tap = np.einsum("ngcrs,goc->ngors", by_group(canvas[seen_through(u, v)]), w_GOCUV[..., u, v])
        y += tap.reshape(y.shape)

    def back(dy: Array) -> tuple[Array, ...]:
        dcanvas, dw = np.zeros_like(canvas), np.zeros_like(w_GOCUV)
        for u, v in np.ndindex(kernel, kernel):
            dtap = np.einsum("ngors,goc->ngcrs", by_group(dy), w_GOCUV[..., u, v])
            dcanvas[seen_through(u, v)] += dtap.reshape(samples, maps, rows, columns)
            dw[..., u, v] = np.einsum("ngors,ngcrs->goc", by_group(dy), by_group(canvas[seen_through(u, v)]))
        return dcanvas[inside], dw.reshape(w.shape), dy.sum((0, 2, 3))

    return y, back


def max_pooling(x: Array, kernel: int, stride: int, rounding: str) -> tuple[Array, Back]:
    """The largest of each window (§3.4). By the ceiling a window may be cut off at the edge, but begins inside."""
    samples, maps, *sides = x.shape
    rows, columns = (min(1 + ROUND[rounding]((side - kernel) / stride), len(range(0, side, stride))) for side in sides)
    windows = {(r, c): np.s_[:, :, r * stride:r * stride + kernel, c * stride:c * stride + kernel]
               for r, c in np.ndindex(rows, columns)}
    y = np.empty((samples, maps, rows, columns))
    for (r, c), window in windows.items():
        y[:, :, r, c] = x[window].max((2, 3))

    def back(dy: Array) -> tuple[Array, ...]:
        dx = np.zeros_like(x)
        for (r, c), window in windows.items():
            flat = x[window].reshape(samples, maps, -1)
            largest = np.arange(flat.shape[-1]) == flat.argmax(-1)[..., None]
            dx[window] += largest.reshape(x[window].shape) * dy[:, :, r, c, None, None]
        return (dx,)

    return y, back


def average_pooling(x: Array, side: int) -> tuple[Array, Back]:
    """Output i of m is the mean of inputs floor(i n / m) to ceil((i + 1) n / m), along rows and columns alike."""
    down, across = (np.zeros((side, length)) for length in x.shape[2:])
    for share in (down, across):
        for i, row in enumerate(share):
            low, high = math.floor(i * len(row) / side), math.ceil((i + 1) * len(row) / side)
            row[low:high] = 1 / (high - low)
    return down @ x @ across.T, lambda dy: (down.T @ dy @ across,)


def response_norm(x: Array, k: float, n: int, alpha: float, beta: float, towers: int = 1) -> tuple[Array, Back]:
    """b_i = a_i / S_i^beta with S_i = k + alpha * sum of a_j^2 over the n maps j around i, of i's own tower (§3.3)."""
    maps = x.shape[1]
    near = [[j for j in range(maps) if abs(i - j) <= n // 2 and j * towers // maps == i * towers // maps]
            for i in range(maps)]

    def total(a: Array) -> Array:
        return np.stack([a[:, js].sum(1) for js in near], axis=1)

    sums = k + alpha * total(x**2)

    def back(db: Array) -> tuple[Array, ...]:
        # db_i / da_j = [i = j] S_i^-beta - 2 alpha beta a_j a_i S_i^-(beta + 1), and j is near i where i is near j.
        return (db * sums**-beta - 2 * alpha * beta * x * total(db * x * sums ** -(beta + 1)),)

    return x * sums**-beta, back


def map_norm(x: Array) -> tuple[Array, Back]:
    """b = a / S^0.75 with S = 1 + 0.001 / 25 * sum of a^2 over the 5x5 window around a in its own map (code2012)."""
    def total(a: Array) -> Array:
        wide = np.pad(a, ((0, 0), (0, 0), (2, 2), (2, 2)))
        return np.lib.stride_tricks.sliding_window_view(wide, (5, 5), (2, 3)).sum((-2, -1))

    share = 0.001 / 25
    sums = 1 + share * total(x**2)
    return x * sums**-0.75, lambda db: (db * sums**-0.75 - 1.5 * share * x * total(db * x * sums**-1.75),)


def relu(x: Array) -> tuple[Array, Back]:
    """max(0, x) (§3.1)."""
    return np.maximum(x, 0), lambda dy: (dy * (x > 0),)


def dense(x: Array, w: Array, b: Array) -> tuple[Array, Back]:
    """y = W x + b, of maps laid in a row."""
    flat = x.reshape(len(x), -1)
    return flat @ w.T + b, lambda dy: ((dy @ w).reshape(x.shape), dy.T @ flat, dy.sum(0))


def dropout(x: Array, mask: Array) -> tuple[Array, Back]:
    """Each unit times its place in the mask (§4.2)."""
    mask = mask.reshape(x.shape)
    return x * mask, lambda dy: (dy * mask,)


def softmax(logits: Array) -> Array:
    """exp(z_k) / sum of exp(z)."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


# --- References: the networks ---


@dataclass(frozen=True)
class Published:
    """A network as its source has it, in words and numbers."""

    layers: str
    """In order; `fc` lays maps in a row first."""
    groups: tuple[int, ...] = (1, 2, 1, 2, 2)
    padding: tuple[int, ...] = (0, 2, 1, 1, 1)
    stride: tuple[int, ...] = (4, 1, 1, 1, 1)
    rounding: str = "ceil"
    pool_rounding: str = "ceil"
    norm: dict[str, float] = field(default_factory=dict)
    towers: int = 1
    """Towers in which response normalization stays."""
    side: int = 74
    """An input at which all roundings matter that the network has."""


_DENSE = "fc relu drop  fc relu drop  fc"
_PAPER = f"conv relu norm pool  conv relu norm pool  conv relu  conv relu  conv relu pool  {_DENSE}"

PUBLISHED = {
    "paper": Published(_PAPER, norm=LRN_PAPER, towers=2),
    "paper-conv6": Published(
        _PAPER.replace("pool  fc", "pool  conv relu  fc"), norm=LRN_PAPER, towers=2,
        groups=(1, 2, 1, 2, 2, 2), padding=(0, 2, 1, 1, 1, 1), stride=(4, 1, 1, 1, 1, 1)),
    "code2012": Published(
        f"conv norm pool relu  conv relu norm mapnorm pool  conv relu  conv relu  conv relu pool  {_DENSE}",
        norm=LRN_CODE2012, towers=2),
    "caffe": Published(_PAPER, norm=LRN_CAFFE, rounding="floor"),
    "caffenet": Published(
        f"conv relu pool norm  conv relu pool norm  conv relu  conv relu  conv relu pool  {_DENSE}",
        norm=LRN_CAFFE, rounding="floor"),
    "one-gpu": Published(_PAPER, norm=LRN_PAPER, groups=(1,) * 5),
    "torchvision": Published(
        "conv relu pool  conv relu pool  conv relu  conv relu  conv relu pool  average  drop fc relu  drop fc relu  fc",
        groups=(1,) * 5, padding=(2, 2, 1, 1, 1), rounding="floor", pool_rounding="floor", side=165),
}


def network(name: str, x: Array, weights: list[Array], masks: tuple[Array, ...] | None = None) -> tuple[Array, Back]:
    """Logits, and the way back to the pixels and to each weight. Without masks dropout does nothing, as at test."""
    published, remaining, drawn = PUBLISHED[name], iter(weights), iter(masks or ())
    geometry = zip(published.stride, published.padding, published.groups, strict=True)
    backs = []
    for word in published.layers.split():
        match word:
            case "conv":
                x, back = convolution(x, next(remaining), next(remaining), *next(geometry), published.rounding)
            case "relu":
                x, back = relu(x)
            case "norm":
                x, back = response_norm(x, **published.norm, towers=published.towers)
            case "mapnorm":
                x, back = map_norm(x)
            case "pool":
                x, back = max_pooling(x, 3, 2, published.pool_rounding)
            case "average":
                x, back = average_pooling(x, 6)
            case "fc":
                x, back = dense(x, next(remaining), next(remaining))
            case "drop" if masks is None:
                continue
            case "drop":
                x, back = dropout(x, next(drawn))
        backs.append(back)

    def way_back(dy: Array) -> tuple[Array, ...]:
        gradients: list[Array] = []
        for step in reversed(backs):
            dy, *of_weights = step(dy)
            gradients = [*of_weights, *gradients]
        return dy, *gradients

    return x, way_back


# --- Comparing ---


def numbers(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Array:
    """Normal draws that float32 holds exactly, so that both precisions are given the same numbers."""
    return rng.normal(0, scale, shape).astype(np.float32).astype(np.float64)


def assert_agrees(ours: Tensor | Array, reference: Array, within: float, what: object = "") -> None:
    """Equal but for `within`, relative to the largest value of the reference."""
    values = ours.detach().double().numpy() if isinstance(ours, Tensor) else ours
    np.testing.assert_allclose(
        values, reference, rtol=0, atol=within * np.abs(reference).max(), equal_nan=False, err_msg=str(what))


def assert_layer_agrees(
    ours: Callable[..., Tensor], reference: tuple[Array, Back], *inputs: Array, rng: np.random.Generator,
) -> None:
    """Forward and backward: to 1e-12 in float64, and in float32, in which networks run, to 1e-5."""
    output, back = reference
    cotangent = numbers(rng, *output.shape)
    for dtype, within in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        tensors = [torch.tensor(a, dtype=dtype, requires_grad=True) for a in inputs]
        result = ours(*tensors)
        result.backward(torch.tensor(cotangent, dtype=dtype))
        assert_agrees(result, output, within, f"forward, {dtype}")
        for number, (tensor, gradient) in enumerate(zip(tensors, back(cotangent), strict=True)):
            assert_agrees(tensor.grad, gradient, within, f"gradient {number}, {dtype}")


def ks_distance(sample: Array, distribution: Callable[[Array], Array]) -> float:
    """Kolmogorov's: the largest gap between the share of the sample up to a value and the distribution there.

    For a sample of n that follows the distribution it exceeds 2.4 / sqrt(n) with probability 2 exp(-2 * 2.4^2) = 2e-5.
    """
    expected, n = distribution(np.sort(sample)), len(sample)
    return max((np.arange(1, n + 1) / n - expected).max(), (expected - np.arange(n) / n).max())


def normal(z: Array) -> Array:
    """Probability of a standard normal number below z."""
    return 0.5 + 0.5 * torch.erf(torch.from_numpy(z / math.sqrt(2))).numpy()


# --- Layer by layer ---


@pytest.mark.parametrize(("rounding", "layer"), [("floor", nn.Conv2d), ("ceil", CeilConv2d)])
@many_shapes
@given(data=st.data())
def test_convolution_with_groups_stride_and_padding_is_its_sum(rounding, layer, data):
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    groups, kernel, stride, padding = draw(1, 3), draw(1, 5), draw(1, 4), draw(0, 2)
    rng, sides = np.random.default_rng(draw(0, 99)), [max(1, kernel - 2 * padding) + draw(0, 7) for _ in range(2)]
    maps, width = groups * draw(1, 3), groups * draw(1, 3)
    x, w, b = numbers(rng, 2, maps, *sides), numbers(rng, width, maps // groups, kernel, kernel), numbers(rng, width)
    module = layer(maps, width, kernel, stride, padding, groups=groups)
    assert_layer_agrees(
        lambda x, w, b: functional_call(module, {"weight": w, "bias": b}, (x,)),
        convolution(x, w, b, stride, padding, groups, rounding), x, w, b, rng=rng)


@pytest.mark.parametrize(("rounding", "layer", "padding", "side"), [
    ("ceil", CeilConv2d, 0, 55), ("floor", nn.Conv2d, 0, 54), ("floor", nn.Conv2d, 2, 55), ("ceil", CeilConv2d, 1, 55)])
def test_conv1_makes_55_of_224_by_the_ceiling_or_by_padding(rounding, layer, padding, side):
    rng = np.random.default_rng(0)
    x, w, b = numbers(rng, 1, 3, 224, 224), numbers(rng, 2, 3, 11, 11), numbers(rng, 2)
    reference = convolution(x, w, b, stride=4, padding=padding, rounding=rounding)
    assert reference[0].shape == (1, 2, side, side)
    module = layer(3, 2, 11, 4, padding)
    assert_layer_agrees(
        lambda x, w, b: functional_call(module, {"weight": w, "bias": b}, (x,)), reference, x, w, b, rng=rng)


@pytest.mark.parametrize("rounding", ["floor", "ceil"])
@many_shapes
@given(data=st.data())
def test_max_pooling_takes_the_largest_of_windows_that_begin_inside(rounding, data):
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    kernel, stride = draw(1, 4), draw(1, 4)
    least = kernel if rounding == "floor" else max(1, kernel - stride + 1)
    rng, sides = np.random.default_rng(draw(0, 99)), [least + draw(0, 8) for _ in range(2)]
    x = numbers(rng, 2, 3, *sides)
    assert_layer_agrees(nn.MaxPool2d(kernel, stride, ceil_mode=rounding == "ceil"),
                        max_pooling(x, kernel, stride, rounding), x, rng=rng)


@many_shapes
@given(data=st.data())
def test_adaptive_average_pooling_shares_the_maps_out(data):
    side, rows, columns = (data.draw(st.integers(1, 9)) for _ in range(3))
    rng = np.random.default_rng(side)
    x = numbers(rng, 2, 3, rows, columns)
    assert_layer_agrees(nn.AdaptiveAvgPool2d(side), average_pooling(x, side), x, rng=rng)


@pytest.mark.parametrize(("name", "convention", "within_tower"), [
    ("paper", LRN_PAPER, True), ("code2012", LRN_CODE2012, True), ("caffe", LRN_CAFFE, False),
    ("caffenet", LRN_CAFFE, False)])
@many_shapes
@given(data=st.data())
def test_response_norm_is_each_sources_own_convention(name, convention, within_tower, data):
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    towers = draw(1, 3)
    rng, shape = np.random.default_rng(draw(0, 99)), (2, towers * draw(1, 7), draw(1, 4), draw(1, 4))
    x = numbers(rng, *shape, scale=80)  # at which alpha times the sum is about k, and no part of the formula is idle
    reference = response_norm(x, **convention, towers=towers if within_tower else 1)
    assert_layer_agrees(ResponseNorm(arch(name).lrn, shape[1], towers), reference, x, rng=rng)


@many_shapes
@given(data=st.data())
def test_response_norm_follows_the_formula_for_any_constants(data):
    n, towers = data.draw(st.sampled_from([1, 3, 5, 7, 9])), data.draw(st.integers(1, 2))
    alpha, beta, k = (data.draw(st.floats(0.1, 2.0)) for _ in range(3))
    rng = np.random.default_rng(n)
    x = numbers(rng, 2, towers * data.draw(st.integers(1, 8)), 3, 2)
    ours = ResponseNorm(LRN(k, n, alpha, beta, divide_by_n=True, within_tower=True), x.shape[1], towers)
    assert_layer_agrees(ours, response_norm(x, k, n, alpha / n, beta, towers), x, rng=rng)


def test_code2012s_norm_within_a_map_is_its_formula():
    rng = np.random.default_rng(0)
    for sides in ((9, 7), (5, 5), (3, 8), (1, 1)):
        x = numbers(rng, 2, 3, *sides, scale=50)
        assert_layer_agrees(MapNorm(), map_norm(x), x, rng=rng)


@pytest.mark.parametrize("name", ["paper", "code2012", "caffe"])
@pytest.mark.parametrize("towers", [1, 2])
def test_gradcheck_passes_for_response_norm(name, towers):
    lrn = replace(arch(name).lrn, alpha=0.5, within_tower=towers > 1)  # so that numerical differences can see the sum
    x = torch.randn(2, 8, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(ResponseNorm(lrn, 8, towers).double(), x)


@pytest.mark.parametrize("layer", [nn.Conv2d, CeilConv2d])
@pytest.mark.parametrize(("groups", "stride", "padding"), [(1, 4, 0), (2, 1, 2), (2, 3, 1)])
def test_gradcheck_passes_for_convolution(layer, groups, stride, padding):
    generator = torch.Generator().manual_seed(0)
    x, w, b = (torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
               for shape in ((1, 2, 6, 5), (2, 2 // groups, 3, 3), (2,)))
    module = layer(2, 2, 3, stride, padding, groups=groups)
    assert torch.autograd.gradcheck(lambda x, w, b: functional_call(module, {"weight": w, "bias": b}, (x,)), (x, w, b))


# --- Whole networks ---


def small_network(name: str, rng: np.random.Generator, *changes: str) -> tuple[AlexNet, list[Array]]:
    """The preset with few maps and small images, in float64, and the weights that it was given.

    The weights are larger than §5's 0.01, so that after eight layers of few units there is something left to compare.
    """
    side = PUBLISHED[name].side
    ours = AlexNet(override(arch(name), [
        f"input.side={side}", f"input.crop={side}", "conv.width=16", "conv1.width=12", "conv4.width=8",
        "dense.width=24", "classes=5", *changes])).double()
    weights = []
    for parameter in ours.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 50
        weights.append(numbers(rng, *parameter.shape, scale=math.sqrt(2 / fan_in)))
        parameter.data = torch.from_numpy(weights[-1].copy())
    return ours, weights


def assert_network_agrees(ours: AlexNet, pixels: Tensor, logits: Tensor, reference: tuple[Array, Back]) -> None:
    """Logits, and the gradients of the pixels and all weights, to 1e-10."""
    output, back = reference
    assert_agrees(logits, output, 1e-10, "logits")
    cotangent = numbers(np.random.default_rng(1), *output.shape)
    logits.backward(torch.from_numpy(cotangent))
    names = ("pixels", *(name for name, _ in ours.named_parameters()))
    for name, tensor, gradient in zip(names, (pixels, *ours.parameters()), back(cotangent), strict=True):
        assert np.abs(gradient).max() > 0, name
        assert_agrees(tensor.grad, gradient, 1e-10, name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_whole_network_is_its_layers_as_published_forward_and_backward(name):
    rng = np.random.default_rng(0)
    ours, weights = small_network(name, rng)
    x = numbers(rng, 3, 3, ours.arch.input.crop, ours.arch.input.crop, scale=60)
    pixels = torch.tensor(x, requires_grad=True)
    assert_network_agrees(ours, pixels, ours.eval()(pixels), network(name, x, weights))


def watch_masks(watched: AlexNet) -> list[Tensor]:
    """What each dropout multiplies by in the next pass: its answer to ones from the same state of the generator."""
    masks = []

    def before(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        state = torch.get_rng_state()
        masks.append(layer.forward(torch.ones_like(inputs[0])))
        torch.set_rng_state(state)

    for layer in watched.modules():
        if isinstance(layer, nn.Dropout):
            layer.register_forward_pre_hook(before)
    return masks


@pytest.mark.parametrize(("name", "units"), [("paper", [24, 24]), ("torchvision", [16 * 6 * 6, 24])])
def test_dropout_stands_on_the_outputs_of_hidden_layers_or_torchvisions_on_their_inputs(name, units):
    rng = np.random.default_rng(0)
    ours, weights = small_network(name, rng)
    masks = watch_masks(ours)
    x = numbers(rng, 8, 3, ours.arch.input.crop, ours.arch.input.crop, scale=60)
    pixels = torch.tensor(x, requires_grad=True)
    logits = ours.train()(pixels)
    assert [mask.shape for mask in masks] == [(8, width) for width in units]
    assert {value for mask in masks for value in mask.unique().tolist()} == {0.0, 2.0}
    assert_network_agrees(ours, pixels, logits, network(name, x, weights, tuple(mask.numpy() for mask in masks)))


def test_dropout_in_the_papers_own_terms_zeroes_in_training_and_halves_at_test():
    # §4.2 zeroes with probability 0.5 and at test multiplies by 0.5. We double instead what training keeps, which is
    # the same network with half the weights after each dropout.
    rng = np.random.default_rng(0)
    ours, weights = small_network("paper", rng)
    masks = watch_masks(ours)
    x = numbers(rng, 8, 3, 74, 74, scale=60)
    papers_weights = [*weights[:12], 2 * weights[12], weights[13], 2 * weights[14], weights[15]]  # of fc7 and fc8
    training = ours.train()(torch.from_numpy(x))
    zeroed = tuple(mask.bool().double().numpy() for mask in masks)
    assert_agrees(training, network("paper", x, papers_weights, zeroed)[0], 1e-10)
    halved = (np.full((8, 24), 0.5),) * 2
    assert_agrees(ours.eval()(torch.from_numpy(x)), network("paper", x, papers_weights, halved)[0], 1e-10)


@pytest.mark.parametrize("name", ["paper", "torchvision"])
def test_dropout_keeps_half_of_the_units_each_by_its_own_coin(name):
    ours = AlexNet(override(arch(name), ["conv.width=16", "dense.width=64", "classes=2"])).train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = (layer(torch.ones(400, 500)).bool().double()
                         for layer in ours.classifier if isinstance(layer, nn.Dropout))
    for coins in (first, second):
        assert abs(coins.mean().item() - 0.5) < 5 * 0.5 / math.sqrt(coins.numel())
    # Neighbors in a layer, images in a batch, and one layer and the next fall alike half of the time.
    for one, other in ((first[:, 1:], first[:, :-1]), (first[1:], first[:-1]), (first, second)):
        assert abs((one == other).double().mean().item() - 0.5) < 5 * 0.5 / math.sqrt(one.numel())


# --- Initialization ---

#: Deviation of the weights and value of the biases, conv1 to the last layer (§5; code2012; Caffe's two models; the
#: CIFAR-10 network is cuda-convnet's).
_ONES = (0, 1, 0, 1, 1, 1, 1, 0)
GAUSSIAN = {
    "paper": ((0.01,) * 8, _ONES),
    "paper-conv6": ((0.01,) * 9, (0, 1, 0, 1, 1, 0, 1, 1, 0)),
    "one-gpu": ((0.01,) * 8, _ONES),
    "code2012": ((0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01), _ONES),
    "caffe": ((0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01), (0, 0.1, 0, 0.1, 0.1, 0.1, 0.1, 0)),
    "caffenet": ((0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01), _ONES),
    "cifar": ((0.0001, 0.01, 0.01, 0.1), (0, 0, 0, 0)),
}


def drawn_layers(name: str) -> list[tuple[str, Array, Array]]:
    """Name, weights and biases of each layer of the preset, with fewer fully connected units."""
    ours = AlexNet(override(arch(name), ["classes=60", *(["dense.width=200"] if arch(name).dense else [])]), seed=7)
    return [(layer, module.weight.detach().double().numpy(), module.bias.detach().double().numpy())
            for layer, module in ours.weight_layers()]


def assert_drawn(sample: Array, deviation: float, kurtosis: float, distribution: Callable[[Array], Array]) -> None:
    """Mean 0, the deviation, the kurtosis and the whole distribution, each within five standard errors or the like.

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
def test_each_layer_is_drawn_with_the_published_sigma_and_biases(name):
    for (layer, weights, biases), init_std, bias in zip(drawn_layers(name), *GAUSSIAN[name], strict=True):
        assert_drawn(weights, init_std, 3.0, normal)
        assert (biases == np.float32(bias)).all(), layer


def uniform(z: Array) -> Array:
    """Probability below z of a uniform number with mean 0 and deviation 1, which lies between -sqrt(3) and sqrt(3)."""
    return np.clip(0.5 + z / math.sqrt(12), 0, 1)


def test_torchvisions_weights_and_biases_are_uniform_within_one_over_the_root_of_the_fan_in():
    for layer, weights, biases in drawn_layers("torchvision"):
        bound = 1 / math.sqrt(weights[0].size)
        assert_drawn(weights, bound / math.sqrt(3), 1.8, uniform)
        assert np.abs(weights).max() <= bound * (1 + 1e-6), layer
        assert np.abs(biases).max() <= bound * (1 + 1e-6), layer
        assert ks_distance(biases * math.sqrt(3) / bound, uniform) < 2.4 / math.sqrt(len(biases)), layer


def test_torch_draws_its_own_layers_so_which_torchvision_leaves_as_they_are():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(192, 384, 3), nn.Linear(9216, 60)]
    for layer in layers:
        weights = layer.weight.detach().double().numpy()
        assert_drawn(weights, 1 / math.sqrt(3 * weights[0].size), 1.8, uniform)


@pytest.mark.parametrize("name", ["paper-bn", "torchvision-bn", "small"])
def test_networks_with_batch_norm_are_drawn_with_variance_two_over_the_fan_in(name):
    *hidden, (_, output, output_biases) = drawn_layers(name)
    for layer, weights, biases in hidden:
        assert_drawn(weights, math.sqrt(2 / weights[0].size), 3.0, normal)
        assert (biases == 0).all(), layer
    assert_drawn(output, 0.01, 3.0, normal)
    assert (output_biases == 0).all()


def test_every_preset_has_a_stated_initialization():
    assert {*GAUSSIAN, "torchvision", "paper-bn", "torchvision-bn", "small"} == set(ARCHS)


@pytest.mark.parametrize("name", ["paper", "torchvision", "small"])
def test_no_layer_repeats_the_draws_of_another(name):
    beginnings = [weights.ravel()[:5000] for _, weights, _ in drawn_layers(name) if weights.size >= 5000]
    correlations = np.corrcoef(beginnings) - np.eye(len(beginnings))
    assert len(beginnings) >= 5
    assert np.abs(correlations).max() < 5 / math.sqrt(5000)


# --- Training: the update rule and the plateau ---


def updated(rule: str, w: Array, v: Array, g: Array, eps: float, decay: float) -> tuple[Array, Array]:
    """Weights and velocity after a step, by §5 or as torch.optim.SGD's documentation states it; momentum 0.9."""
    if rule == "paper":
        v = 0.9 * v - decay * eps * w - eps * g
        return w + v, v
    g = g + decay * w
    v = 0.9 * v + g
    return w - eps * (g + 0.9 * v if rule == "nesterov" else v), v


RULES = {  # recipe: rule, decay of weights, rate of biases over that of weights, decay of biases
    "paper": ("paper", 0.0005, 1, 0.0005), "code2012": ("paper", 0.0005, 2, 0), "caffe": ("paper", 0.0005, 2, 0),
    "torchvision": ("pytorch", 0.0001, 1, 0.0001), "modern": ("nesterov", 0.0005, 1, 0)}


def changes_by_training(name: str, rates: list[tuple[float, float]]) -> Iterator[tuple[str, Array, Array]]:
    """How a small network's weights change by a step at each pair of rates: in ours, and in NumPy alone.

    rates: of conv1, and of the other layers. Gives each weight's name and its two changes.
    """
    rng, (rule, decay, bias_lr_factor, bias_decay) = np.random.default_rng(0), RULES[name]
    ours, first = small_network("paper", rng, "dropout=0")
    weights, velocity = first, [np.zeros_like(w) for w in first]
    optimizer = SGD(ours, recipe(name))
    for of_conv1, of_others in rates:
        x, labels = numbers(rng, 4, 3, 74, 74, scale=20), rng.integers(0, 5, 4)
        optimizer.zero_grad()
        F.cross_entropy(ours(torch.from_numpy(x)), torch.from_numpy(labels)).backward()
        optimizer.step(of_others, None if of_conv1 == of_others else of_conv1)

        logits, back = network("paper", x, weights)
        _, *gradients = back((softmax(logits) - np.eye(5)[labels]) / 4)  # of the mean of -log p(label)
        steps = []
        for number, (w, v, g) in enumerate(zip(weights, velocity, gradients, strict=True)):
            eps = of_conv1 if number < 2 else of_others
            eps, own_decay = (eps, decay) if w.ndim > 1 else (eps * bias_lr_factor, bias_decay)
            steps.append(updated(rule, w, v, g, eps, own_decay) if eps else (w, v))  # a rate of 0 stops a layer dead
        weights, velocity = [w for w, _ in steps], [v for _, v in steps]
    for (key, parameter), before, after in zip(ours.named_parameters(), first, weights, strict=True):
        yield key, parameter.detach().numpy() - before, after - before


@pytest.mark.parametrize("name", RULES)
def test_training_in_numpy_alone_ends_at_the_same_weights_across_changes_of_the_rate(name):
    rates = [0.01, 0.01, 0.01, 0.001, 0.001, 0.03]
    for key, ours, change in changes_by_training(name, list(zip(rates, rates, strict=True))):
        assert np.abs(change).max() > 1e-4, key
        assert_agrees(ours, change, 1e-9, key)


def test_code2012_slows_conv1_at_epoch_67_and_stops_it_at_72():
    chosen, epochs = recipe("code2012"), (66, 67, 71.9, 72, 80)
    others = [learning_rate(chosen, epoch) for epoch in epochs]
    rates = [(conv1_rate(chosen, epoch, rate), rate) for epoch, rate in zip(epochs, others, strict=True)]
    by_hand = [(1e-4, 1e-4), (1e-5, 1e-4), (1e-5, 1e-4), (0, 1e-4), (0, 1e-5)]
    assert np.array(rates) == pytest.approx(np.array(by_hand), rel=1e-12)
    changed = {}
    for steps in (3, 5):
        for key, ours, change in changes_by_training("code2012", by_hand[:steps]):
            assert_agrees(ours, change, 1e-8, key)
            changed[key, steps] = ours
    assert np.array_equal(changed["features.conv1.weight", 3], changed["features.conv1.weight", 5])
    assert not np.array_equal(changed["features.conv2.weight", 3], changed["features.conv2.weight", 5])


def plateau_drops(errors: list[float], patience: int, limit: int) -> int:
    """How often the rate has dropped: once for every `patience` epochs on end that were no better than all before."""
    records = [all(error < earlier for earlier in errors[:epoch]) for epoch, error in enumerate(errors)]
    waits = [len(list(run)) for is_record, run in itertools.groupby(records) if not is_record]
    return min(limit, sum(wait // patience for wait in waits))


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(errors=st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), max_size=40), patience=st.integers(1, 5),
       limit=st.integers(1, 4))
def test_the_plateau_rule_drops_the_rate_after_every_wait_in_vain(errors, patience, limit):
    chosen, plateau = replace(recipe("paper"), patience=patience, lr_drop_count=limit), Plateau()
    for epoch, error in enumerate(errors, 1):
        plateau.update(error, chosen)
        drops = plateau_drops(errors[:epoch], patience, limit)
        assert learning_rate(chosen, epoch, plateau.drops) == pytest.approx(0.01 / 10**drops, rel=1e-12)


def test_the_paper_waits_three_epochs_and_divides_by_ten_three_times():
    errors = [0.5, 0.4, 0.4, 0.45, 0.3, 0.3, 0.3, 0.3, *[0.31] * 8]
    by_hand = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    plateau, drops = Plateau(), []
    for error in errors:
        plateau.update(error, recipe("paper"))
        drops.append(plateau.drops)
    assert drops == by_hand
    assert [plateau_drops(errors[:epoch], 3, 3) for epoch in range(1, 17)] == by_hand


# --- Views: lighting and the ten ---

_turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
COLORS = _turn @ np.diag(np.square([19.7, 37.1, 121.8])) @ _turn.T
"""An RGB covariance with cuda-convnet2's deviations, along axes of no importance."""

COUNT = 20_000


def lighting_shifts(chosen: Recipe, epoch: int = 0) -> Array:
    """What lighting adds to COUNT images, [N, C, H, W], in RGB and gray levels: views with less views without.

    Through a scale and BGR, since the noise is added before them.
    """
    spec = InputSpec(side=6, crop=4, mean=(120.0, 110.0, 100.0), scale=(58.0, 57.0, 29.0), channels="BGR")
    preprocess = Preprocess(spec, torch.tensor(spec.mean).reshape(1, 1, 3))
    photos = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (COUNT, 6, 6, 3), np.uint8))
    basis = lighting_basis(COLORS, chosen.lighting_scale)
    with_, without = (preprocess.training_views(photos, np.arange(COUNT), chosen, 3, epoch, lighting).double()
                      for lighting in (basis, None))
    return (with_ - without).flip(1).numpy() * np.array(spec.scale)[:, None, None]


@pytest.mark.parametrize("scale", ["deviations", "eigenvalues"])
def test_lighting_has_in_effect_the_covariance_of_section_4_1(scale):
    # [p1 p2 p3][a1 l1, a2 l2, a3 l3]^T with a ~ N(0, 0.1) has the covariance P diag((0.1 l)^2) P^T.
    shifts = lighting_shifts(Recipe("l", lighting_scale=scale)).mean((2, 3))
    axes, eigenvalues, _ = np.linalg.svd(COLORS)
    lengths = 0.1 * (np.sqrt(eigenvalues) if scale == "deviations" else eigenvalues / 255)
    wanted = axes @ np.diag(lengths**2) @ axes.T
    variances = np.outer(np.diag(wanted), np.diag(wanted))
    standard_error = np.sqrt((variances + wanted**2) / COUNT)
    assert (np.abs(np.cov(shifts.T) - wanted) < 5 * standard_error).all()
    assert (np.abs(shifts.mean(0)) < 5 * np.sqrt(np.diag(wanted) / COUNT)).all()
    for component in (shifts @ axes / lengths).T:
        assert ks_distance(component, normal) < 2.4 / math.sqrt(COUNT)


def test_lighting_moves_a_whole_image_by_one_color():
    shifts = lighting_shifts(Recipe("l"))
    assert np.ptp(shifts, axis=(2, 3)).max() < 1e-3  # float32's rounding of values to 255
    assert np.abs(shifts).mean() > 1


@pytest.mark.parametrize("name", ["paper", "code2012"])  # code2012 shares crop and mirror among 32, not the color
def test_lighting_is_drawn_anew_for_each_image_and_epoch(name):
    shifts, later = (lighting_shifts(recipe(name), epoch).mean((2, 3)) for epoch in (0, 1))
    deviations = shifts.std(0)
    for one, other in ((shifts[1:], shifts[:-1]), (shifts[32:], shifts[:-32]), (shifts, later)):
        correlations = (one.T @ other) / len(one) / np.outer(deviations, deviations)
        assert np.abs(correlations).max() < 5 / math.sqrt(len(one))


def ten_views(pixels_NHWC: NDArray[np.uint8], mean_HWC: Array, crop: int) -> Array:
    """Top left, top right, bottom left, bottom right, center; then each mirrored (§4.1): [N, V, C, crop, crop].

    Of an odd margin the center leaves the larger half on the right and at the bottom.
    """
    centerd, last = pixels_NHWC.astype(np.float64) - mean_HWC, pixels_NHWC.shape[1] - crop
    five = [centerd[:, top:top + crop, left:left + crop] for top, left in (
        (0, 0), (0, last), (last, 0), (last, last), (last // 2, last // 2))]
    return np.stack([*five, *(view[:, :, ::-1] for view in five)], axis=1).transpose(0, 1, 4, 2, 3)


def images_and_mean(rng: np.random.Generator, side: int) -> tuple[NDArray[np.uint8], Array]:
    """Three images of noise, and a mean of each pixel that float32 holds."""
    return rng.integers(0, 256, (3, side, side, 3), np.uint8), np.abs(numbers(rng, side, side, 3, scale=100))


@many_shapes
@given(crop=st.integers(1, 9), margin=st.integers(0, 9))
def test_ten_views_are_windows_less_the_mean_of_their_place(crop, margin):
    rng, side = np.random.default_rng([crop, margin]), crop + margin
    pixels, mean = images_and_mean(rng, side)
    preprocess = Preprocess(InputSpec(side, crop), torch.tensor(mean, dtype=torch.float32))
    reference = ten_views(pixels, mean, crop)
    views = preprocess.ten_views(torch.from_numpy(pixels))
    assert views.shape == (3, 10, 3, crop, crop)
    assert_agrees(views, reference, 1e-6)
    assert_agrees(preprocess(torch.from_numpy(pixels)), reference[:, 4], 1e-6)


@pytest.mark.parametrize("margin", [0, 7, 8])
def test_the_answer_to_ten_views_is_the_mean_of_their_softmax_outputs(margin):
    rng = np.random.default_rng(margin)
    members, answers = [], []
    pixels, mean = images_and_mean(rng, 74 + margin)
    for _ in range(2):  # §6 averages over networks too
        ours, weights = small_network("paper", rng, f"input.side={74 + margin}", "input.scale=64,64,64")
        members.append((ours.float().eval(), Preprocess(ours.arch.input, torch.tensor(mean, dtype=torch.float32))))
        views = ten_views(pixels, mean, 74) / 64
        outputs = softmax(network("paper", views.reshape(30, 3, 74, 74), weights)[0])
        answers.append(outputs.reshape(3, 10, 5).mean(1))
    with torch.inference_mode():
        for count in (1, 2):
            ours = probabilities(members[:count], torch.from_numpy(pixels), views=10)
            assert_agrees(ours, np.mean(answers[:count], axis=0), 1e-5)


# --- Peers ---


@pytest.fixture(scope="module")
def torchvision_pair() -> tuple[AlexNet, nn.Module]:
    """Ours, and torchvision's own network with our weights under its keys."""
    vision = peers.torchvision()
    ours = AlexNet(arch("torchvision"), seed=1)
    with torch.device("meta"):
        theirs = vision.models.alexnet(weights=None)
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)
    return ours, theirs


def test_torchvisions_alexnet_gives_our_logits(torchvision_pair):
    ours, theirs = (each.eval() for each in torchvision_pair)
    for side in (224, 63, 259):
        x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(side))
        with torch.inference_mode():
            assert_agrees(ours(x), theirs(x).double().numpy(), 1e-6)


def test_torchvisions_alexnet_drops_the_same_units_and_has_the_same_gradients(torchvision_pair):
    gradients = []
    for each in torchvision_pair:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            loss = F.cross_entropy(each.train()(torch.randn(2, 3, 224, 224)), torch.tensor([3, 907]))
        chosen = {name: p for name, p in each.named_parameters() if p.ndim != 2}  # the great matrices take seconds
        gradients.append(dict(zip(chosen, torch.autograd.grad(loss, list(chosen.values())), strict=True)))
    ours, theirs = gradients
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert_agrees(ours[name], gradient.double().numpy(), 1e-5, name)


def test_torchvisions_layers_are_ours_but_for_working_in_place(torchvision_pair):
    ours, theirs = ([str(layer).replace("inplace=True", "") for part in (each.features, each.classifier)
                     for layer in part] for each in torchvision_pair)
    assert ours == theirs


@pytest.mark.parametrize(("side", "crop"), [(256, 224), (20, 12), (21, 15), (13, 13), (19, 12), (21, 12)])
def test_torchvisions_ten_crop_gives_our_ten_views(side, crop):
    pixels_NHWC = torch.from_numpy(np.random.default_rng(side).integers(0, 256, (1, side, side, 3), np.uint8))
    ours = Preprocess(InputSpec(side, crop, (0.0, 0.0, 0.0)), torch.zeros(1, 1, 3)).ten_views(pixels_NHWC)[0]
    # It cuts the mirrored image by the same plan, so that its sixth view is our second one mirrored.
    theirs = torch.stack(peers.torchvision().transforms.TenCrop(crop)(pixels_NHWC[0].permute(2, 0, 1))).float()
    theirs = theirs[[0, 1, 2, 3, 4, 6, 5, 8, 7, 9]]
    corners = [0, 1, 2, 3, 5, 6, 7, 8]
    assert torch.equal(ours[corners], theirs[corners])
    if (side - crop) % 2 == 0:
        assert torch.equal(ours, theirs)
        return
    # Half a pixel: we and Caffe take the floor, torchvision rounds to even, and again in the mirrored image.
    place = round((side - crop) / 2)
    assert torch.equal(theirs[4], pixels_NHWC[0, place:place + crop, place:place + crop].permute(2, 0, 1).float())
    assert torch.equal(ours[9], ours[4].flip(-1))
    assert not torch.equal(theirs[9], theirs[4].flip(-1))


def sample(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Waves of all lengths and some noise, so that rescaling has edges and texture to differ in."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1) + rng.uniform(0, 6)) for _ in range(9)]
    colors = np.tensordot(rng.normal(0, 30, (3, 9)), np.array(waves), 1).transpose(1, 2, 0)
    return np.clip(128 + colors + rng.normal(0, 20, colors.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [
    (375, 500), (500, 375), (256, 256), (224, 299), (600, 257), (301, 902), (333, 334), (120, 161)])
def test_torchvisions_preprocessing_gives_our_input(height, width):
    pixels = sample(np.random.default_rng([height, width]), height, width)
    transforms = peers.torchvision().models.AlexNet_Weights.IMAGENET1K_V1.transforms()
    spec = arch("torchvision").input
    square = torch.from_numpy(images.square(pixels, spec.side).copy())[None]
    ours = Preprocess(spec, torch.tensor(spec.mean).reshape(1, 1, 3))(square)
    # Both let Pillow rescale, so what is left is rounding: they divide by 255 first, we take mean and scale on 0..255.
    assert_agrees(ours[0], transforms(Image.fromarray(pixels)).double().numpy(), 1e-6)
    # Its other way, torch's kernel for uint8 tensors, rounds a value in five otherwise, by a gray level, rarely two.
    of_tensor = transforms(torch.from_numpy(pixels).permute(2, 0, 1))
    assert ((ours[0] - of_tensor).abs() * torch.tensor(spec.scale)[:, None, None]).max() < 2.01


@pytest.mark.parametrize(("side", "crop"), [(20, 12), (21, 14)])
def test_kornias_crops_mirrors_and_normalization_give_our_ten_views(side, crop):
    kornia, spec = peers.kornia(), replace(arch("torchvision").input, side=side, crop=crop)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8))
    preprocess = Preprocess(spec, torch.tensor(spec.mean).reshape(1, 1, 3))
    x = kornia.enhance.normalize(
        pixels.permute(0, 3, 1, 2).float(), torch.tensor(spec.mean), torch.tensor(spec.scale))
    last = side - crop
    five = []
    for top, left in ((0, 0), (0, last), (last, 0), (last, last), (last // 2, last // 2)):
        right, bottom = left + crop - 1, top + crop - 1
        corners = torch.tensor([[left, top], [right, top], [right, bottom], [left, bottom]]).expand(3, -1, -1)
        five.append(kornia.geometry.transform.crop_by_indices(x, corners))
    theirs = torch.stack([*five, *(kornia.geometry.transform.hflip(view) for view in five)], dim=1)
    assert_agrees(preprocess.ten_views(pixels), theirs.double().numpy(), 1e-6)
    if last % 2 == 0:
        center = kornia.augmentation.CenterCrop(crop, cropping_mode="slice")(x)
        assert_agrees(preprocess(pixels), center.double().numpy(), 1e-6)


def test_kornias_whitening_undoes_the_lighting_of_the_same_colors():
    # ZCA's inverse is the root of the covariance, P diag(l) P^T; lighting's columns are P diag(l), which has the same
    # square. So its shifts, whitened, are 0.1 of white noise.
    colors = np.random.default_rng(0).multivariate_normal([120, 110, 100], COLORS, 5000)
    whiten, _, root = peers.kornia().enhance.zca_mean(torch.from_numpy(colors), unbiased=False, return_inverse=True)
    basis = lighting_basis(np.cov(colors.T, ddof=0), "deviations").double()
    assert_agrees(basis @ basis.T, (root @ root).numpy(), 1e-5)
    assert_agrees(whiten @ (basis @ basis.T) @ whiten.T, np.eye(3), 1e-5)


@pytest.mark.parametrize("name", ARCHS)
def test_torchinfo_counts_the_parameters_and_multiply_adds_that_explain_does(name):
    chosen = arch(name)
    with torch.device("meta"):
        ours = AlexNet(chosen)
    summary = peers.torchinfo().summary(ours, (1, 3, chosen.input.crop, chosen.input.crop), device="meta", verbose=0)
    explanation = explain(chosen)
    assert summary.total_params == explanation.parameters
    theirs = {info.layer_id: info for info in summary.summary_list}
    extra = 0
    for layer in explanation.layers:
        info = theirs[id(ours.named_layer(layer.name))]
        assert tuple(info.output_size[1:]) == layer.output_shape, layer.name
        assert info.num_params == layer.parameters, layer.name
        # It counts a bias as one more multiply-add for each output, and batch norm's numbers once an image.
        counted_besides = layer.neurons if layer.multiply_adds else layer.parameters
        assert info.macs == layer.multiply_adds + counted_besides, layer.name
        extra += counted_besides
    assert summary.total_mult_adds == explanation.multiply_adds + extra
    if name == "paper":
        assert extra == 659_272  # its neurons (§3.5), since each has one bias to add
