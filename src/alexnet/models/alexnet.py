"""The networks: one module that any `Arch` describes, its layers of 2012, and its initialization.

Read it top to bottom: `AlexNet`, then the layers that torch does not have. Shapes: N images, C maps, H rows,
W columns, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor, nn

from alexnet.architecture.arithmetic import check_size, explain
from alexnet.architecture.spec import Arch
from alexnet.errors import did_you_mean
from alexnet.models.initialization import initialize
from alexnet.models.layers import ACTIVATIONS, CeilConv2d, MapNorm
from alexnet.models.response_norm import ResponseNorm


class AlexNet(nn.Module):
    """The network that `arch` describes, untrained: float pixels NCHW to logits NK (§3.5, Figure 2).

    The state dict's keys are `features.conv1.weight` ... `classifier.fc8.bias`, or torchvision's own where
    `arch.state_keys` says so. Weights are drawn by `initialize`; `seed` alone decides them.
    Raises ValueError if `arch.input.crop` is too small for the layers, before any tensor is made.
    """

    def __init__(self, arch: Arch, seed: int = 0) -> None:
        super().__init__()
        sizes = {layer.name: layer for layer in explain(arch).layers}
        self.arch = arch

        features: dict[str, nn.Module] = {}
        maps = 3
        for number, conv in enumerate(arch.conv, 1):
            convolution = CeilConv2d if arch.conv_rounding == "ceil" else nn.Conv2d
            features[f"conv{number}"] = convolution(
                maps, conv.width, conv.kernel, conv.stride, conv.padding, conv.dilation, arch.groups(number))
            maps = conv.width
            for step in arch.post_ops(number):
                if step == "act":
                    features[f"{arch.activation}{number}"] = ACTIVATIONS[arch.activation]()
                elif step == "pool":
                    features[f"pool{number}"] = nn.MaxPool2d(
                        arch.pool_kernel, arch.pool_stride, ceil_mode=arch.pool_rounding == "ceil")
                elif step == "mapnorm":
                    features[f"mapnorm{number}"] = MapNorm()
                elif arch.norm == "batch":
                    features[f"norm{number}"] = nn.BatchNorm2d(maps)
                else:
                    features[f"norm{number}"] = ResponseNorm(arch.lrn, maps, arch.towers)

        average = {"average_pool": nn.AdaptiveAvgPool2d(arch.average_pool)} if arch.average_pool else {}
        inputs = math.prod(sizes[list(average or features)[-1]].output_shape)

        classifier: dict[str, nn.Module] = {}
        for number, dense in enumerate(arch.dense, len(arch.conv) + 1):
            dropout = {f"dropout{number}": nn.Dropout(arch.dropout)} if arch.dropout else {}
            classifier |= dropout if arch.dropout_before else {}
            classifier[f"fc{number}"] = nn.Linear(inputs, dense.width)
            if arch.dense_norm:
                classifier[f"norm{number}"] = nn.BatchNorm1d(dense.width)
            classifier[f"{arch.activation}{number}"] = ACTIVATIONS[arch.activation]()
            classifier |= {} if arch.dropout_before else dropout
            inputs = dense.width
        classifier[f"fc{len(arch.conv) + len(arch.dense) + 1}"] = nn.Linear(inputs, arch.classes)

        self._names = (*features, *average, *classifier)
        self._frozen: list[nn.Module] = []
        self.features = _sequential(features, arch)
        self.avgpool = next(iter(average.values()), nn.Identity())
        self.classifier = _sequential(classifier, arch)
        initialize(self.weight_layers(), arch, seed)

    def forward(self, pixels_NCHW: Tensor) -> Tensor:
        """Logits NK from what `augment.Preprocess` makes. No softmax: the loss and the predictions have it.

        Raises ValueError for a side that the network was not made for: another one than `arch.input.crop`, or, where
        an average pooling evens sides out, one that is too small.
        """
        self._check_side(pixels_NCHW.shape[-1])
        maps_NCHW = self.avgpool(self.features(pixels_NCHW))
        return self.classifier(maps_NCHW.flatten(1))

    def _check_side(self, side: int) -> None:
        made_for = self.arch.input.crop
        if side != made_for:
            check_size(self.arch, side)
            if not self.arch.average_pool:
                raise ValueError(f"{self.arch.name} was made for {made_for} pixels and got {side}; crop or rescale to "
                                 f"{made_for}, or make one with arch.input.crop={side}")

    def freeze(self, layers: str) -> None:
        """Let `layers` stay as they are in training: `conv`, which means all convolutions, or names such as conv1 fc6.

        What bears a layer's number freezes along with it: batch normalization keeps its statistics.
        Raises ValueError for a name that has no weights, and where nothing would be left to train.
        """
        weighty = [name for name, _ in self.weight_layers()]
        chosen = [name for word in layers.split() for name in (
            [name for name in weighty if name.startswith("conv")] if word == "conv" else [word])]
        for name in chosen:
            if name not in weighty:
                raise ValueError(f"{self.arch.name} has no weights called {name!r} to freeze; {did_you_mean(name, weighty)}")
        if set(chosen) == set(weighty):
            raise ValueError(f"freezing {layers} leaves nothing to train; leave out {weighty[-1]}")
        numbers = {_number(name) for name in chosen}
        self._frozen = [self.named_layer(name) for name in self._names if _number(name) in numbers
                        and name.startswith(("conv", "fc", "norm"))]
        for layer in self._frozen:
            layer.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> AlexNet:
        """Training or evaluation mode, as in torch; frozen layers stay in evaluation mode."""
        super().train(mode)
        for layer in self._frozen:
            layer.eval()
        return self

    def layer_names(self) -> list[str]:
        """conv1, relu1, norm1, ... fc8, in order: the names `alexnet explain` uses, whatever the state dict's keys."""
        return list(self._names)

    def named_layer(self, name: str) -> nn.Module:
        """The layer of that name, for a hook. Raises KeyError for a name that `layer_names` has not."""
        average = [self.avgpool] if self.arch.average_pool else []
        return dict(zip(self._names, (*self.features, *average, *self.classifier), strict=True))[name]

    def weight_layers(self) -> Iterator[tuple[str, nn.Conv2d | nn.Linear]]:
        """The layers with kernels, conv1 to the last fc, with their names."""
        for name in self._names:
            layer = self.named_layer(name)
            if isinstance(layer, nn.Conv2d | nn.Linear):
                yield name, layer


def _number(name: str) -> str:
    """conv1 -> 1; nothing for average_pool."""
    return name.lstrip("abcdefghijklmnopqrstuvwxyz_")


def _sequential(layers: dict[str, nn.Module], arch: Arch) -> nn.Sequential:
    if arch.state_keys == "torchvision":
        return nn.Sequential(*layers.values())
    sequence = nn.Sequential()
    for name, layer in layers.items():
        sequence.add_module(name, layer)
    return sequence
