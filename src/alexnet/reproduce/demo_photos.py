"""What the pretrained network says of the photographs in the package: names, probabilities, Grad-CAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet.data import images
from alexnet.data.sources.embedded import PHOTOGRAPHS
from alexnet.inference.classifier import Prediction, probability_text
from alexnet.inference.confidence import SURE_FROM
from alexnet.inference.predictor import Model
from alexnet.interpret.attribution import grad_cam, last_activation


@dataclass(frozen=True)
class Photo:
    """A photograph that comes with the package."""

    file: str
    title: str
    """As a noun with its article."""
    names: tuple[str, ...]
    """Names of ImageNet's classes that would be right for it; () where ImageNet has none. Checked by eye."""


PHOTOS = (
    Photo("chelsea.png", "a cat", ("tabby", "tiger cat", "Egyptian cat")),
    Photo("coffee.png", "a cup of coffee", ("espresso", "cup", "coffee mug")),
    Photo("clock_motion.png", "a wall clock in motion", ("analog clock", "wall clock")),
    Photo("astronaut.png", "an astronaut", ()),
    Photo("rocket.jpg", "a rocket at its launch", ("missile", "projectile")),
    Photo("coins.png", "a tray of Greek coins", ()),
)


@dataclass(frozen=True)
class NamedPhoto:
    """A photograph with the network's five likeliest classes."""

    photo: Photo
    pixels_HWC: NDArray[np.uint8]
    ranked: Sequence[Prediction]
    seen: float
    """Side of the central square that the network sees, as a fraction of the shorter side."""
    grad_cam_HW: NDArray[np.float32]
    """Grad-CAM for the likeliest class, 0..1, over that square."""
    known: tuple[str, ...]
    """The right names that are among the network's classes; () if it cannot name the photograph."""

    @property
    def sure(self) -> bool:
        return self.ranked[0].probability >= SURE_FROM

    @property
    def answer(self) -> str:
        """The likeliest class: "tabby (81%)", or "not sure: perhaps tabby (31%)"."""
        best = self.ranked[0]
        named = f"{best.name} ({probability_text(best.probability)})"
        return named if self.sure else f"not sure: perhaps {named}"

    def verdict(self, classes: int) -> str:
        """Whether the answer is right, in a sentence.

        Args:
            classes: number of the network's classes.
        """
        title = self.photo.title
        if not self.known:
            ending = "is sure of a wrong name" if self.sure else "is not sure, as it should be"
            return (f"{title[0].upper()}{title[1:]} is none of the {classes:,} kinds of things that it knows, so no "
                    f"name can be right; it {ending}.")
        right = " or ".join(self.known)
        place = next((number for number, guess in enumerate(self.ranked, 1) if guess.name in self.known), None)
        if place == 1:
            return "Right." if self.sure else "Right, but it is not sure."
        if place:
            return f"Wrong: {right} is right, its guess number {place}."
        return f"Wrong: {right} is right, which is not among its five likeliest."


def name_photos(model: Model) -> list[NamedPhoto]:
    """Classify the photographs with one view, as `alexnet predict` does, and explain the answers by Grad-CAM."""
    layer, named = last_activation(model.network.arch), []
    for photo in PHOTOS:
        pixels_HWC = images.read(PHOTOGRAPHS / photo.file)
        (ranked,) = model.predict(pixels_HWC)
        target, spec = model.class_index(ranked[0].name), model.network.arch.input
        cam_HW = grad_cam(model, model.views(pixels_HWC), target, layer)
        named.append(NamedPhoto(photo, pixels_HWC, ranked, spec.crop / spec.side, cam_HW,
                                tuple(name for name in photo.names if name in model.classes)))
    return named
