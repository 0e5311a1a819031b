"""Transfer learning: start a network from another one's weights, for other classes (§6) or one more convolution.

Layers are matched by their role: a convolution or its norm by number, a fully connected layer by its position behind
the convolutions, so that fc7 of a network with six convolutions is matched with fc6 of one with five. The output layer
belongs to the classes: for other classes it keeps its random weights.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from alexnet.architecture.spec import Arch, layer_kind_and_number
from alexnet.data.imagenet_classes import comparable
from alexnet.errors import require
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint


def transfer_weights(network: AlexNet, saved: Checkpoint, classes: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Copy the checkpoint's weights into a network, layer by layer.

    A convolution that the checkpoint lacks keeps its random weights, as code2012's sixth did (layer-params-146-2009).
    code2012 then also drew the fully connected layers anew; here they are copied.

    Args:
        network: the network to change.
        saved: where the weights come from.
        classes: the classes that the network's outputs stand for.

    Returns:
        Names of the layers that were copied, and of those that kept their random weights.

    Raises:
        UserError: a layer has another shape, the network lacks a layer, or the two take different inputs.
    """
    same_classes = saved.class_names_known and [*map(comparable, saved.classes)] == [*map(comparable, classes)]
    return _transfer(network, saved.network(calibrated=False), same_classes)


def require_transferable(arch: Arch, source: Arch) -> None:
    """Raise the UserError that `transfer_weights` from `source` to `arch` would raise, without any weights or data."""
    if replace(arch, classes=source.classes) != source:
        _transfer(AlexNet(arch, 0), AlexNet(source, 0), same_classes=False)


@torch.no_grad()
def _transfer(network: AlexNet, saved: AlexNet, same_classes: bool) -> tuple[list[str], list[str]]:
    """Copy the layers of a network, as `transfer_weights`; the output layer only for the same classes."""
    for setting in ("channels", "scale"):  # else conv1 would get other colors, or values of another magnitude
        own, saved_value = (getattr(arch.input, setting) for arch in (network.arch, saved.arch))
        require(own == saved_value, f"{network.arch.name} takes images with {setting} {own}, and the checkpoint "
                f"({saved.arch.name}) with {saved_value}", "leave out --arch to take the checkpoint's own")
    sources = _layers_by_role(saved)
    copied, random = [], []
    for role, (name, layer) in _layers_by_role(network).items():
        if role not in sources or (role == "output" and not same_classes):
            random.append(name)
            continue
        state = sources.pop(role)[1].state_dict()
        for key, tensor in layer.state_dict().items():
            require(key in state and state[key].shape == tensor.shape,
                    f"{name} of {network.arch.name} has {key} of shape {list(tensor.shape)}, and the checkpoint's "
                    f"({saved.arch.name}) {list(state[key].shape) if key in state else 'none'}",
                    "begin from a network with the same layers, or leave out --arch to take the checkpoint's own")
        layer.load_state_dict(state)
        copied.append(name)
    sources.pop("output", None)
    unused = ", ".join(name for name, _ in sources.values())
    require(not unused, f"the checkpoint ({saved.arch.name}) has {unused}, for which {network.arch.name} has no place",
            "leave out --arch to take the checkpoint's own network")
    return copied, random


def _layers_by_role(network: AlexNet) -> dict[str, tuple[str, nn.Module]]:
    """Role -> name and layer, of all layers with weights or statistics; the last layer's role is "output"."""
    convolutions, hidden = len(network.arch.conv), len(network.arch.dense)
    roles = {}
    for name in network.layer_names():
        layer = network.named_layer(name)
        if not layer.state_dict():
            continue
        kind, number = layer_kind_and_number(name)
        assert number is not None  # every layer with weights or statistics has one
        role, position = name, number - convolutions
        if position > 0:
            role = "output" if position > hidden else f"{kind} {position} behind the convolutions"
        roles[role] = (name, layer)
    return roles
