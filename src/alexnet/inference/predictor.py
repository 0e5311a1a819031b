"""Inference with a trained network in torch: class predictions and features of images.

`load` gives a `Model`: network, preprocessing and classes together.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet._runtime.arguments import class_names, weights_name
from alexnet._runtime.devices import choose_device
from alexnet.architecture.spec import Arch
from alexnet.data.preprocessing import Preprocess
from alexnet.errors import UserError, did_you_mean
from alexnet.inference.classifier import Classifier, ImageInput
from alexnet.inference.evaluate import probabilities
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.open_weights import is_state_dict, open_weights
from alexnet.models.hooks import captured_outputs
from alexnet.models.packaged import default_weights
from alexnet.models.quantized import FastNetwork
from alexnet.models.seen import SeenImages
from alexnet.models.wrappers import evaluation_mode, unwrapped


@dataclass
class Model(Classifier):
    """A trained network with its preprocessing and classes."""

    network: AlexNet
    preprocess: Preprocess
    classes: tuple[str, ...]
    """Names of the outputs; "output 0", "output 1", ... if they are unknown."""
    class_names_known: bool = True
    """False: the weights came without class names, so no output can be matched with a class of a data set."""
    seen: SeenImages = field(default_factory=SeenImages.not_recorded)
    """The images that the network was trained on, by content hash."""
    fast: FastNetwork | None = None
    """A copy of the network in bf16 and int8, which then makes the predictions (`load(..., fast=True)`)."""
    notes: tuple[str, ...] = ()
    """`Checkpoint.notes`: what was assumed about the weights, and what is unknown."""
    path: Path | None = None
    """Where its checkpoint was loaded from."""
    epoch: int | None = None
    """Epochs of training behind its weights; None where it is not recorded."""

    def __repr__(self) -> str:
        """One line: the arrays of weights and of hashes would fill pages."""
        origin = f", from {self.path}" if self.path else ""
        return f"<Model: {len(self.classes):,} classes, {self.side}x{self.side} pixels{origin}>"

    @property
    def plain_network(self) -> AlexNet:
        """`network` without a wrapper such as that of `torch.compile`, which hides its layers and temperatures."""
        inner = unwrapped(self.network)
        assert isinstance(inner, AlexNet)
        return inner

    @property
    def inference_network(self) -> nn.Module:
        """The network that makes the predictions: `fast`, if there is one, else `network`."""
        return self.fast or self.network

    @property
    def side(self) -> int:
        return self.preprocess.spec.side

    @property
    def is_calibrated(self) -> bool:
        return self.plain_network.temperature != 1.0

    @property
    def has_ten_view_temperature(self) -> bool:
        return self.plain_network.ten_view_temperature is not None

    def temperature(self, views: int) -> float:
        """What the logits of each of 1 or 10 views are divided by; 1 if the network is not calibrated."""
        network = self.plain_network
        own = network.ten_view_temperature if views == 10 else None
        return network.temperature if own is None else own

    def probabilities(self, pixels_NHWC: NDArray[np.uint8], views: int = 1) -> NDArray[np.float32]:
        network = self.inference_network
        with torch.inference_mode(), evaluation_mode([network]):
            outputs_NK = probabilities([(network, self.preprocess)], self._on_device(pixels_NHWC), views)
        return outputs_NK.cpu().numpy()

    def _on_device(self, pixels_NHWC: NDArray[np.uint8]) -> Tensor:
        """Stored images on the network's device."""
        return torch.from_numpy(pixels_NHWC).to(self.preprocess.mean_HWC.device)

    @property
    def feature_layer(self) -> str:
        """The last hidden layer's activations: relu7 of the paper's network."""
        return self.plain_network.activation_names()[-1]

    def features(self, images: ImageInput | Iterable[ImageInput], layer: str | None = None) -> Tensor:
        """Compute a layer's output for the center crop of each image: float [N, units] or [N, maps, rows, columns].

        Args:
            images: one image or many.
            layer: any of `network.layer_names()`, such as fc6, relu6 (fc6 after its ReLU) or pool5; default: the last
                hidden layer's activations, whose distances §6.1 compares.

        Raises:
            UserError: the network has no layer of that name.
        """
        layer, network = layer or self.feature_layer, self.plain_network
        outputs: list[Tensor] = []
        with captured_outputs(network, [layer]) as captured, torch.inference_mode(), evaluation_mode([network]):
            for pixels_NHWC in self.stored_batches(images):
                network(self.preprocess(self._on_device(pixels_NHWC)))
                outputs.append(captured[layer])
        return torch.cat(outputs)

    def views(self, images: ImageInput | Iterable[ImageInput]) -> Tensor:
        """Preprocess the center crop of each image: the network's input, float [N, 3, crop, crop]."""
        return torch.cat([self.preprocess(self._on_device(batch_NHWC)) for batch_NHWC in self.stored_batches(images)])

    def class_index(self, label: str) -> int:
        """The index of a class. Raises UserError, with the closest name, if the network has no such class."""
        if label not in self.classes:
            raise UserError(f"the network has no class {label[:100]!r}", did_you_mean(label[:100], self.classes))
        return self.classes.index(label)


def load(
    path_or_name: str | PathLike[str] | None = None, device: str | torch.device = "cpu", fast: bool = False,
    classes: Sequence[str] | None = None, arch: str | Arch | None = None,
) -> Model:
    """Load a trained model, in evaluation mode.

    Args:
        path_or_name: a run's folder (its best checkpoint, else its last) or what `train` returned, a checkpoint, a
            folder in the Hugging Face layout, a file of weights, or a name: `pretrained`, `torchvision`, which is
            downloaded once, or hf://USER/NAME[@REVISION], on the Hugging Face Hub (`open_weights`). Default: the
            pretrained network in the package.
        device: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto`: CUDA where it is available, else the CPU.
        fast: predict with int8 and, where the CPU has its instructions, bf16 (models/quantized.py): one image of 224
            pixels takes a half to a quarter of the time, and probabilities differ by up to 0.04.
        classes: a list of the names of the outputs, in their order; default: those that come with the weights.
        arch: the network, or the name of a preset, of a file that `torch.save(network.state_dict(), FILE)` wrote;
            default: the preset whose tensors have the same shapes.

    Warns:
        UserWarning: a file does not say its network, mean or sizes, and they are assumed (`Model.notes`), each in one
            warning. Missing class names show in the predictions: "output 0".

    Raises:
        UserError: it is missing or damaged, or has another number of outputs; the error names the file. Or the device
            is absent.
    """
    model = load_model(path_or_name, device, fast, classes, arch)
    if path_or_name is not None and is_state_dict(Path(weights_name(path_or_name))):
        for note in model.notes if model.class_names_known else model.notes[:-1]:  # the last is that of the names
            warnings.warn(f"{path_or_name}: {note}", stacklevel=2)
    return model


def load_model(
    path_or_name: str | PathLike[str] | None = None, device: str | torch.device = "cpu", fast: bool = False,
    classes: Sequence[str] | None = None, arch: str | Arch | None = None,
) -> Model:
    """As `load`, without warnings, for callers that show `Model.notes`."""
    device = choose_device(device)  # before the file is read
    weights = default_weights() if path_or_name is None else weights_name(path_or_name)
    return model_from_checkpoint(open_weights(weights, class_names(classes), arch), device, fast)


def model_from_checkpoint(saved: Checkpoint, device: str = "cpu", fast: bool = False) -> Model:
    """The model of a checkpoint; `device` and `fast` are as for `load`."""
    device = choose_device(device)
    network = saved.network().to(device)
    return Model(
        network, saved.preprocess().to(torch.device(device)), saved.classes, saved.class_names_known,
        seen=saved.seen_in_roles, fast=FastNetwork(network.eval()) if fast else None, notes=saved.notes,
        path=saved.path, epoch=saved.training.get("epoch"))
