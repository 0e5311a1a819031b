"""Weight initialization by the Gaussians of §5, or He's or torch's; the numbers (std, biases) are in architecture/."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from alexnet.architecture.spec import GAIN_SQUARED, Arch


@torch.no_grad()
def initialize(layers: Iterable[tuple[str, nn.Conv2d | nn.Linear]], arch: Arch, seed: int) -> None:
    """Draw the weights and biases of every layer, in order, on the CPU.

    Args:
        layers: name and layer, first to last, as `AlexNet.weight_layers` gives them.
        arch: `arch.initialization` names the distribution; `init_std` and `init_bias` are each layer's (§5).
        seed: decides the weights; torch's global random state plays no part.
    """
    generator = torch.Generator().manual_seed(seed)
    gaussians = [
        *((conv.init_std, conv.init_bias) for conv in arch.conv),
        *((dense.init_std, dense.init_bias) for dense in arch.dense),
        (arch.output_init_std, arch.output_init_bias)]
    for number, ((_, layer), (init_std, init_bias)) in enumerate(zip(layers, gaussians, strict=True), 1):
        assert layer.bias is not None
        if layer.weight.is_meta:  # built for its shapes alone
            continue
        fan_in = layer.weight[0].numel()
        weight, bias = torch.empty(layer.weight.shape, device="cpu"), torch.empty(layer.bias.shape, device="cpu")
        if arch.initialization == "fan-in":
            # torch's default for both kinds of layer: uniform, with variance 1 / (3 fan-in).
            weight.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
            bias.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
        else:
            # The output layer, the last, which no activation follows, keeps the Gaussian of `arch`.
            keeps_variance = arch.initialization == "kaiming" and number < len(gaussians)
            std = (GAIN_SQUARED[arch.activation] / fan_in) ** 0.5 if keeps_variance else init_std
            weight.normal_(0.0, std, generator=generator)
            bias.fill_(init_bias)
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
