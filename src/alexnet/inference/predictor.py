"""Inference with a trained network: class predictions, the 50% from which it is sure, and features of images.

`load` gives a `Model`: network, preprocessing and classes together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet._runtime.devices import choose_device
from alexnet.architecture.spec import Arch
from alexnet.data import images as image_files
from alexnet.data.images import BadImage
from alexnet.data.preprocessing import Preprocess
from alexnet.data.remarks import Kind
from alexnet.errors import UserError, did_you_mean, require
from alexnet.inference import confidence
from alexnet.inference.evaluate import probabilities
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.open_weights import open_weights
from alexnet.models.hooks import captured_outputs
from alexnet.models.packaged import default_weights
from alexnet.models.quantized import FastNetwork
from alexnet.models.seen import SeenImages

BATCH_SIZE = 64
"""Batch size: views in a forward pass."""

ImageInput = str | Path | bytes | NDArray[np.uint8]
"""An image: its path, its encoded bytes, or its pixels, uint8 [height, width, 3], RGB."""


@dataclass(frozen=True)
class Prediction:
    """A class and its probability."""

    name: str
    probability: float


def probability_text(probability: float, *, tenths: bool = False) -> str:
    """In percent, with a decimal where it says something: "81%", "4.2%", "99.3%". The pages' scripts do the same.

    What only rounds to certainty is not called that: below 0.05% it is "<0.1%", and from 99.95% ">99.9%".

    Args:
        probability: 0..1.
        tenths: with one decimal everywhere, for columns.
    """
    if 0 < probability < 0.0005:
        return "<0.1%"
    if 0.9995 <= probability < 1:
        return ">99.9%"
    return f"{probability:.1%}" if tenths or probability < 0.1 or probability >= 0.99 else f"{probability:.0%}"


@dataclass
class Model:
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

    @property
    def inference_network(self) -> nn.Module:
        """The network that makes the predictions: `fast`, if there is one, else `network`."""
        return self.fast or self.network

    def predict(
        self, images: ImageInput | Iterable[ImageInput], *, top: int = 5, views: int = 1,
    ) -> list[list[Prediction]]:
        """Predict the likeliest classes of each image, best first.

        Args:
            images: one image or many.
            top: number of classes.
            views: 1 (the center crop) or 10 (§4.1).

        Raises:
            BadImage: an image cannot be decoded; the error names it.
            UserError: `top` or `views` is out of range.
        """
        require(top >= 1, f"top {top} must be at least 1")
        predictions: list[list[Prediction]] = []
        for pixels_NHWC in self._batches(images, max(1, BATCH_SIZE // max(1, views))):
            with torch.inference_mode():
                outputs_NK = probabilities([(self.inference_network, self.preprocess)], pixels_NHWC, views)
            best = outputs_NK.topk(min(top, len(self.classes)), dim=1)
            predictions += [
                [Prediction(self.classes[k], p) for p, k in zip(row_p, row_k, strict=True)]
                for row_p, row_k in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
        return predictions

    @property
    def is_calibrated(self) -> bool:
        """Whether its probabilities were calibrated (`alexnet calibrate`)."""
        return self.network.temperature != 1.0

    def is_sure(self, probability: float, sure_from: float | None = None) -> bool | None:
        """Whether the likeliest class of an image reaches a threshold; None if it is not calibrated and none is given.

        Args:
            probability: of the likeliest class.
            sure_from: the threshold; default: 0.5 of a calibrated network.
        """
        return confidence.is_sure(probability, self.is_calibrated, sure_from)

    @property
    def feature_layer(self) -> str:
        """The last hidden layer's activations: relu7 of the paper's network."""
        return self.network.activation_names()[-1]

    def features(self, images: ImageInput | Iterable[ImageInput], layer: str | None = None) -> Tensor:
        """Compute a layer's output for the center crop of each image: float [N, units] or [N, maps, rows, columns].

        Args:
            images: one image or many.
            layer: any of `network.layer_names()`, such as fc6, relu6 (fc6 after its ReLU) or pool5; default: the last
                hidden layer's activations, whose distances §6.1 compares.

        Raises:
            UserError: the network has no layer of that name.
        """
        layer = layer or self.feature_layer
        outputs: list[Tensor] = []
        with captured_outputs(self.network, [layer]) as captured, torch.inference_mode():
            for pixels_NHWC in self._batches(images):
                self.network(self.preprocess(pixels_NHWC))
                outputs.append(captured[layer])
        return torch.cat(outputs)

    def views(self, images: ImageInput | Iterable[ImageInput]) -> Tensor:
        """Preprocess the center crop of each image: the network's input, float [N, 3, crop, crop]."""
        return torch.cat([self.preprocess(pixels_NHWC) for pixels_NHWC in self._batches(images)])

    def class_index(self, label: str) -> int:
        """The index of a class. Raises UserError, with the closest name, if the network has no such class."""
        if label not in self.classes:
            raise UserError(f"the network has no class {label[:100]!r}", did_you_mean(label[:100], self.classes))
        return self.classes.index(label)

    def pixels(self, image: ImageInput, name: str = "image", remarks: set[Kind] | None = None) -> NDArray[np.uint8]:
        """Decode an image, rescale and crop it as the training images were (§2): uint8 [side, side, 3].

        Args:
            image: one image.
            name: what to call encoded bytes in an error.
            remarks: what a user should know of the image is added to this set (data/remarks.py).

        Raises:
            BadImage: the image cannot be decoded.
            UserError: it is of another type, or an array of another shape or type.
        """
        if isinstance(image, bytes):
            pixels_HWC = image_files.decode(image, name, remarks=remarks)
        elif isinstance(image, np.ndarray):
            pixels_HWC = image
        elif isinstance(image, str | Path):
            pixels_HWC = _read(Path(image), remarks)
        else:
            raise UserError(f"an image is a path, encoded bytes or a uint8 array, and not of {type(image)}",
                            "convert it with numpy.array(image)")
        shape, dtype = pixels_HWC.shape, pixels_HWC.dtype
        require(dtype == np.uint8 and len(shape) == 3 and shape[2] == 3,
                f"an image of shape {shape} and {dtype} is not uint8 [height, width, 3]")
        return image_files.square(pixels_HWC, self.preprocess.spec.side)

    def _batches(self, images: ImageInput | Iterable[ImageInput], size: int = BATCH_SIZE) -> Iterator[Tensor]:
        """Stored images on the network's device: uint8 [N, side, side, 3], N up to `size`; one empty batch of none."""
        if isinstance(images, str | Path | bytes | np.ndarray) or not isinstance(images, Iterable):
            images = [images]
        side, remaining = self.preprocess.spec.side, iter(images)
        batch = list(islice(remaining, size))
        while True:
            pixels_NHWC = np.array([self.pixels(image) for image in batch], np.uint8).reshape(-1, side, side, 3)
            yield torch.from_numpy(pixels_NHWC).to(self.preprocess.mean_HWC.device)
            if not (batch := list(islice(remaining, size))):
                return


def _read(path: Path, remarks: set[Kind] | None) -> NDArray[np.uint8]:
    try:
        return image_files.read(path, remarks)
    except (OSError, ValueError) as error:  # a ValueError of a name that contains a NUL character
        if isinstance(error, UserError):
            raise
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
        raise BadImage(f"{path} cannot be read: {reason}", "check the name, and who may read the file") from error


def load(
    path_or_name: str | Path | None = None, device: str = "cpu", fast: bool = False,
    classes: Sequence[str] | None = None, arch: str | Arch | None = None,
) -> Model:
    """Load a trained model, in evaluation mode.

    Args:
        path_or_name: a run's folder (its best checkpoint, else its last), a checkpoint, a folder in the Hugging Face
            layout, a file of weights, or a name: `pretrained`, `torchvision`, which is downloaded once, or
            hf://USER/NAME[@REVISION], on the Hugging Face Hub (`open_weights`). Default: the pretrained network in the
            package.
        device: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto`: CUDA where it is available, else the CPU.
        fast: predict in bf16 and int8 (models/quantized.py): several times as fast on a CPU, with probabilities that
            differ by up to 0.03.
        classes: names of the outputs, in their order; default: those that come with the weights.
        arch: the network, or the name of a preset, of a file that `torch.save(network.state_dict(), FILE)` wrote;
            default: the preset whose tensors have the same shapes.

    Raises:
        UserError: it is missing or damaged, or has another number of outputs; the error names the file. Or the device
            is absent.
    """
    device = choose_device(device)  # before the file is read
    return model_from_checkpoint(
        open_weights(default_weights() if path_or_name is None else path_or_name, classes, arch), device, fast)


def model_from_checkpoint(saved: Checkpoint, device: str = "cpu", fast: bool = False) -> Model:
    """The model of a checkpoint; `device` and `fast` are as for `load`."""
    device = choose_device(device)
    network = saved.network().to(device)
    return Model(
        network, saved.preprocess().to(torch.device(device)), saved.classes, saved.class_names_known,
        seen=saved.seen, fast=FastNetwork(network.eval()) if fast else None, notes=saved.notes, path=saved.path)
