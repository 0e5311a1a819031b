"""The convolutional part of a network: layers in sequence, on CUDA with one kernel for all that follows a convolution.

On the CPU the maps are in channels_last, the values of all maps at a position side by side: in the other order torch's
max pooling alone takes a third of the time of a small network.

On CUDA, where ReLU, perhaps response normalization, and max pooling follow a convolution in this order, `norm_pool` of
_runtime/norm_pool.py computes them and the addition of the bias in one pass. It does not compute their results one by
one, so the layers run in sequence wherever anything observes one of them. Shapes: N images, C maps, H rows, W columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as all_modules

from alexnet._runtime.norm_pool import norm_pool, supports_norm_pool
from alexnet.models.layers import CeilConv2d
from alexnet.models.response_norm import ResponseNorm, norm_numbers

FUSED = ((nn.ReLU, ResponseNorm, nn.MaxPool2d), (nn.ReLU, nn.MaxPool2d))
"""The kinds of layers after a convolution for which there is a kernel, in order."""


class Convolutions(nn.Sequential):
    """The layers before the fully connected ones: network input NCHW to maps NCHW."""

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        layers = list(self)
        if maps_NCHW.device.type == "cpu" and not (torch.jit.is_tracing() or torch.compiler.is_exporting()):
            maps_NCHW = maps_NCHW.contiguous(memory_format=torch.channels_last)
        while layers:
            count = _fused_layers(layers[:4], maps_NCHW)
            maps_NCHW = _fused(layers[:count], maps_NCHW) if count else layers[0](maps_NCHW)
            layers = layers[count or 1 :]
        return maps_NCHW


def _fused_layers(layers: list[nn.Module], maps_NCHW: Tensor) -> int:
    """How many of these layers, from the first one on, `_fused` can compute on these maps; 0: it cannot.

    Layers of a kind that a user has derived from ours are computed by that kind's own code. So is what is compiled or
    exported: a compiler fuses operations itself, and other programs know no kernel of this package.
    """
    kinds = tuple(map(type, layers))
    after = next((kinds_after for kinds_after in FUSED if kinds[1 : len(kinds_after) + 1] == kinds_after), None)
    if after is None or kinds[0] not in (nn.Conv2d, CeilConv2d):
        return 0
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return 0
    conv, *_, pool = layers = layers[: len(after) + 1]
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(pool, nn.MaxPool2d)
    is_plain = conv.bias is not None and conv.padding_mode == "zeros" and (
        pool.padding, pool.dilation, pool.return_indices) == (0, 1, False)
    if not is_plain or any(map(_is_observed, layers)):
        return 0
    norm = layers[2] if ResponseNorm in after else None
    n, towers = (norm.lrn.n, norm.towers) if isinstance(norm, ResponseNorm) else (0, 1)
    fits = supports_norm_pool(maps_NCHW.device, _output_dtype(maps_NCHW), conv.out_channels, _side(pool.kernel_size),
                              _side(pool.stride), n, towers)
    return len(layers) if fits else 0


def _fused(layers: list[nn.Module], maps_NCHW: Tensor) -> Tensor:
    """A convolution and what follows it, in two kernels."""
    conv: Any = layers[0]
    pool: Any = layers[-1]
    numbers: Any = norm_numbers(layers[2]) if isinstance(layers[2], ResponseNorm) else {}
    return norm_pool(conv._conv_forward(maps_NCHW, conv.weight, None), conv.bias, _side(pool.kernel_size),
                     _side(pool.stride), ceil=pool.ceil_mode, **numbers)


def _is_observed(layer: nn.Module) -> bool:
    """Whether a hook waits for inputs, outputs or gradients of this layer or of all, or its `forward` was replaced."""
    return any((
        "forward" in vars(layer), layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks,
        layer._backward_pre_hooks, all_modules._global_forward_hooks, all_modules._global_forward_pre_hooks,
        all_modules._global_backward_hooks, all_modules._global_backward_pre_hooks))


def _output_dtype(maps_NCHW: Tensor) -> torch.dtype:
    """The dtype of a convolution's output for these maps."""
    device = maps_NCHW.device.type
    has_autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if has_autocast else maps_NCHW.dtype


def _side(size: int | tuple[int, ...]) -> int:
    """The side of a square window, which `Arch` gives as one number; 0 for a tuple, which no kernel supports."""
    return size if isinstance(size, int) else 0
