"""The response of /explain: Grad-CAM, the feature maps of conv1, and the nearest neighbors of one image.

Images are PNG in `data:` URLs, so that one response holds all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet._runtime.page_style import data_uri
from alexnet.architecture.spec import Arch
from alexnet.data.class_names import printable
from alexnet.data.numpy_preprocessing import central_window
from alexnet.data.packed import PackedDataset, PackedSplit
from alexnet.inference import neighbors
from alexnet.inference.predictor import Model
from alexnet.interpret import attribution
from alexnet.interpret.heat_map import heat_layer
from alexnet.models.hooks import captured_outputs
from alexnet.serving.samples import encode_png

NEIGHBORS = 6

HEAT_SIDE = 448
"""Pixels of the picture of Grad-CAM, at least: the page shows it large, over the image itself."""


class FeatureMaps(TypedDict):
    """The activations of conv1 as a grid of gray images."""

    url: str
    maps: int
    columns: int
    towers: int
    part: str
    layer: str


NeighborImage = TypedDict("NeighborImage", {
    "image": str, "class": str, "distance": float, "likeness": neighbors.Likeness, "url": str})
"""An image of the reference set: name, class, Euclidean distance, whether it is the image itself or looks like it, and
its pixels as a data: URL."""

Explanation = TypedDict("Explanation", {
    "class": str, "probability": float, "view": str, "grad_cam": str, "layer": str, "conv1": FeatureMaps,
    "neighbors": list[NeighborImage]})
"""view: the central crop, the network's input. grad_cam: RGBA, larger than the view, to lay over it or over the same
part of the image. layer: the layer of Grad-CAM."""


@dataclass(frozen=True)
class ReferenceSet:
    """The images among which nearest neighbors are searched, with their features.

    Attributes:
        split: the images.
        classes: their class names.
        cache_key: of their features in the user's cache.
        features_ND: activations of the network's last hidden layer.
    """

    split: PackedSplit
    classes: tuple[str, ...]
    cache_key: str
    features_ND: neighbors.Features

    @classmethod
    def of(cls, model: Model, packed: PackedDataset,
           on_progress: Callable[[int, int], object] | None = None) -> ReferenceSet:
        """The training split. Its features are computed once and kept in the user's cache."""
        split, cache_key = packed.split("train"), f"{packed.fingerprint} train"
        features_ND = neighbors.split_features(model, split, cache_key=cache_key, on_progress=on_progress)
        return cls(split, tuple(packed.classes), cache_key, features_ND)

    def for_model(self, model: Model) -> ReferenceSet:
        """The same images with the features of another network."""
        return replace(self, features_ND=neighbors.split_features(model, self.split, cache_key=self.cache_key))


def explain_image(model: Model, pixels_HWC: NDArray[np.uint8], reference_set: ReferenceSet | None = None,
                  label: str | None = None) -> Explanation:
    """Explain the prediction for one image.

    Args:
        model: the network.
        pixels_HWC: uint8 [side, side, 3], as `Model.pixels` returns it.
        reference_set: images among which the neighbors are searched; without it there are none.
        label: the class to explain; default: the predicted one.

    Raises:
        UserError: for a class that the network does not have.
    """
    target = None if label is None else model.class_index(label)
    network, arch = model.network, model.network.arch
    view_NCHW = model.views(pixels_HWC)
    conv1_layer = network.activation_names()[0]
    with captured_outputs(network, [conv1_layer, model.feature_layer]) as captured, torch.inference_mode():
        probabilities_K = network(view_NCHW).float().softmax(1)[0]
    if target is None:
        target = int(probabilities_K.argmax())
    layer = attribution.last_activation(arch)
    cam_HW = attribution.grad_cam(model, view_NCHW, target, layer)
    window = central_window(len(pixels_HWC), arch.input.crop)
    return {
        "class": model.classes[target], "probability": float(probabilities_K[target]),
        "view": _png_url(pixels_HWC[window, window]),
        "grad_cam": _png_url(heat_layer(cam_HW, max(HEAT_SIDE, len(cam_HW)))), "layer": layer,
        "conv1": _feature_maps(captured[conv1_layer][0], conv1_layer, arch),
        "neighbors": _neighbors(captured[model.feature_layer], pixels_HWC, reference_set) if reference_set else [],
    }


def _feature_maps(outputs_CHW: Tensor, layer: str, arch: Arch) -> FeatureMaps:
    maps_CHW = outputs_CHW.float().cpu().numpy()
    columns = 16 if len(maps_CHW) % 16 == 0 else 8
    return {"url": _png_url(_grid(maps_CHW, columns)), "maps": len(maps_CHW), "columns": columns,
            "towers": arch.towers, "part": arch.part_name, "layer": layer}


def _neighbors(
    query_1D: Tensor, pixels_HWC: NDArray[np.uint8], reference_set: ReferenceSet,
) -> list[NeighborImage]:
    [nearest] = neighbors.find_neighbors(
        query_1D, reference_set.features_ND, reference_set.split, reference_set.classes, NEIGHBORS,
        queries=[neighbors.Query(pixels_HWC)])
    return [{"image": printable(image.name), "class": printable(image.label), "distance": image.distance,
             "likeness": image.likeness, "url": _png_url(reference_set.split.read_one(image.index))}
            for image in nearest]


def _grid(maps_CHW: NDArray[np.float32], columns: int) -> NDArray[np.uint8]:
    """The maps in a grid with black lines between them. White: the 99.5th percentile of all values, and above."""
    count, height, width = maps_CHW.shape
    rows = -(-count // columns)
    low, high = min(0.0, float(maps_CHW.min())), float(np.percentile(maps_CHW, 99.5))
    gray_CHW = ((maps_CHW - low) / ((high - low) or 1.0)).clip(0, 1) * 255
    grid = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1), np.uint8)
    for number, gray_HW in enumerate(gray_CHW):
        top, left = (number // columns) * (height + 1), (number % columns) * (width + 1)
        grid[top:top + height, left:left + width] = gray_HW
    return grid


def _png_url(pixels: NDArray[np.uint8]) -> str:
    return data_uri(encode_png(pixels), "png")
