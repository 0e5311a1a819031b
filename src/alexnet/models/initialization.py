"""How each preset draws its first weights (§5, and the other sources')."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from alexnet.architecture.spec import Arch


@torch.no_grad()
def initialize(layers: Iterable[tuple[str, nn.Conv2d | nn.Linear]], arch: Arch, seed: int) -> None:
    """Draw the weights and biases of every layer, in order, on the CPU.

    Args:
        layers: name and layer, first to last, as `AlexNet.weight_layers` gives them.
        arch: `arch.initialization` names the distribution; sigma and bias are each layer's own (§5).
        seed: the weights depend on this alone, not on torch's global random state.
    """
    generator = torch.Generator().manual_seed(seed)
    gaussians = [(conv.init_std, conv.init_bias) for conv in arch.conv] + [(dense.init_std, dense.init_bias) for dense in arch.dense]
    gaussians.append((arch.output_init_std, arch.output_init_bias))
    for (_, layer), (init_std, bias) in zip(layers, gaussians, strict=True):
        assert layer.bias is not None
        if layer.weight.is_meta:  # a network built for its shapes alone has nothing to draw
            continue
        fan_in = layer.weight[0].numel()
        weight, offset = torch.empty(layer.weight.shape, device="cpu"), torch.empty(layer.bias.shape, device="cpu")
        if arch.initialization == "fan-in":
            # torch's default for both layers: uniform, and so with variance 1 / (3 fan-in).
            weight.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
            offset.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
        else:
            is_output = layer.weight.shape[0] == arch.classes and isinstance(layer, nn.Linear)
            deviation = (2 / fan_in) ** 0.5 if arch.initialization == "kaiming" and not is_output else init_std
            weight.normal_(0.0, deviation, generator=generator)
            offset.fill_(bias)
        layer.weight.copy_(weight)
        layer.bias.copy_(offset)
