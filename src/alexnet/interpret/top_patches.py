"""What a unit answers to and what an answer rests on: strongest patches; occlusion, Grad-CAM, guided gradients.

Patches are cut out where `explain` says that a unit looks. The maps of one image come from captum, whose names
for them are kept (Zeiler and Fergus, arXiv 1311.2901; Springenberg et al., 1412.6806; Selvaraju et al., 1610.02391).

Shapes: N images, U units, P places of a map, M strongest; views are float [N, 3, crop, crop].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet._runtime.page_style import PALETTE
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.spec import Arch
from alexnet.data.packed import PackedSplit
from alexnet.errors import did_you_mean
from alexnet.inference.predictor import BATCH, Model

# --- A unit's strongest patches ---------------------------------------------------------------------------------------

_PAPER = np.frombuffer(bytes.fromhex(PALETTE["paper"][0][1:]), np.uint8)


@dataclass(frozen=True)
class Patch:
    """Where in a set a unit's output is large."""

    index: int
    """The image's place in the split."""
    name: str
    label: str
    output: float
    box: tuple[int, int, int, int]
    """Top, left, bottom, right in the central view: what the unit sees of it there."""


def field(arch: Arch, layer: str) -> tuple[int, int, int]:
    """In pixels of the view: where the field of a layer's first unit begins, how long it is, and how far the next
    unit's lies. A layer without maps, or behind an average pooling, sees all."""
    begin = 0
    for each in explain(arch).layers:
        if len(each.output_shape) != 3 or each.kind == "adaptive average pooling":
            break
        jump = each.jump // each.stride
        # A normalization within a map (kernel 5, nothing padded, no side lost) is centerd on its unit.
        centerd = each.kernel // 2 if each.stride == 1 and each.input_shape[1:] == each.output_shape[1:] else 0
        begin -= jump * (each.padding if each.kind == "convolution" else centerd if each.kind != "max pooling" else 0)
        if each.name == layer:
            return begin, each.receptive_field, each.jump
    return 0, arch.input.crop, 0


def strongest(
    model: Model, split: PackedSplit, classes: Sequence[str], layer: str, units: Sequence[int] = (), count: int = 9, *,
    on_progress: Callable[[int, int], object] | None = None,
) -> dict[int, list[Patch]]:
    """Unit -> the places of a split where its output is largest, one at most of each image, largest first.

    layer: any of `network.layer_names()`. units: maps of it, or units of a fully connected layer, counted from 0; a
    dozen, evenly spaced, unless said. A unit that is zero everywhere in all but a few images has fewer patches.
    Raises ValueError for a layer or unit that is not there.
    """
    names, arch = model.network.layer_names(), model.network.arch
    if layer not in names:
        raise ValueError(f"{arch.name} has no layer {layer!r}; {did_you_mean(layer, names)}")
    width = next(each.output_shape[0] for each in explain(arch).layers if each.name == layer)
    units = list(units) or sorted({int(unit) for unit in np.linspace(0, width - 1, min(12, width))})
    if wrong := [unit for unit in units if not 0 <= unit < width]:
        raise ValueError(f"{layer} has {width} units, 0 to {width - 1}; {wrong[0]} is none of them")
    if count < 1:
        raise ValueError(f"--count {count} must be at least 1")

    best_UM, where_UM = torch.empty(len(units), 0), torch.empty(len(units), 0, 2, dtype=torch.long)
    for begin in range(0, len(split), BATCH):
        rows = np.arange(begin, min(begin + BATCH, len(split)))
        outputs = model.features(list(split.read(rows)), layer)[:, units].float().cpu()
        outputs_NUP = outputs.flatten(2) if outputs.ndim == 4 else outputs[..., None]
        top_NU, place_NU = outputs_NUP.max(2)
        where_NU2 = torch.stack([torch.from_numpy(rows)[:, None].expand_as(place_NU), place_NU], 2)
        all_UM, all_where = torch.cat([best_UM, top_NU.T], 1), torch.cat([where_UM, where_NU2.transpose(0, 1)], 1)
        order_UM = all_UM.argsort(dim=1, descending=True, stable=True)[:, :count]
        best_UM = all_UM.gather(1, order_UM)
        where_UM = all_where.gather(1, order_UM[..., None].expand(-1, -1, 2))
        if on_progress:
            on_progress(int(rows[-1]) + 1, len(split))

    begin, length, jump = field(arch, layer)
    wide = next((each.output_shape[2] for each in explain(arch).layers
                 if each.name == layer and len(each.output_shape) == 3), 1)
    found: dict[int, list[Patch]] = {}
    for unit, best_M, where_M in zip(units, best_UM.tolist(), where_UM.tolist(), strict=True):
        found[unit] = []
        for output, (index, place) in zip(best_M, where_M, strict=True):
            if output == 0:  # a ReLU's, for every place of the image
                continue
            top, left = (begin + jump * step for step in divmod(place, wide))
            crop = arch.input.crop  # beyond it the unit sees padding
            found[unit].append(Patch(
                index, split.names[index], classes[split.labels[index]], output,
                (max(top, 0), max(left, 0), min(top + length, crop), min(left + length, crop))))
    return found


def cut_out(
    pixels_HWC: NDArray[np.uint8], crop: int, box: tuple[int, int, int, int], side: int = 0,
) -> NDArray[np.uint8]:
    """A patch of a stored image's central view.

    side: of the unit's whole field. With it a patch that the view's edge cuts short is a square like all others of its
    layer, enlarged within the view, and what the unit does not see of it is pale.
    """
    first = (len(pixels_HWC) - crop) // 2
    view_HWC = pixels_HWC[first : first + crop, first : first + crop]
    top, left, bottom, right = box
    if not side:
        return view_HWC[top:bottom, left:right]
    side = min(side, crop)
    pale_HWC = (0.25 * view_HWC + 0.75 * _PAPER).round().astype(np.uint8)
    pale_HWC[top:bottom, left:right] = view_HWC[top:bottom, left:right]
    y, x = min(top, crop - side), min(left, crop - side)
    return pale_HWC[y : y + side, x : x + side]
