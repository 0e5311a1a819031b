"""Fast CPU inference: bf16 convolutions and int8 (dynamically quantized) fully connected layers.

The latency of one image is bound by reading the weights, nine tenths of which are in the fully connected layers: int8
needs a quarter of the bytes, and so of the time. The throughput of many images is bound by the convolutions'
arithmetic, which bf16 halves. Logits change by about a percent; `benchmarks/` counts how often the top-1 class changes.
Shapes: N images, C maps, H rows, W columns, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from alexnet._runtime.devices import choose_precision
from alexnet.errors import require
from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import CeilConv2d

Step = Callable[[Tensor], Tensor]

_SLOWER = "leave out --fast (in Python, fast=True)"


class FastNetwork(nn.Module):
    """A copy of a trained network in lower precision: float pixels NCHW to float32 logits NK."""

    def __init__(self, network: AlexNet) -> None:
        """Convert the weights; `network` may change or be deleted afterwards.

        Raises:
            UserError: the network is on no CPU, or this CPU has no bf16 instructions (`devices.cpu_has_bf16`).
        """
        super().__init__()
        device = next(network.parameters()).device
        require(device.type == "cpu", f"fast inference is for CPUs, and the network is on {device.type}", _SLOWER)
        require(choose_precision("auto", device) == "bf16",
                "this CPU has no bf16 instructions, which fast inference needs", _SLOWER)
        self.arch, self.temperature = network.arch, network.temperature
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
        return units / self.temperature


def _fused(features: nn.Sequential) -> list[Step]:
    """The layers in bf16: weights in oneDNN's layout, and each ReLU fused into the convolution before it."""
    layers, steps = list(features), list[Step]()
    while layers:
        layer = layers.pop(0)
        if isinstance(layer, nn.Conv2d):
            relu = bool(layers) and isinstance(layers[0], nn.ReLU)
            steps.append(_convolution(layer, relu))
            layers = layers[relu:]
        elif isinstance(layer, nn.BatchNorm2d):
            steps.append(_batch_norm(layer))
        else:
            steps.append(layer)
    return steps


def _batch_norm(layer: nn.BatchNorm2d) -> Step:
    """Batch normalization in evaluation mode: one multiplication and one addition."""
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
    """oneDNN's convolution with a fused ReLU: a private operator of torch's compiler, None where it is absent."""
    return getattr(torch.ops.mkldnn, "_convolution_pointwise", None)


def _int8(layer: nn.Linear) -> Step:
    """A layer with int8 weights, one scale for each unit; activations are int8 too, one scale for each batch."""
    weight = layer.weight.detach().float()
    scale = weight.abs().amax(1).clamp(min=1e-30) / 127
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's notice that these operators will move to another package
        quantized = torch.quantize_per_channel(weight, scale.double(), torch.zeros(len(scale), dtype=torch.long), 0,
                                                torch.qint8)
        packed: Any = torch.ops.quantized.linear_prepack(quantized, layer.bias.detach().float())
    return lambda units: torch.ops.quantized.linear_dynamic(units, packed, False)
