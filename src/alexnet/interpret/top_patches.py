"""Top patches: for each unit, the image patches with its largest outputs, cut to the unit's receptive field.

Shapes: N images, U units, P positions in a map, M patches of a unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet._runtime.page_style import PALETTE
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.spec import Arch
from alexnet.data.numpy_preprocessing import central_window
from alexnet.data.order import evenly_spaced
from alexnet.data.packed import PackedSplit
from alexnet.errors import require
from alexnet.inference.classifier import BATCH_SIZE
from alexnet.inference.predictor import Model

DEFAULT_UNITS = 12
"""Units of a layer that are taken if none are named, evenly spaced."""

Box = tuple[int, int, int, int]
"""Top, left, bottom and right, in pixels of the center crop."""

_PAPER = np.frombuffer(bytes.fromhex(PALETTE["paper"][0][1:]), np.uint8)


@dataclass(frozen=True)
class Patch:
    """A patch of an image for which a unit's output is large."""

    index: int
    """The image's index in the split."""
    name: str
    label: str
    output: float
    box: Box
    """The unit's receptive field, as far as it lies in the center crop."""


def receptive_field(arch: Arch, layer: str) -> tuple[int, int, int]:
    """Where the receptive fields of a layer's units lie, in pixels of the view.

    Returns:
        First pixel of the first unit's field (negative if it lies in the padding), side of a field, and distance
        between the fields of adjacent units. Fully connected units, and those behind an average pooling, see the whole
        view.
    """
    entry = next(entry for entry in explain(arch).layers if entry.name == layer)
    if len(entry.output_shape) != 3 or entry.kind == "adaptive average pooling":
        return 0, arch.input.crop, 0
    return entry.begin, entry.receptive_field_with_padding, entry.jump


def output_kind(arch: Arch, layer: str) -> str:
    """What a number of a layer's outputs names: "map" for a feature map, "unit" for a fully connected unit."""
    shape = next(entry.output_shape for entry in explain(arch).layers if entry.name == layer)
    return "map" if len(shape) == 3 else "unit"


def check_units(model: Model, layer: str, units: Sequence[int]) -> None:
    """Raise UserError for an unknown layer, or a number that is none of its units."""
    model.network.named_layer(layer)
    count = next(entry.output_shape[0] for entry in explain(model.network.arch).layers if entry.name == layer)
    for unit in units:
        require(0 <= unit < count, f"{layer} has no unit {unit}, only 0 to {count - 1}")


def find_top_patches(
    model: Model, split: PackedSplit, classes: Sequence[str], layer: str, units: Sequence[int] = (), count: int = 9, *,
    on_progress: Callable[[int, int], object] | None = None,
) -> dict[int, list[Patch]]:
    """Find the patches of a split with the largest outputs of each unit, largest first, at most one of each image.

    A unit that is zero everywhere except in a few images has fewer patches.

    Args:
        model: the model.
        split: the images.
        classes: the split's classes.
        layer: any of `network.layer_names()`.
        units: maps of the layer, or units of a fully connected layer, from 0; default: DEFAULT_UNITS of them.
        count: patches of each unit.
        on_progress: called with the number of images done, and of all.

    Returns:
        Unit -> its patches.

    Raises:
        UserError: the layer or a unit does not exist.
    """
    arch = model.network.arch
    check_units(model, layer, units)
    shape = next(entry.output_shape for entry in explain(arch).layers if entry.name == layer)
    units = list(units) or evenly_spaced(shape[0], DEFAULT_UNITS).tolist()
    require(count >= 1, f"--count {count} must be at least 1")

    outputs_UM, places_UM2 = _largest_outputs(model, split, layer, units, count, on_progress)
    begin, side, jump = receptive_field(arch, layer)
    columns = shape[2] if len(shape) == 3 else 1
    crop = arch.input.crop

    def patch(output: float, index: int, position: int) -> Patch:
        top, left = (begin + jump * step for step in divmod(position, columns))
        # Beyond the crop the unit sees padding.
        box = max(top, 0), max(left, 0), min(top + side, crop), min(left + side, crop)
        return Patch(index, split.names[index], classes[split.labels[index]], output, box)

    found: dict[int, list[Patch]] = {}
    for unit, outputs_M, places_M2 in zip(units, outputs_UM.tolist(), places_UM2.tolist(), strict=True):
        found[unit] = [patch(output, index, position)
                       for output, (index, position) in zip(outputs_M, places_M2, strict=True)
                       if output != 0]  # zero is a ReLU's output for every position of the image
    return found


def _largest_outputs(
    model: Model, split: PackedSplit, layer: str, units: Sequence[int], count: int,
    on_progress: Callable[[int, int], object] | None,
) -> tuple[Tensor, Tensor]:
    """Each unit's largest output in an image, over the `count` best images.

    Returns:
        Outputs float [U, M], and for each the image's index and the position in the map, int64 [U, M, 2].
    """
    best_UM, places_UM2 = torch.empty(len(units), 0), torch.empty(len(units), 0, 2, dtype=torch.long)
    for start in range(0, len(split), BATCH_SIZE):
        indices_N = np.arange(start, min(start + BATCH_SIZE, len(split)))
        outputs = model.features(list(split.read(indices_N)), layer)[:, units].float().cpu()
        outputs_NUP = outputs.flatten(2) if outputs.ndim == 4 else outputs[..., None]
        largest_NU, position_NU = outputs_NUP.max(2)
        places_NU2 = torch.stack([torch.from_numpy(indices_N)[:, None].expand_as(position_NU), position_NU], 2)
        best_UM = torch.cat([best_UM, largest_NU.T], 1)
        places_UM2 = torch.cat([places_UM2, places_NU2.transpose(0, 1)], 1)
        order_UM = best_UM.argsort(dim=1, descending=True, stable=True)[:, :count]
        best_UM = best_UM.gather(1, order_UM)
        places_UM2 = places_UM2.gather(1, order_UM[..., None].expand(-1, -1, 2))
        if on_progress:
            on_progress(int(indices_N[-1]) + 1, len(split))
    return best_UM, places_UM2


def crop_patch(pixels_HWC: NDArray[np.uint8], crop: int, box: Box, side: int = 0) -> NDArray[np.uint8]:
    """Cut a patch out of a stored image's center crop.

    Args:
        pixels_HWC: the stored image.
        crop: side of the center crop.
        box: of the patch.
        side: side of the unit's whole receptive field. With it, a patch at the edge of the crop is enlarged within the
            crop to a square like the layer's other patches, and what the unit does not see is pale. Default: the box.
    """
    window = central_window(len(pixels_HWC), crop)
    view_HWC = pixels_HWC[window, window]
    top, left, bottom, right = box
    if not side:
        return view_HWC[top:bottom, left:right]
    side = min(side, crop)
    pale_HWC = (0.25 * view_HWC + 0.75 * _PAPER).round().astype(np.uint8)
    pale_HWC[top:bottom, left:right] = view_HWC[top:bottom, left:right]
    y, x = min(top, crop - side), min(left, crop - side)
    return pale_HWC[y : y + side, x : x + side]
