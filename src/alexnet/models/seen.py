"""The images that a network has seen in training (`SeenImages`), by content hash: a test set must not contain them.

A checkpoint holds them, and exported formats can (`to_text`). `inference.selection` uses them to choose test images.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.data.content import distinct_hashes
from alexnet.errors import UserError

_TEXT_FORMAT = "seen1"
_TENSORS = ("trained", "selected_on")


def _no_images() -> NDArray[np.uint64]:
    return np.empty(0, np.uint64)


@dataclass(frozen=True, eq=False)
class SeenImages:
    """Content hashes (`data.content.content_hash`) of the images that decided a network's weights.

    `SeenImages()` belongs to a network that has not been trained.
    """

    trained: NDArray[np.uint64] = field(default_factory=_no_images)
    """Sorted, each once: images whose gradients changed the weights, of the initial weights as well."""
    selected_on: NDArray[np.uint64] = field(default_factory=_no_images)
    """Sorted, each once: images that chose the best epoch, lowered the learning rate or fitted the temperature."""
    unknown: tuple[str, ...] = ()
    """Names of weights whose training images are not recorded, such as "torchvision's weights"; empty if all are."""

    @classmethod
    def of(
        cls, trained: NDArray[np.uint64], selected_on: NDArray[np.uint64], initial: SeenImages | None = None,
    ) -> Self:
        """Of a run with these training and validation images, in any order, that started from initial weights."""
        initial = initial or SeenImages()
        return cls(distinct_hashes(trained, initial.trained), distinct_hashes(selected_on, initial.selected_on),
                   initial.unknown)

    @classmethod
    def not_recorded(cls, weights: str = "these weights") -> Self:
        """Of weights whose training images nobody has recorded. `weights` names them for the user."""
        return cls(unknown=(weights,))

    def to_tensors(self) -> dict[str, Tensor]:
        """The hashes as int64 tensors, a type that every reader of safetensors knows. They lack `unknown`."""
        return {name: torch.from_numpy(getattr(self, name).view(np.int64)) for name in _TENSORS}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], unknown: tuple[str, ...]) -> Self:
        """The inverse of `to_tensors`. Raises KeyError if one of them is missing."""
        trained, selected_on = (distinct_hashes(tensors[name].to(torch.int64).flatten().numpy().view(np.uint64))
                                for name in _TENSORS)
        return cls(trained, selected_on, unknown)

    def to_text(self) -> str:
        """One line of ASCII for the metadata of other file formats: 11 characters an image."""
        parts = (self.trained.astype("<u8").tobytes(), self.selected_on.astype("<u8").tobytes(),
                 "\n".join(self.unknown).encode())
        return " ".join((_TEXT_FORMAT, *(base64.b64encode(part).decode() for part in parts)))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """What `to_text` wrote. Raises UserError for any other text."""
        kind, *parts = text.split(" ")
        try:
            if kind != _TEXT_FORMAT:
                raise ValueError(f"it begins with {kind[:20]!r}")
            trained, selected_on, unknown = (base64.b64decode(part, validate=True) for part in parts)
            return cls(distinct_hashes(np.frombuffer(trained, "<u8")),
                       distinct_hashes(np.frombuffer(selected_on, "<u8")), tuple(unknown.decode().splitlines()))
        except (ValueError, binascii.Error) as error:
            raise UserError(f"the record of the training images is damaged: {error}", "export the network again") \
                from error
