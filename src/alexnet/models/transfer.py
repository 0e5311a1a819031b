"""Begins a network from the weights of another: fine-tuning on other classes (§6), or with one more convolution.

A layer takes the checkpoint's weights by its part in the network: a convolution or its norm by number, a fully
connected layer by its place behind the convolutions, so that fc7 of a network with six convolutions finds fc6 of one
with five. The last layer is the classes' own: with other classes it stays as it was drawn.
"""

from __future__ import annotations

import torch
from torch import nn

from alexnet.architecture.spec import Arch
from alexnet.data.imagenet_classes import readable
from alexnet.errors import require
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint


@torch.no_grad()
def begin_from(network: AlexNet, saved: Checkpoint, classes: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Copy into `network` what `saved` has for it. Returns the names of the layers that were taken, and of the others.

    classes: what the network's outputs will stand for. A convolution that the checkpoint does not have, and that keeps
    maps and sides as they are, begins as the identity: behind a ReLU, the network then computes what the
    checkpoint's did. (§6 does not say how the sixth layer began.)
    Raises ValueError for a layer of another shape, or images taken otherwise, with both; and for a layer that the
    network has no place for.
    """
    for what in ("channels", "scale"):  # conv1 would see other colors, or numbers a hundred times as large
        ours, others = (getattr(arch.input, what) for arch in (network.arch, saved.arch))
        require(ours == others, f"{network.arch.name} takes images with {what} {ours}, and the checkpoint "
              f"({saved.arch.name}) with {others}; leave out --arch to take the checkpoint's own")
    other_classes = list(map(readable, saved.classes)) != list(map(readable, classes))
    theirs = _parts(saved.network())
    taken, drawn = [], []
    for part, (name, layer) in _parts(network).items():
        if part not in theirs or (part == "output" and other_classes):
            if isinstance(layer, nn.Conv2d):
                _begin_as_identity(layer, network.arch)
            drawn.append(name)
            continue
        state = theirs.pop(part)[1].state_dict()
        for key, tensor in layer.state_dict().items():
            require(key in state and state[key].shape == tensor.shape,
                  f"{name} of {network.arch.name} has {key} of shape {list(tensor.shape)}, and the checkpoint's "
                  f"({saved.arch.name}) {list(state[key].shape) if key in state else 'none'}; begin from a network "
                  "with the same layers, or leave out --arch to take the checkpoint's own")
        layer.load_state_dict(state)
        taken.append(name)
    theirs.pop("output", None)
    require(not theirs, f"the checkpoint ({saved.arch.name}) has {', '.join(name for name, _ in theirs.values())}, for "
          f"which {network.arch.name} has no place; leave out --arch to take the checkpoint's own network")
    return taken, drawn


def _parts(network: AlexNet) -> dict[str, tuple[str, nn.Module]]:
    """The layers that hold weights, by their part: conv1, norm1, dense1, ..., output; each with its name."""
    convolutions, hidden = len(network.arch.conv), len(network.arch.dense)
    parts = {}
    for name in network.layer_names():
        layer = network.named_layer(name)
        if not layer.state_dict():
            continue
        kind, number = name.rstrip("0123456789"), int(name.lstrip("abcdefghijklmnopqrstuvwxyz_"))
        part = name
        if number > convolutions:
            place = number - convolutions
            part = "output" if place > hidden else f"{kind} behind convolutions {place}"
        parts[part] = (name, layer)
    return parts


def _begin_as_identity(layer: nn.Conv2d, arch: Arch) -> None:
    keeps_maps = layer.in_channels == layer.out_channels
    keeps_sides = layer.stride == (1, 1) and all(2 * p == k - 1 for p, k in zip(
        map(int, layer.padding), layer.kernel_size, strict=True))
    if keeps_maps and keeps_sides and arch.activation == "relu" and arch.norm != "batch":
        nn.init.dirac_(layer.weight, groups=layer.groups)
        assert layer.bias is not None
        layer.bias.zero_()
