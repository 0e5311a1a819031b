"""What the served page shows of one image beside its classes: Grad-CAM, conv1's responses, nearest images.

Also the pictures that may be clicked where somebody has none at hand: of the data's validation images, or drawn.
Pictures are PNG in `data:` addresses, so that an answer is whole.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from alexnet._runtime.page_style import PALETTE, data_uri
from alexnet.data.packed import PackedDataset, PackedSplit
from alexnet.errors import did_you_mean
from alexnet.inference import neighbors
from alexnet.inference.predictor import Model
from alexnet.inference.validation import plain
from alexnet.interpret import attribution

SAMPLES = 6
NEAR = 6

_RED = np.frombuffer(bytes.fromhex(PALETTE["red"][0][1:]), np.uint8)


@dataclass(frozen=True)
class ReferenceSet:
    """The images in which neighbors are looked for, and what the network's last hidden layer says to each."""

    split: PackedSplit
    classes: tuple[str, ...]
    features_ND: neighbors.Features

    @classmethod
    def of(cls, model: Model, packed: PackedDataset, on_progress: Callable[[int, int], object] | None = None) -> ReferenceSet:
        """Those of the training split; their features are kept in the user's cache."""
        split = packed.split("train")
        features_ND = neighbors.features_of(
            model, split, keep_as=f"{packed.fingerprint} train", on_progress=on_progress)
        return cls(split, tuple(packed.classes), features_ND)


def explain_image(model: Model, pixels_HWC: NDArray[np.uint8], reference_set: ReferenceSet | None = None,
         label: str | None = None) -> dict[str, Any]:
    """Why the network takes an image for a class, the likeliest unless `label` says which.

    pixels: as `Model.pixels` gives them. Keys: class, probability, view (what the network sees), grad_cam (a red layer
    over the view, the more opaque the more a place speaks for the class) and its layer, conv1 (the maps in a grid:
    picture, maps, columns), near (photo, class, distance, picture), empty without `among`.
    Raises ValueError for a class that the network does not know.
    """
    if label is not None and label not in model.classes:
        raise ValueError(f"the network knows no class {label[:100]!r}; {did_you_mean(label[:100], model.classes)}")
    network, arch = model.network, model.network.arch
    view_NCHW = model.views(pixels_HWC)
    with torch.inference_mode():
        probabilities_K = network(view_NCHW).float().softmax(1)[0]
    target = model.classes.index(label) if label is not None else int(probabilities_K.argmax())
    layer = attribution.last_maps(arch)
    cam_HW = attribution.grad_cam(model, view_NCHW, target, layer)
    first = (len(pixels_HWC) - arch.input.crop) // 2
    responses = f"{arch.activation}1"
    maps_CHW = model.features(pixels_HWC, responses)[0].float().cpu().numpy()
    columns = 16 if len(maps_CHW) % 16 == 0 else 8
    near = []
    if reference_set:
        found = neighbors.neighbors(model.features(pixels_HWC), reference_set.features_ND, reference_set.split, reference_set.classes, NEAR)
        near = [{"photo": plain(one.name), "class": plain(one.label), "distance": one.distance,
                 "picture": _png(reference_set.split.read_one(one.index))} for one in found[0]]
    return {
        "class": model.classes[target], "probability": float(probabilities_K[target]),
        "view": _png(pixels_HWC[first : first + arch.input.crop, first : first + arch.input.crop]),
        "grad_cam": _png(_overlay(cam_HW)), "layer": layer,
        "conv1": {"picture": _png(_grid(maps_CHW, columns)), "maps": len(maps_CHW), "columns": columns,
                  "towers": arch.towers, "layer": responses},
        "near": near,
    }


def _overlay(cam_HW: NDArray[np.float32]) -> NDArray[np.uint8]:
    """RGBA: one color, as opaque as the map is large, and never quite."""
    alpha_HW = (cam_HW.clip(0, 1) ** 0.7 * 190).astype(np.uint8)
    return np.dstack([np.broadcast_to(_RED, (*cam_HW.shape, 3)), alpha_HW])


def _grid(maps_CHW: NDArray[np.float32], columns: int) -> NDArray[np.uint8]:
    """The maps side by side, a black line between them; white is their strongest response, but for two in a hundred."""
    count, height, width = maps_CHW.shape
    rows = -(-count // columns)
    low, high = min(0.0, float(maps_CHW.min())), float(np.percentile(maps_CHW, 99.5))
    gray = ((maps_CHW - low) / ((high - low) or 1.0)).clip(0, 1) * 255
    grid = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1), np.uint8)
    for number, one_HW in enumerate(gray):
        top, left = (number // columns) * (height + 1), (number % columns) * (width + 1)
        grid[top : top + height, left : left + width] = one_HW
    return grid


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture of gray values [H, W], RGB or RGBA [H, W, 3 or 4]."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def _png(pixels: NDArray[np.uint8]) -> str:
    return data_uri(png(pixels), "png")


# --- Pictures to click ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """A picture that comes with the page."""

    name: str
    label: str
    """Its class, where it has one."""
    data: bytes
    """PNG."""


def samples(packed: PackedDataset | None) -> list[Sample]:
    """Evenly spaced images of the validation split, which nobody picked; without data, three drawn ones."""
    if packed is None or "val" not in packed.splits:
        return [Sample(name, "", png(picture)) for name, picture in _drawn().items()]
    split = packed.split("val")
    # The middle of each of six parts: the ends belong to the first and the last class.
    places = sorted({int(place) for place in (np.arange(SAMPLES) + 0.5) * len(split) / SAMPLES})
    return [Sample(plain(split.names[place]), packed.classes[split.labels[place]], png(split.read_one(place)))
            for place in places]


def _drawn(side: int = 256) -> dict[str, NDArray[np.uint8]]:
    """Pictures made of arithmetic: what conv1's kernels are known to answer to, stripes, colors and edges."""
    y_HW, x_HW = np.mgrid[0:side, 0:side].astype(np.float32) / side

    def mix(share_HW: NDArray[Any], one: tuple[int, int, int], other: tuple[int, int, int]) -> NDArray[np.float32]:
        share_HW1 = share_HW[..., None].astype(np.float32)
        return share_HW1 * np.array(one, np.float32) + (1 - share_HW1) * np.array(other, np.float32)

    radius_HW = np.hypot(x_HW - 0.62, y_HW - 0.42)
    stripes = mix(0.5 + 0.5 * np.sin(2 * np.pi * (6 * x_HW + 11 * y_HW * x_HW)), (36, 52, 71), (230, 214, 180))
    evening = mix(y_HW.clip(0, 0.7) / 0.7, (245, 168, 92), (66, 84, 140))
    evening[radius_HW < 0.13] = (252, 226, 150)
    evening[y_HW > 0.7 + 0.02 * np.sin(20 * x_HW)] = (34, 60, 66)
    board = mix((np.floor(6 * x_HW) + np.floor(6 * y_HW)) % 2, (184, 69, 47), (42, 106, 156))
    board[np.hypot(x_HW - 0.5, y_HW - 0.5) < 0.22] = (240, 236, 226)
    return {name: picture.round().clip(0, 255).astype(np.uint8)
            for name, picture in {"stripes, drawn": stripes, "evening, drawn": evening, "board, drawn": board}.items()}
