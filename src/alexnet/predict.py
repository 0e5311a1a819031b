"""A checkpoint and photographs -> ranked classes. `load` gives network, preprocessing and classes together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet import checkpoint, images
from alexnet.augment import Preprocess
from alexnet.evaluate import probabilities
from alexnet.model import AlexNet

Photo = str | Path | bytes | NDArray[np.uint8]


@dataclass(frozen=True)
class Guess:
    """One class and how likely the network holds it to be."""

    name: str
    probability: float


@dataclass
class Model:
    """A trained network with all that it needs to be asked."""

    network: AlexNet
    preprocess: Preprocess
    classes: tuple[str, ...]

    def predict(self, photos: Photo | Iterable[Photo], *, top: int = 5, views: int = 1) -> list[list[Guess]]:
        """The likeliest classes of each photograph, best first.

        photos: paths, encoded bytes, or uint8 arrays HWC in RGB; one or many. views: 1 or 10 (§4.1).
        Raises images.BadImage naming a photograph that cannot be read.
        """
        many = [photos] if isinstance(photos, str | Path | bytes | np.ndarray) else photos
        pixels = [self.pixels(photo) for photo in many]
        if not pixels:
            return []
        device = self.preprocess.mean_HWC.device
        with torch.inference_mode():
            outputs_NK = probabilities(
                [(self.network, self.preprocess)], torch.from_numpy(np.stack(pixels)).to(device), views)
        best = outputs_NK.topk(min(top, len(self.classes)), dim=1)
        return [[Guess(self.classes[k], p) for p, k in zip(row_p, row_k, strict=True)]
                for row_p, row_k in zip(best.values.tolist(), best.indices.tolist(), strict=True)]

    def pixels(self, photo: Photo) -> NDArray[np.uint8]:
        """uint8 [side, side, 3], rescaled and cropped as the training photographs were (§2)."""
        if isinstance(photo, bytes):
            pixels_HWC = images.decode(photo, "photograph")
        elif isinstance(photo, np.ndarray):
            pixels_HWC = photo
        else:
            pixels_HWC = images.read(Path(photo))
        shape, kind = pixels_HWC.shape, pixels_HWC.dtype
        if kind != np.uint8 or len(shape) != 3 or shape[2] != 3:
            raise ValueError(f"a photograph of shape {shape} and {kind} is not uint8 [height, width, 3]")
        return images.square(pixels_HWC, self.preprocess.spec.side)


def load(path: str | Path, device: str = "cpu") -> Model:
    """The model in a checkpoint, a run's folder (its best, else its last), in evaluation mode.

    Raises ValueError naming what is missing or damaged.
    """
    saved = checkpoint.load(Path(path))
    network = saved.network().to(device)
    return Model(network, saved.preprocess().to(torch.device(device)), saved.classes)


def expand(photos: Sequence[str | Path]) -> list[Path]:
    """The files meant: a folder stands for the files in it, sorted. Raises ValueError for what does not exist."""
    found: list[Path] = []
    for photo in map(Path, photos):
        if not photo.exists():
            raise ValueError(f"{photo} does not exist")
        inside = sorted(p for p in photo.rglob("*") if p.is_file() and not p.name.startswith("."))
        found += inside if photo.is_dir() else [photo]
    return found
