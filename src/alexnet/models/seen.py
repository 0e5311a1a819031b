"""The images that a network has seen in training (`SeenImages`), by hashes: a test set must not contain them.

A checkpoint holds them, and exported formats can (`to_text`). `inference.selection` uses them to choose test images,
and `predict` says which of its images are among them. No torch, unless tensors are made.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from alexnet.data.content import contained, distinct_hashes
from alexnet.data.perceptual_hash import distinct_perceptual_hashes
from alexnet.errors import UserError
from alexnet.models import packaged

if TYPE_CHECKING:
    from torch import Tensor

_TEXT_FORMAT = "seen2"
TENSORS = ("trained", "selected_on", "trained_perceptual")

ROLES = {"epoch": "chose the best epoch", "schedule": "steered the learning rate or the end of the training",
         "temperature": "fitted the temperature"}
"""What images can have decided about a network without training it, in words."""


def describe_roles(roles: Collection[str]) -> str:
    """What images did, in words: "chose the best epoch". Of no role: of every network, what they may have done."""
    return " or ".join(words for role, words in ROLES.items() if role in (roles or ("epoch", "temperature")))


def _no_images() -> NDArray[np.uint64]:
    return np.empty(0, np.uint64)


@dataclass(frozen=True, eq=False)
class SeenImages:
    """Hashes of the images that decided a network's weights.

    Content hashes (`data.content.content_hash`) recognize the files, whatever they are called. Perceptual hashes
    (`data.perceptual_hash`) recognize images that were saved again, though not with certainty.

    `SeenImages()` belongs to a network that has not been trained.
    """

    trained: NDArray[np.uint64] = field(default_factory=_no_images)
    """Sorted, each once: images whose gradients changed the weights, of the initial weights as well."""
    selected_on: NDArray[np.uint64] = field(default_factory=_no_images)
    """Sorted, each once: images that chose the best epoch, lowered the learning rate or fitted the temperature."""
    trained_perceptual: NDArray[np.uint64] = field(default_factory=distinct_perceptual_hashes)
    """Perceptual hashes of the images of `trained`, [M, 2], sorted, each once, without blank images."""
    unknown: tuple[str, ...] = ()
    """Names of weights whose training images are not recorded, such as "torchvision's weights"; empty if all are."""
    roles: tuple[str, ...] = ()
    """What the images of `selected_on` did, of `ROLES`; empty if that is not known. It is not stored:
    `Checkpoint.seen_in_roles` derives it."""

    @classmethod
    def of(
        cls, trained: NDArray[np.uint64], selected_on: NDArray[np.uint64], trained_perceptual: NDArray[np.uint64],
        initial: SeenImages | None = None,
    ) -> Self:
        """Of a run with these training and validation images, in any order, that started from initial weights."""
        initial = initial or SeenImages()
        return cls(distinct_hashes(trained, initial.trained), distinct_hashes(selected_on, initial.selected_on),
                   distinct_perceptual_hashes(trained_perceptual, initial.trained_perceptual), initial.unknown)

    @classmethod
    def not_recorded(cls, weights: str = "these weights") -> Self:
        """Of weights whose training images nobody has recorded. `weights` names them for the user."""
        return cls(unknown=(weights,))

    def without_hashes(self, name: str) -> SeenImages:
        """Of weights that are written to `name` without any hash of the images: which they were is then not known."""
        return SeenImages(unknown=(*self.unknown, f"the weights in {name} (exported without hashes)"))

    def has_trained_on(self, content: int) -> bool | None:
        """Whether an image with this content hash changed the weights; None if that is not known of all weights."""
        if contained(np.array([content], np.uint64), self.trained)[0]:
            return True
        return None if self.unknown else False

    def to_tensors(self) -> dict[str, Tensor]:
        """The hashes as int64 tensors, a type that every reader of safetensors knows. They lack `unknown`."""
        import torch

        return {name: torch.from_numpy(getattr(self, name).view(np.int64)) for name in TENSORS}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], unknown: tuple[str, ...]) -> Self:
        """The inverse of `to_tensors`. Raises KeyError if one of them is missing."""
        return cls.from_arrays({name: tensors[name].numpy() for name in TENSORS}, unknown)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], unknown: tuple[str, ...]) -> Self:
        """As `from_tensors`, of NumPy's arrays."""
        return cls._from_flat(*(arrays[name].astype(np.int64).ravel().view(np.uint64) for name in TENSORS),
                              unknown=unknown)

    @classmethod
    def _from_flat(cls, *hashes: NDArray[np.uint64], unknown: tuple[str, ...]) -> Self:
        """Of the hashes in the order of TENSORS, each as one dimension. Raises ValueError for half a hash."""
        trained, selected_on, perceptual = hashes
        return cls(distinct_hashes(trained), distinct_hashes(selected_on),
                   distinct_perceptual_hashes(perceptual.reshape(-1, 2)), unknown)

    def to_text(self) -> str:
        """One line of ASCII for the metadata of other file formats: 32 characters an image."""
        parts = (*(getattr(self, name).astype("<u8").tobytes() for name in TENSORS), "\n".join(self.unknown).encode())
        return " ".join((_TEXT_FORMAT, *(base64.b64encode(part).decode() for part in parts)))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """What `to_text` wrote. Raises UserError for any other text."""
        kind, *parts = text.split(" ")
        try:
            if kind != _TEXT_FORMAT:
                raise ValueError(f"it begins with {kind[:20]!r}")
            *hashes, unknown = (base64.b64decode(part, validate=True) for part in parts)
            return cls._from_flat(*(np.frombuffer(part, "<u8").astype(np.uint64) for part in hashes),
                                  unknown=tuple(unknown.decode().splitlines()))
        except (ValueError, binascii.Error) as error:
            raise UserError(f"the record of the training images is damaged: {error}", "export the network again") \
                from error


def seen_by_packaged(tree: packaged.PackagedJson, arrays: Mapping[str, NDArray[Any]]) -> SeenImages:
    """Of the packaged network with this JSON and these arrays; perceptual hashes are absent where they had no space."""
    return SeenImages.from_arrays({name: arrays.get(packaged.SEEN + name, np.empty(0, np.int64)) for name in TENSORS},
                                  tuple(tree["trained_on_unknown"]))
