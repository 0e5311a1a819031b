"""AlexNet as a PyTorch module: five convolutions and three fully connected layers (§3.5), or any other `Arch`.

Shapes: N images, C maps (channels), H rows, W columns, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from alexnet.architecture.arithmetic import check_size, explain
from alexnet.architecture.spec import Arch, layer_kind_and_number
from alexnet.errors import UserError, did_you_mean, require
from alexnet.models.convolutions import Convolutions
from alexnet.models.initialization import initialize
from alexnet.models.layers import ACTIVATIONS, CeilConv2d, MapNorm
from alexnet.models.response_norm import ResponseNorm


class AlexNet(nn.Module):
    """The network that `arch` describes, untrained: float pixels NCHW to logits NK (§3.5, Figure 2).

    The keys of the state dict are `features.conv1.weight` ... `classifier.fc8.bias`, or torchvision's where
    `arch.state_keys` asks for them.
    """

    def __init__(
        self, arch: Arch, seed: int | None = 0, temperature: float = 1.0, ten_view_temperature: float | None = None,
    ) -> None:
        """Build the layers and draw their weights.

        Args:
            arch: the network's numbers.
            seed: decides the weights, together with `arch` alone; torch's global random state plays no part, and stays
                as it is. None: the weights are loaded afterwards, so they are not drawn.
            temperature: divides the logits, so that the softmax gives calibrated probabilities (`alexnet calibrate`).
            ten_view_temperature: the one for the mean over ten views, which `inference.evaluate.softmax_of_views` uses;
                the logits of `forward` are divided by `temperature` alone. None: that of one view.

        Raises:
            UserError: `arch.input.crop` is too small for the layers; no tensor has been made.
        """
        super().__init__()
        sizes = {layer.name: layer for layer in explain(arch).layers}
        self.arch, self.temperature, self.ten_view_temperature = arch, temperature, ten_view_temperature

        average = {"average_pool": nn.AdaptiveAvgPool2d(arch.average_pool)} if arch.average_pool else {}
        features = _convolutions(arch)
        inputs = math.prod(sizes[list(average or features)[-1]].output_shape)
        classifier = _fully_connected(arch, inputs)

        self._names = (*features, *average, *classifier)
        self._frozen: list[nn.Module] = []
        self.features = _sequential(Convolutions, features, arch)
        self.avgpool = next(iter(average.values()), nn.Identity())
        self.classifier = _sequential(nn.Sequential, classifier, arch)
        if torch.get_default_dtype() != torch.float32:  # preprocessing and checkpoints are float32
            self.float()
        if seed is not None:
            initialize(self.weight_layers(), arch, seed)

    def forward(self, pixels_NCHW: Tensor) -> Tensor:
        """Compute logits NK from what `Preprocess` gives. The loss and the predictions apply the softmax.

        Raises:
            UserError: the input's side is not `arch.input.crop`; with average pooling: it is too small.
        """
        self._check_side(pixels_NCHW.shape[-1])
        maps_NCHW = self.avgpool(self.features(pixels_NCHW))
        logits_NK: Tensor = self.classifier(maps_NCHW.flatten(1))
        return logits_NK if self.temperature == 1.0 else logits_NK / self.temperature

    def _check_side(self, side: int) -> None:
        expected = self.arch.input.crop
        if side != expected:
            check_size(self.arch, side)
            require(bool(self.arch.average_pool), f"{self.arch.name} takes {expected} pixels a side and got {side}",
                    f"crop or rescale to {expected}, or build a network with arch.input.crop={side}")

    def freeze(self, layers: str) -> None:
        """Exclude layers from training; batch normalization of the same number keeps its statistics.

        Args:
            layers: names separated by spaces, such as `conv1 fc6`; `conv` means all convolutions.

        Raises:
            UserError: a name has no weights, or no layer would be left to train.
        """
        trainable = [name for name, _ in self.weight_layers()]
        frozen = [name for word in layers.split() for name in (
            [name for name in trainable if name.startswith("conv")] if word == "conv" else [word])]
        for name in frozen:
            require(name in trainable, f"{self.arch.name} has no weights called {name!r} to freeze",
                    did_you_mean(name, trainable))
        require(set(frozen) != set(trainable), f"freezing {layers} leaves nothing to train",
                f"leave out {trainable[-1]}")
        numbers = {layer_kind_and_number(name)[1] for name in frozen}
        parts = [(name, *layer_kind_and_number(name)) for name in self._names]
        self._frozen = [self.named_layer(name) for name, kind, number in parts
                        if number in numbers and kind in ("conv", "fc", "norm")]
        for layer in self._frozen:
            layer.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> AlexNet:
        """Set training or evaluation mode; frozen layers stay in evaluation mode."""
        super().train(mode)
        for layer in self._frozen:
            layer.eval()
        return self

    def layer_names(self) -> list[str]:
        """conv1, relu1, norm1, ... fc8, in order: the names in `alexnet explain`, and not the state dict's keys."""
        return list(self._names)

    def activation_names(self) -> list[str]:
        """The activation layers: relu1 ... relu7 in the paper's network."""
        return [name for name in self._names if name.startswith(self.arch.activation)]

    def named_layer(self, name: str) -> nn.Module:
        """The layer with one of `layer_names`. Raises UserError for any other name."""
        if name not in self._names:
            raise UserError(f"{self.arch.name} has no layer {name!r}", did_you_mean(name, self._names))
        average = [self.avgpool] if self.arch.average_pool else []
        return dict(zip(self._names, (*self.features, *average, *self.classifier), strict=True))[name]

    def logits_from(self, name: str, outputs_ND: Tensor) -> Tensor | None:
        """Compute logits NK from the outputs of a fully connected part's layer; None for a layer of another part."""
        place = self._names.index(name) - (len(self._names) - len(self.classifier))
        if place < 0:
            return None
        with torch.inference_mode():
            logits_NK: Tensor = self.classifier[place + 1 :](outputs_ND)
        return logits_NK / self.temperature

    def weight_layers(self) -> Iterator[tuple[str, nn.Conv2d | nn.Linear]]:
        """Name and layer of every convolution and fully connected layer, in order."""
        for name in self._names:
            layer = self.named_layer(name)
            if isinstance(layer, nn.Conv2d | nn.Linear):
                yield name, layer


def _convolutions(arch: Arch) -> dict[str, nn.Module]:
    """The convolutions, each followed by its activation, normalization and pooling, by name."""
    layers: dict[str, nn.Module] = {}
    maps = 3
    for number, conv in enumerate(arch.conv, 1):
        convolution = CeilConv2d if arch.conv_rounding == "ceil" else nn.Conv2d
        layers[f"conv{number}"] = _undrawn(
            convolution, maps, conv.width, conv.kernel, conv.stride, conv.padding, conv.dilation, arch.groups(number))
        maps = conv.width
        for step in arch.post_ops(number):
            if step == "act":
                layers[f"{arch.activation}{number}"] = ACTIVATIONS[arch.activation]()
            elif step == "pool":
                layers[f"pool{number}"] = nn.MaxPool2d(
                    arch.pool_kernel, arch.pool_stride, ceil_mode=arch.pool_rounding == "ceil")
            elif step == "avgpool":  # a window beyond the edge is divided by the values that it has
                layers[f"pool{number}"] = nn.AvgPool2d(
                    arch.pool_kernel, arch.pool_stride, ceil_mode=arch.pool_rounding == "ceil")
            elif step == "mapnorm":
                layers[f"mapnorm{number}"] = MapNorm(arch.map_lrn)
            elif arch.norm == "batch":
                layers[f"norm{number}"] = nn.BatchNorm2d(maps)
            else:
                layers[f"norm{number}"] = ResponseNorm(arch.lrn, maps, arch.towers)
    return layers


def _fully_connected(arch: Arch, inputs: int) -> dict[str, nn.Module]:
    """The fully connected layers with activation and dropout, and the output layer, by name."""
    layers: dict[str, nn.Module] = {}
    for number, dense in enumerate(arch.dense, len(arch.conv) + 1):
        # In training, `Strategy.use_global_layers` replaces it by one whose random numbers are a function of the step.
        dropout = {f"dropout{number}": nn.Dropout(arch.dropout)} if arch.dropout else {}
        layers |= dropout if arch.dropout_on_inputs else {}
        layers[f"fc{number}"] = _undrawn(nn.Linear, inputs, dense.width)
        if arch.dense_norm:
            layers[f"norm{number}"] = nn.BatchNorm1d(dense.width)
        layers[f"{arch.activation}{number}"] = ACTIVATIONS[arch.activation]()
        layers |= {} if arch.dropout_on_inputs else dropout
        inputs = dense.width
    layers[f"fc{len(arch.conv) + len(arch.dense) + 1}"] = _undrawn(nn.Linear, inputs, arch.classes)
    return layers


def _undrawn(kind: type[nn.Module], *sizes: int) -> nn.Module:
    """A layer whose weights torch does not draw: `initialize` draws them, or they are loaded.

    torch's own draws would take 0.2 s for the paper's 61 million weights, and change its global random state. Its
    `skip_init` fails for tensors without data (FakeTensorMode), so a class without the method makes the layer.
    """
    undrawn = type(kind.__name__, (kind,), {"reset_parameters": lambda layer: None})
    layer = undrawn(*sizes)
    layer.__class__ = kind
    return layer


def _sequential(kind: type[nn.Sequential], layers: dict[str, nn.Module], arch: Arch) -> nn.Sequential:
    if arch.state_keys == "torchvision":  # which numbers its layers
        return kind(*layers.values())
    sequence = kind()
    for name, layer in layers.items():
        sequence.add_module(name, layer)
    return sequence
