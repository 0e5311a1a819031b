"""What every network that predicts has in common: images in, class names with probabilities out. No torch.

`predictor.Model` computes the probabilities in torch, `quick_start.QuickModel` in NumPy or onnxruntime.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet.data import images as image_files
from alexnet.data.images import BadImage
from alexnet.data.remarks import Kind, view_remarks
from alexnet.data.square import square
from alexnet.errors import UserError, require
from alexnet.inference import confidence
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


class Classifier(ABC):
    """A trained network with its preprocessing and classes, whatever computes it."""

    classes: tuple[str, ...]
    """Names of the outputs; "output 0", "output 1", ... if they are unknown."""
    notes: tuple[str, ...]
    """What was assumed about the weights, and what is unknown (`provenance.notes_on_weights`)."""
    seen: SeenImages
    """The images that the network was trained on, by content hash."""

    @property
    @abstractmethod
    def side(self) -> int:
        """Side in pixels of a stored image."""

    @property
    @abstractmethod
    def is_calibrated(self) -> bool:
        """Whether a temperature makes the probabilities right as often as they say (`alexnet calibrate`)."""

    @abstractmethod
    def probabilities(self, pixels_NHWC: NDArray[np.uint8], views: int = 1) -> NDArray[np.float32]:
        """The probability of each class: float32 [N, K].

        Args:
            pixels_NHWC: stored images, uint8 [N, side, side, 3].
            views: 1 (the center crop) or 10 (§4.1).
        """

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
        for pixels_NHWC in self.stored_batches(images, max(1, BATCH_SIZE // max(1, views))):
            outputs_NK = self.probabilities(pixels_NHWC, views)
            best_NT = _largest(outputs_NK, min(top, len(self.classes)))
            predictions += [[Prediction(self.classes[k], float(outputs_K[k])) for k in best_T]
                            for outputs_K, best_T in zip(outputs_NK, best_NT, strict=True)]
        return predictions

    def is_sure(self, probability: float, sure_from: float | None = None) -> bool | None:
        """Whether the likeliest class of an image reaches a threshold; None if it is not calibrated and none is given.

        Args:
            probability: of the likeliest class.
            sure_from: the threshold; default: 0.5 of a calibrated network.
        """
        return confidence.is_sure(probability, self.is_calibrated, sure_from)

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
            pixels_HWC = image_files.decode(read_content(image), str(image), remarks=remarks)
        else:
            raise UserError(f"an image is a path, encoded bytes or a uint8 array, and not of {type(image)}",
                            "convert it with numpy.array(image)")
        shape, dtype = pixels_HWC.shape, pixels_HWC.dtype
        require(dtype == np.uint8 and len(shape) == 3 and shape[2] == 3,
                f"an image of shape {shape} and {dtype} is not uint8 [height, width, 3]")
        stored_HWC = square(pixels_HWC, self.side)
        if remarks is not None:
            remarks |= view_remarks(shape[:2], stored_HWC)
        return stored_HWC

    def stored_batches(
        self, images: ImageInput | Iterable[ImageInput], size: int = BATCH_SIZE,
    ) -> Iterator[NDArray[np.uint8]]:
        """Batches of stored images: uint8 [N, side, side, 3], N up to `size`; one empty batch of none."""
        if isinstance(images, str | Path | bytes | np.ndarray) or not isinstance(images, Iterable):
            images = [images]
        side, remaining = self.side, iter(images)
        batch = list(islice(remaining, size))
        while True:
            yield np.array([self.pixels(image) for image in batch], np.uint8).reshape(-1, side, side, 3)
            if not (batch := list(islice(remaining, size))):
                return


def read_content(path: str | Path) -> bytes:
    """The bytes of an image's file. Raises BadImage, naming it, if it cannot be read or is no image by its size."""
    try:
        return image_files.read_bytes(path)
    except (OSError, ValueError) as error:  # a ValueError of a name that contains a NUL character
        if isinstance(error, UserError):
            raise
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
        raise BadImage(f"{path} cannot be read: {reason}", "check the name, and who may read the file") from error


def _largest(outputs_NK: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Indices of the largest outputs in each row, the largest first, equal ones in their order: [N, count]."""
    order_NK = np.argsort(-outputs_NK, axis=1, kind="stable")  # partitioning first would take any of equal ones
    return order_NK[:, :count]
