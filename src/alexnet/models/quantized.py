"""Fast CPU inference: weights laid out once, bf16 convolutions, int8 (dynamically quantized) fully connected layers.

The latency of one image is bound by reading the weights, nine tenths of which are in the fully connected layers: int8
needs a quarter of the bytes, and so of the time. The throughput of many images is bound by the convolutions'
arithmetic, which bf16 halves; a processor without bf16 instructions computes them in fp32. Batch normalization after a
convolution becomes part of its weights. Logits change by about a percent; `benchmarks/` counts how often the top-1
class changes. Shapes: N images, C maps, H rows, W columns, K classes.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from alexnet._runtime.devices import cpu_has_bf16
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
            UserError: the network is on no CPU.
        """
        super().__init__()
        device = next(network.parameters()).device
        require(device.type == "cpu", f"fast inference is for CPUs, and the network is on {device.type}", _SLOWER)
        self.dtype = torch.bfloat16 if cpu_has_bf16() else torch.float32
        """Of the convolutions."""
        self.arch, self.temperature = network.arch, network.temperature
        self.ten_view_temperature = network.ten_view_temperature
        with torch.inference_mode():
            crop = network.arch.input.crop
            self._features = _fused(network.features, torch.zeros(1, 3, crop, crop), self.dtype)
            self._average = network.avgpool
            self._classifier = [_int8(layer) if isinstance(layer, nn.Linear) else layer
                                for layer in network.classifier if not isinstance(layer, nn.Dropout)]

    @torch.inference_mode()
    def forward(self, pixels_NCHW: Tensor) -> Tensor:
        maps = pixels_NCHW.to(self.dtype, memory_format=torch.channels_last)
        for step in self._features:
            maps = step(maps)
        units = self._average(maps).flatten(1).float()
        for step in self._classifier:
            units = step(units)
        return units / self.temperature


def _fused(features: nn.Sequential, image_1CHW: Tensor, dtype: torch.dtype) -> list[Step]:
    """The layers in `dtype`, each batch normalization and each ReLU as part of the convolution before it.

    Args:
        image_1CHW: any image of the network's input size.
    """
    layers, maps, steps = list(features), image_1CHW, list[Step]()
    while layers:
        layer = layers.pop(0)
        size, maps = list(maps.shape), layer(maps)
        if isinstance(layer, nn.Conv2d):
            norm = layers[0] if layers and isinstance(layers[0], nn.BatchNorm2d) else None
            layers = layers[norm is not None :]
            relu = bool(layers) and isinstance(layers[0], nn.ReLU)
            steps.append(_convolution(layer, norm, relu, size, dtype))
            layers = layers[relu:]
        elif isinstance(layer, nn.BatchNorm2d):
            steps.append(_batch_norm(layer, dtype))
        else:
            steps.append(layer)
    return steps


def _slope_and_offset(layer: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Batch normalization in evaluation mode, as one multiplication and one addition for each map: [C], [C]."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    slope = layer.weight / (layer.running_var + layer.eps).sqrt()
    return slope, layer.bias - layer.running_mean * slope


def _batch_norm(layer: nn.BatchNorm2d, dtype: torch.dtype) -> Step:
    """One that follows no convolution directly."""
    slope, offset = (each.to(dtype)[:, None, None] for each in _slope_and_offset(layer))
    return lambda maps: maps * slope + offset


def _convolution(
    layer: nn.Conv2d, norm: nn.BatchNorm2d | None, relu: bool, size: list[int], dtype: torch.dtype,
) -> Step:
    """A convolution with what follows it.

    For one image the weights are in oneDNN's own layout, which otherwise is made at each call and takes a tenth of the
    time. It depends on the size of the input: for other sizes it may be the wrong one, and then changing it is slow (44
    instead of 2.5 ms for one image and 384 maps of 13 x 13, 15 instead of 9 ms for 128 images and 128 maps of 7 x 7).
    So batches of several images use the plain weights.

    Args:
        size: of the input for one image, [1, C, H, W].
    """
    weight, bias = layer.weight.detach(), layer.bias
    assert bias is not None
    if norm:
        slope, offset = _slope_and_offset(norm)
        weight, bias = weight * slope[:, None, None, None], bias * slope + offset
    weight = weight.to(dtype, memory_format=torch.channels_last, copy=True)
    bias = bias.to(dtype, copy=True)
    geometry: Any = (layer.padding, layer.stride, layer.dilation, layer.groups)
    pointwise = _pointwise()
    if pointwise is None or isinstance(layer, CeilConv2d):
        plain = nn.utils.skip_init(type(layer), layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride,
                                   layer.padding, layer.dilation, layer.groups, dtype=dtype)
        plain.weight, plain.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
        return (lambda maps: plain(maps).relu_()) if relu else plain
    lay_out: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
    laid_out = lay_out(weight.to_mkldnn(), *geometry, size)
    after = "relu" if relu else "none"
    return lambda maps: pointwise(maps, laid_out if len(maps) == 1 else weight, bias, *geometry, after, [], "")


def _pointwise() -> Any:
    """oneDNN's convolution with a fused ReLU: a private operator of torch's compiler, None where it is absent."""
    return getattr(torch.ops.mkldnn, "_convolution_pointwise", None)


def _int8(layer: nn.Linear) -> Step:
    """A layer with int8 weights, one scale for each unit; activations are int8 too, one scale for each batch.

    An x86 processor without VNNI adds two products in 16 bits, where 255 x 127 x 2 overflows and 127 x 127 x 2 does
    not: there activations have 7 bits.
    """
    weight = layer.weight.detach().float()
    scale = weight.abs().amax(1).clamp(min=1e-30) / 127
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's notice that these operators will move to another package
        quantized = torch.quantize_per_channel(weight, scale.double(), torch.zeros(len(scale), dtype=torch.long), 0,
                                                torch.qint8)
        packed: Any = torch.ops.quantized.linear_prepack(quantized, layer.bias.detach().float())
    seven_bits = platform.machine() in ("x86_64", "AMD64") and not torch.cpu._is_vnni_supported()
    return lambda units: torch.ops.quantized.linear_dynamic(units, packed, seven_bits)
