"""What every network that predicts has in common: images in, class names with probabilities out. No torch.

`predictor.Model` computes the probabilities in torch, `quick_start.QuickModel` in NumPy or onnxruntime.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet._runtime.arguments import whole_number
from alexnet.data import images as image_files
from alexnet.data.images import BadImage
from alexnet.data.remarks import Kind, view_remarks
from alexnet.data.square import square
from alexnet.data.url_images import is_url
from alexnet.errors import UserError, require
from alexnet.inference import confidence
from alexnet.models.seen import SeenImages

BATCH_SIZE = 64
"""Batch size: views in a forward pass."""

ImageInput = str | Path | bytes | NDArray[np.uint8]
"""An image: its path, its encoded bytes, or its pixels, uint8 [height, width, 3], RGB."""

_ONE_IMAGE = (str, Path, bytes, np.ndarray, bytearray, memoryview, io.IOBase)
"""What can be iterated over, and is no list of images; of the last three an error says how to give the image."""


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

    @property
    @abstractmethod
    def has_ten_view_temperature(self) -> bool:
        """Whether the mean over ten views has a temperature of its own."""

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
            views: 1 (the center crop) or 10 (§4.1), whose mean has a temperature of its own if `alexnet calibrate`
                stored one, else that of one view.

        Raises:
            BadImage: an image cannot be decoded; the error, an `alexnet.UserError`, names it.
            UserError: `top` or `views` is out of range.
        """
        require(whole_number("top", top, None) >= 1, f"top {top} must be at least 1")
        require(whole_number("views", views, None) in (1, 10), f"views {views} must be 1 or 10")
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
            BadImage: the image cannot be decoded; it is an `alexnet.UserError`.
            UserError: it is of another type, or an array of another shape or type.
        """
        if isinstance(image, bytes):
            pixels_HWC = image_files.decode(image, name, remarks=remarks)
        elif isinstance(image, np.ndarray):
            pixels_HWC = image
        elif isinstance(image, str | Path):
            pixels_HWC = image_files.decode(read_content(image), str(image), remarks=remarks)
        else:
            raise UserError("an image must be a path, encoded bytes or a uint8 array, and this one is of type "
                            f"{type(image).__name__}", _remedy_for_type(image))
        shape, dtype = pixels_HWC.shape, pixels_HWC.dtype
        right = dtype == np.uint8 and len(shape) == 3 and shape[2] == 3
        require(right, f"an image of shape {list(shape)} and type {dtype} is not uint8 [height, width, 3]",
                _remedy_for_array(shape, dtype))
        stored_HWC = square(pixels_HWC, self.side)
        if remarks is not None:
            remarks |= view_remarks(shape[:2], stored_HWC)
        return stored_HWC

    def stored_batches(
        self, images: ImageInput | Iterable[ImageInput], size: int = BATCH_SIZE,
    ) -> Iterator[NDArray[np.uint8]]:
        """Batches of stored images: uint8 [N, side, side, 3], N up to `size`; one empty batch of none."""
        if isinstance(images, _ONE_IMAGE) or not isinstance(images, Iterable):
            images = [images]  # type: ignore[list-item]  # `pixels` refuses what is no image
        require(not isinstance(images, Mapping),
                f"images must be one image or a list, and this is of type {type(images).__name__}",
                "give list(images.values())")
        side, remaining = self.side, iter(images)
        batch = list(islice(remaining, size))
        while True:
            yield np.array([self.pixels(image) for image in batch], np.uint8).reshape(-1, side, side, 3)
            if not (batch := list(islice(remaining, size))):
                return


def read_content(path: str | Path) -> bytes:
    """The bytes of an image's file. Raises BadImage, naming it, if it cannot be read or is no image by its size."""
    if is_url(str(path)):
        raise BadImage(f"{path} is a URL, and this reads files", "give the image's bytes, such as those of "
                       "urllib.request.urlopen(url).read(), or give alexnet predict the URL")
    try:
        return image_files.read_bytes(path)
    except (OSError, ValueError) as error:  # a ValueError of a name that contains a NUL character
        if isinstance(error, UserError):
            raise
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
        raise BadImage(f"{path} cannot be read: {reason}", "check the name and its permissions") from error


def _remedy_for_type(image: object) -> str:
    """What to give instead of an object that is no path, no encoded bytes and no array."""
    if isinstance(image, Image.Image):  # its array may be a palette's numbers, and not rotated as EXIF says
        return ("give the path or the bytes of its file; of an image without a file "
                'numpy.array(image.convert("RGB"))')
    if isinstance(image, bytearray | memoryview):
        return "give bytes(image)"
    if isinstance(image, io.IOBase):
        return "give image.read() of a file that is open in binary mode, or its path"
    if hasattr(image, "permute"):  # a tensor of torch, which this module does not import
        return ("give uint8 [height, width, 3]: image.permute(1, 2, 0).numpy() of a uint8 tensor whose channels are "
                "first; a list of such arrays for a batch")
    return "give a path, the bytes of a file, numpy.uint8 [height, width, 3] in RGB, or a list of these"


def _remedy_for_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """How to make uint8 [height, width, 3] in RGB of another array, where one can say."""
    if dtype.kind in "OUS":
        return "give a list of paths: list(array)"
    if len(shape) == 4:
        return "give a batch as a list of images: list(array)"
    if len(shape) == 3 and shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4):
        return "put the channels last: array.transpose(1, 2, 0)"
    if dtype.kind == "f":
        return "of values on 0 to 1: (array * 255).round().astype(numpy.uint8); on 0 to 255: array.round().astype(...)"
    if dtype != np.uint8:
        return "of values on 0 to 255: array.astype(numpy.uint8)"
    if len(shape) == 2:
        return "repeat the gray values: numpy.stack([array] * 3, 2)"
    if len(shape) == 3 and shape[2] == 1:
        return "repeat the gray values: array.repeat(3, 2)"
    if len(shape) == 3 and shape[2] == 4:
        return "give the path of the file, or of an opaque image array[..., :3]"
    return ""


def _largest(outputs_NK: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Indices of the largest outputs in each row, the largest first, equal ones in their order: [N, count]."""
    order_NK = np.argsort(-outputs_NK, axis=1, kind="stable")  # partitioning first would take any of equal ones
    return order_NK[:, :count]
