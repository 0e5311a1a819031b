"""A checkpoint and images -> ranked classes. `load` gives network, preprocessing and classes together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet.data import images
from alexnet.data.preprocessing import Preprocess
from alexnet.errors import did_you_mean
from alexnet.inference.evaluate import probabilities
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.open_weights import open_weights
from alexnet.models.quantized import FastNetwork

BATCH = 64
"""Views that go through the network at once."""

ImageInput = str | Path | bytes | NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """One class and how likely the network holds it to be."""

    name: str
    probability: float


@dataclass
class Model:
    """A trained network with all that it needs to be asked."""

    network: AlexNet
    preprocess: Preprocess
    classes: tuple[str, ...]
    trained_on: str = ""
    """Fingerprint of the images it was trained on, where that is known."""
    fast: FastNetwork | None = None
    """What answers instead of `network`, where speed matters more than the last digits (`load(..., fast=True)`)."""
    place: Path | None = None
    """Where its checkpoint was read from."""

    @property
    def answering(self) -> nn.Module:
        """The network that gives the probabilities."""
        return self.fast or self.network

    def predict(self, photos: ImageInput | Iterable[ImageInput], *, top: int = 5, views: int = 1) -> list[list[Prediction]]:
        """The likeliest classes of each image, best first.

        photos: paths, encoded bytes, or uint8 arrays HWC in RGB; one or many. views: 1 or 10 (§4.1).
        Raises images.BadImage naming an image that cannot be read.
        """
        if top < 1:
            raise ValueError(f"top {top} must be at least 1")
        guesses: list[list[Prediction]] = []
        for pixels_NHWC in self._stored(photos, max(1, BATCH // max(1, views))):
            with torch.inference_mode():
                outputs_NK = probabilities([(self.answering, self.preprocess)], pixels_NHWC, views)
            best = outputs_NK.topk(min(top, len(self.classes)), dim=1)
            guesses += [[Prediction(self.classes[k], p) for p, k in zip(row_p, row_k, strict=True)]
                        for row_p, row_k in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
        return guesses

    @property
    def feature_layer(self) -> str:
        """The activations of the last hidden layer: relu7 of the paper's network."""
        return [name for name in self.network.layer_names() if name.startswith(self.network.arch.activation)][-1]

    def features(self, photos: ImageInput | Iterable[ImageInput], layer: str | None = None) -> Tensor:
        """What a layer gives for the central view of each image: float [N, units] or [N, maps, rows, columns].

        layer: any of `network.layer_names()`, such as fc6, relu6 (fc6's output after its ReLU) or pool5; unless said,
        the activations of the last hidden layer, whose distances §6.1 shows to mean something.
        Raises ValueError naming the nearest for an unknown layer.
        """
        names = self.network.layer_names()
        layer = layer or self.feature_layer
        if layer not in names:
            raise ValueError(f"{self.network.arch.name} has no layer {layer!r}; {did_you_mean(layer, names)}")
        seen: list[Tensor] = []
        hook = self.network.named_layer(layer).register_forward_hook(lambda *call: seen.append(call[-1]))
        try:
            with torch.inference_mode():
                for pixels_NHWC in self._stored(photos):
                    self.network(self.preprocess(pixels_NHWC))
        finally:
            hook.remove()
        return torch.cat(seen)

    def views(self, photos: ImageInput | Iterable[ImageInput]) -> Tensor:
        """The central view of each image as the network takes it, for hooks and attributions: float [N, 3, crop,
        crop]."""
        return torch.cat([self.preprocess(pixels_NHWC) for pixels_NHWC in self._stored(photos)])

    def _stored(self, photos: ImageInput | Iterable[ImageInput], batch: int = BATCH) -> Iterator[Tensor]:
        """uint8 [N, side, side, 3] on the network's device, N up to `batch`; one of N = 0 where there are none."""
        many = photos if isinstance(photos, Iterable) and not isinstance(photos, str | bytes | np.ndarray) else [photos]
        side, rest = self.preprocess.spec.side, iter(many)
        chunk = list(islice(rest, batch))
        while True:
            pixels_NHWC = np.array([self.pixels(photo) for photo in chunk], np.uint8).reshape(-1, side, side, 3)
            yield torch.from_numpy(pixels_NHWC).to(self.preprocess.mean_HWC.device)
            if not (chunk := list(islice(rest, batch))):
                return

    def pixels(self, photo: ImageInput, name: str = "image") -> NDArray[np.uint8]:
        """uint8 [side, side, 3], rescaled and cropped as the training images were (§2).

        name: what encoded bytes are called where they cannot be decoded.
        """
        if isinstance(photo, bytes):
            pixels_HWC = images.decode(photo, name)
        elif isinstance(photo, np.ndarray):
            pixels_HWC = photo
        elif isinstance(photo, str | Path):
            pixels_HWC = images.read(Path(photo))
        else:
            raise ValueError(f"a image is a path, encoded bytes or a uint8 array, and not of {type(photo)}; make "
                             "it one with numpy.array(image)")
        shape, kind = pixels_HWC.shape, pixels_HWC.dtype
        if kind != np.uint8 or len(shape) != 3 or shape[2] != 3:
            raise ValueError(f"an image of shape {shape} and {kind} is not uint8 [height, width, 3]")
        return images.square(pixels_HWC, self.preprocess.spec.side)


def load(path_or_name: str | Path, device: str = "cpu", fast: bool = False) -> Model:
    """The model meant, in evaluation mode: a run's folder (its best, else its last), a checkpoint, an exported folder
    in the Hugging Face layout, a torchvision file; or a name, `torchvision`, which is fetched once.

    fast: answer in bf16 and int8 (fast.py): several times as fast on a CPU, with probabilities up to 0.03 off.
    Raises ValueError naming what is missing or damaged.
    """
    return model_of(open_weights(path_or_name), device, fast)


def model_of(saved: Checkpoint, device: str = "cpu", fast: bool = False) -> Model:
    """The same from a checkpoint that is open already."""
    network = saved.network().to(device)
    return Model(network, saved.preprocess().to(torch.device(device)), saved.classes,
                 saved.training.get("source", ""), FastNetwork(network.eval()) if fast else None, saved.place)


def expand(photos: Sequence[str | Path]) -> list[Path]:
    """The files meant: a folder stands for the files in it, sorted. Raises ValueError for what does not exist, or holds
    no file."""
    found: list[Path] = []
    for photo in map(Path, photos):
        if not photo.exists():
            raise ValueError(f"{photo} does not exist; name an image, or a folder of images")
        inside = sorted(p for p in photo.rglob("*") if p.is_file() and not p.name.startswith("."))
        if photo.is_dir() and not inside:
            raise ValueError(f"{photo} holds no files; name an image, or a folder of images")
        found += inside if photo.is_dir() else [photo]
    return found
