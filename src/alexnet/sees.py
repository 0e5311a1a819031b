"""What a unit answers to and what an answer rests on: strongest patches; occlusion, Grad-CAM, guided gradients.

Patches are cut out where `explain` says that a unit looks. The maps of one photograph come from captum, whose names
for them are kept (Zeiler and Fergus, arXiv 1311.2901; Springenberg et al., 1412.6806; Selvaraju et al., 1610.02391).

Shapes: N photographs, U units, P places of a map, M strongest; views are float [N, 3, crop, crop].
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.config import Arch, nearest
from alexnet.explain import explain
from alexnet.palette import PALETTE
from alexnet.predict import BATCH, Model
from alexnet.shards import Split

# --- A unit's strongest patches ---------------------------------------------------------------------------------------

_PAPER = np.frombuffer(bytes.fromhex(PALETTE["paper"][0][1:]), np.uint8)


@dataclass(frozen=True)
class Patch:
    """Where in a set a unit's output is large."""

    index: int
    """The photograph's place in the split."""
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
        # A normalisation within a map (kernel 5, nothing padded, no side lost) is centred on its unit.
        centred = each.kernel // 2 if each.stride == 1 and each.input_shape[1:] == each.output_shape[1:] else 0
        begin -= jump * (each.padding if each.kind == "convolution" else centred if each.kind != "max pooling" else 0)
        if each.name == layer:
            return begin, each.receptive_field, each.jump
    return 0, arch.input.crop, 0


def strongest(
    model: Model, split: Split, classes: Sequence[str], layer: str, units: Sequence[int] = (), count: int = 9, *,
    on_progress: Callable[[int, int], object] | None = None,
) -> dict[int, list[Patch]]:
    """Unit -> the places of a split where its output is largest, one at most of each photograph, largest first.

    layer: any of `network.layer_names()`. units: maps of it, or units of a fully connected layer, counted from 0; a
    dozen, evenly spaced, unless said. A unit that is zero everywhere in all but a few photographs has fewer patches.
    Raises ValueError for a layer or unit that is not there.
    """
    names, arch = model.network.layer_names(), model.network.arch
    if layer not in names:
        raise ValueError(f"{arch.name} has no layer {layer!r}; {nearest(layer, names)}")
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
            if output == 0:  # a ReLU's, for every place of the photograph
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
    """A patch of a stored photograph's central view.

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


# --- What an answer rests on ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """Maps over the central view of one photograph, for one class. H = W = crop."""

    label: str
    probability: float
    view_HWC: NDArray[np.uint8]
    occlusion_HW: NDArray[np.float32]
    """By how much the class's probability falls where a grey square hides a place, over all squares that hide it."""
    window: int
    """The square's side in pixels."""
    grad_cam_HW: NDArray[np.float32]
    """0..1: where the maps of `layer` speak for the class."""
    layer: str
    guided_HWC: NDArray[np.float32] | None
    """Gradient of the class's logit by the pixels, with only positive gradients let through each ReLU that was open;
    None where the network has no ReLUs."""
    deconvnet_HWC: NDArray[np.float32] | None
    """The same with positive gradients let through every ReLU, as a deconvolutional network does."""


def see(model: Model, photo: object, *, label: str | None = None, layer: str | None = None) -> Seen:
    """What the answer for one photograph rests on.

    photo: as for `Model.predict`. label: the class asked about, the likeliest unless said. layer: whose maps Grad-CAM
    weighs, the last convolution's activations unless said.
    Raises ValueError for a class or layer that is not there, and where captum is not installed.
    """
    attr = _captum()
    network, arch = model.network, model.network.arch
    pixels_HWC = model.pixels(photo)  # type: ignore[arg-type]
    view_NCHW = model.views(pixels_HWC)
    with torch.inference_mode():
        probabilities_K = network(view_NCHW).float().softmax(1)[0]
    if label is not None and label not in model.classes:
        raise ValueError(f"the network knows no class {label!r}; {nearest(label, model.classes)}")
    target = model.classes.index(label) if label is not None else int(probabilities_K.argmax())
    layer = layer or last_maps(arch)
    cam_HW = grad_cam(model, view_NCHW, target, layer)

    crop = arch.input.crop
    window, stride = max(2, crop // 5), max(1, crop // 20)

    def probability(views_NCHW: Tensor) -> Tensor:
        with torch.no_grad():
            return network(views_NCHW).float().softmax(1)

    # After the mean is taken off, zero is the mean colour: a grey square.
    occlusion = attr.Occlusion(probability).attribute(
        view_NCHW, (3, window, window), (3, stride, stride), target=target, baselines=0.0, perturbations_per_eval=BATCH)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting .*hooks")  # captum says so each time; they are removed again
        guided = deconvnet = None
        if arch.activation == "relu":
            guided, deconvnet = (
                _pixels(method(network).attribute(view_NCHW.clone().requires_grad_(), target=target), arch)
                for method in (attr.GuidedBackprop, attr.Deconvolution))
    first = (len(pixels_HWC) - crop) // 2
    return Seen(
        model.classes[target], float(probabilities_K[target]), pixels_HWC[first : first + crop, first : first + crop],
        occlusion[0].mean(0).cpu().numpy(), window, cam_HW, layer, guided, deconvnet)


def grad_cam(model: Model, view_NCHW: Tensor, target: int, layer: str) -> NDArray[np.float32]:
    """Where a layer's maps speak for a class: 0..1 [crop, crop], for one view as `Model.views` gives it.

    Raises ValueError for a layer without maps, and where captum is not installed.
    """
    attr, network = _captum(), model.network
    maps = [each.name for each in explain(network.arch).layers if len(each.output_shape) == 3]
    if layer not in maps:
        raise ValueError(f"{network.arch.name} has no maps called {layer!r} to weigh; {nearest(layer, maps)}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting .*hooks")  # captum says so each time; they are removed again
        cam = attr.LayerGradCam(network, network.named_layer(layer)).attribute(
            view_NCHW, target=target, relu_attributions=True)
    crop = view_NCHW.shape[-1]
    cam_HW: NDArray[np.float32] = attr.LayerAttribution.interpolate(
        cam, (crop, crop), "bilinear")[0, 0].detach().cpu().numpy()
    return cam_HW / (cam_HW.max() or 1.0)


def last_maps(arch: Arch) -> str:
    """The last convolution's activations, whose maps Grad-CAM weighs."""
    return f"{arch.activation}{len(arch.conv)}"


def _captum() -> Any:
    try:
        from captum import attr
    except ImportError:
        raise ValueError("maps of what an answer rests on are made by captum; pip install 'alexnet[inside]'") from None
    return attr


def _pixels(gradient_NCHW: Tensor, arch: Arch) -> NDArray[np.float32]:
    """[1, 3, H, W] in the network's order of channels -> [H, W, 3] in RGB."""
    image_HWC = gradient_NCHW[0].detach().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(image_HWC[..., ::-1] if arch.input.channels == "BGR" else image_HWC)
