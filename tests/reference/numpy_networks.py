"""The networks in plain NumPy, as their sources publish them, and the package's with the same weights."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from comparing import assert_agrees, numbers
from numpy_layers import (
    LRN_CAFFE,
    LRN_CODE2012,
    LRN_PAPER,
    Array,
    Back,
    average_pooling,
    convolution,
    dense,
    dropout,
    map_norm,
    max_pooling,
    relu,
    response_norm,
    window_average,
)
from torch import Tensor

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.models.alexnet import AlexNet


@dataclass(frozen=True)
class Published:
    """A network as its source publishes it."""

    layers: str
    """Layers in order; `fc` flattens the maps first."""
    groups: tuple[int, ...] = (1, 2, 1, 2, 2)
    padding: tuple[int, ...] = (0, 2, 1, 1, 1)
    stride: tuple[int, ...] = (4, 1, 1, 1, 1)
    rounding: str = "ceil"
    pool_rounding: str = "ceil"
    norm: dict[str, float] = field(default_factory=dict)
    map_norm: dict[str, Any] = field(default_factory=dict)
    """Side and alpha of the normalization within a map, where they are not code2012's."""
    towers: int = 1
    """Towers within which response normalization sums."""
    side: int = 74
    """An input side at which all of the network's roundings have an effect."""


_DENSE = "fc relu drop  fc relu drop  fc"


_PAPER = f"conv relu norm pool  conv relu norm pool  conv relu  conv relu  conv relu pool  {_DENSE}"


PUBLISHED = {
    "paper": Published(_PAPER, norm=LRN_PAPER, towers=2),
    "paper-conv6": Published(
        _PAPER.replace("pool  fc", "pool  conv relu  fc"), norm=LRN_PAPER, towers=2,
        groups=(1, 2, 1, 2, 2, 1), padding=(0, 2, 1, 1, 1, 1), stride=(4, 1, 1, 1, 1, 1)),
    "code2012": Published(
        f"conv norm pool relu  conv relu norm mapnorm pool  conv relu  conv relu  conv relu pool  {_DENSE}",
        norm=LRN_CODE2012, towers=2),
    # example-layers/layers-18pct.cfg and layer-params-18pct.cfg of cuda-convnet
    "cifar-18pct": Published(
        "conv relu pool mapnorm  conv relu avgpool mapnorm  conv relu avgpool  fc", groups=(1,) * 3, padding=(2,) * 3,
        stride=(1,) * 3, map_norm={"side": 3, "alpha": 5e-5}, side=32),
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
    """Logits, and the function to the gradients of pixels and weights. Without masks there is no dropout."""
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
                x, back = map_norm(x, **published.map_norm)
            case "pool":
                x, back = max_pooling(x, 3, 2, published.pool_rounding)
            case "avgpool":
                x, back = window_average(x, 3, 2, published.pool_rounding)
            case "average":
                x, back = average_pooling(x, 6)
            case "fc":
                x, back = dense(x, next(remaining), next(remaining))
            case "drop" if masks is None:
                continue
            case "drop":
                x, back = dropout(x, next(drawn))
        backs.append(back)

    def backward(dy: Array) -> tuple[Array, ...]:
        gradients: list[Array] = []
        for step in reversed(backs):
            dy, *of_weights = step(dy)
            gradients = [*of_weights, *gradients]
        return dy, *gradients

    return x, backward


def small_network(name: str, rng: np.random.Generator, *changes: str) -> tuple[AlexNet, list[Array]]:
    """The preset with few maps and small images, in float64, and its weights.

    The weights are larger than §5's 0.01, or the outputs of eight small layers would be too close to 0 to compare.
    """
    side = PUBLISHED[name].side
    paper_like = ["conv4.width=8", "dense.width=24"] if arch(name).dense else []
    ours = AlexNet(override(arch(name), [
        f"input.side={side}", f"input.crop={side}", "conv.width=16", "conv1.width=12", *paper_like, "classes=5",
        *changes])).double()
    weights = []
    for parameter in ours.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 50
        weights.append(numbers(rng, *parameter.shape, scale=math.sqrt(2 / fan_in)))
        parameter.data = torch.from_numpy(weights[-1].copy())
    return ours, weights


def assert_network_agrees(ours: AlexNet, pixels: Tensor, logits: Tensor, reference: tuple[Array, Back]) -> None:
    """Compare the logits and the gradients of the pixels and all weights, to a relative error of 1e-10."""
    output, back = reference
    assert_agrees(logits, output, 1e-10, "logits")
    cotangent = numbers(np.random.default_rng(1), *output.shape)
    logits.backward(torch.from_numpy(cotangent))
    names = ("pixels", *(name for name, _ in ours.named_parameters()))
    for name, tensor, gradient in zip(names, (pixels, *ours.parameters()), back(cotangent), strict=True):
        assert np.abs(gradient).max() > 0, name
        assert_agrees(tensor.grad, gradient, 1e-10, name)
