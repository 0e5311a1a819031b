"""A trained network made ready to answer fast on a CPU: bf16 convolutions, int8 fully connected layers. Trains nothing.

One image's answer is bound by reading the weights, nine in ten of which stand in the fully connected layers: a
quarter of the bytes is a quarter of the time. Many images' answer is bound by the convolutions' arithmetic, which
bf16 halves. Logits move by a percent or so; `benchmarks/` counts how often the first answer does.
Shapes: N images, C maps, H rows, W columns, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from alexnet._runtime.devices import choose_precision
from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import CeilConv2d

Step = Callable[[Tensor], Tensor]


class FastNetwork(nn.Module):
    """Float pixels NCHW to float32 logits NK, as `network` gives them but for rounding. Keeps no reference to it.

    Raises ValueError where the processor has no bf16 instructions, with what to do instead.
    """

    def __init__(self, network: AlexNet) -> None:
        super().__init__()
        device = next(network.parameters()).device
        if device.type != "cpu" or choose_precision("auto", device) != "bf16":
            raise ValueError(f"this {device.type.upper()} has no bf16 instructions that fast answers need; use fp32")
        self.arch = network.arch
        with torch.inference_mode():
            self._features = _fused(network.features)
            self._average = network.avgpool
            self._classifier = [_int8(layer) if isinstance(layer, nn.Linear) else layer
                                for layer in network.classifier if not isinstance(layer, nn.Dropout)]

    @torch.inference_mode()
    def forward(self, pixels_NCHW: Tensor) -> Tensor:
        maps = pixels_NCHW.to(torch.bfloat16, memory_format=torch.channels_last)
        for step in self._features:
            maps = step(maps)
        units = self._average(maps).flatten(1).float()
        for step in self._classifier:
            units = step(units)
        return units


def _fused(features: nn.Sequential) -> list[Step]:
    """The layers in bf16, weights laid out beforehand as oneDNN wants them, a ReLU done while the sums are at hand."""
    layers, steps = list(features), list[Step]()
    while layers:
        layer = layers.pop(0)
        if isinstance(layer, nn.Conv2d):
            relu = bool(layers) and isinstance(layers[0], nn.ReLU)
            steps.append(_convolution(layer, relu))
            layers = layers[relu:]
        elif isinstance(layer, nn.BatchNorm2d):
            steps.append(_in_bf16(layer))
        else:
            steps.append(layer)
    return steps


def _in_bf16(layer: nn.BatchNorm2d) -> Step:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    slope = layer.weight / (layer.running_var + layer.eps).sqrt()
    offset = (layer.bias - layer.running_mean * slope).bfloat16()[:, None, None]
    slope = slope.bfloat16()[:, None, None]
    return lambda maps: maps * slope + offset


def _convolution(layer: nn.Conv2d, relu: bool) -> Step:
    bias = layer.bias
    assert bias is not None
    weight = layer.weight.bfloat16().contiguous(memory_format=torch.channels_last)
    bias = bias.bfloat16()
    geometry: Any = (layer.padding, layer.stride, layer.dilation, layer.groups)
    pointwise = _pointwise()
    if pointwise is None or isinstance(layer, CeilConv2d):
        plain = nn.utils.skip_init(type(layer), layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride,
                                   layer.padding, layer.dilation, layer.groups, dtype=torch.bfloat16)
        plain.weight, plain.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
        return (lambda maps: plain(maps).relu_()) if relu else plain
    laid_out = torch._C._nn.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), *geometry)
    return lambda maps: pointwise(maps, laid_out, bias, *geometry, "relu" if relu else "none", [], "")


def _pointwise() -> Any:
    """A convolution with its ReLU: an operator that torch has for its own compiler alone, and may take away."""
    return getattr(torch.ops.mkldnn, "_convolution_pointwise", None)


def _int8(layer: nn.Linear) -> Step:
    """Weights in 8 bits with a scale for each unit; activations in 8 bits with a scale for each batch."""
    weight = layer.weight.detach().float()
    scale = weight.abs().amax(1).clamp(min=1e-30) / 127
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's word that these operators move to another package some day
        eighths = torch.quantize_per_channel(weight, scale.double(), torch.zeros(len(scale), dtype=torch.long), 0,
                                             torch.qint8)
        packed: Any = torch.ops.quantized.linear_prepack(eighths, layer.bias.detach().float())
    return lambda units: torch.ops.quantized.linear_dynamic(units, packed, False)
