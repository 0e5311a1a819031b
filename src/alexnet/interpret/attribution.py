"""Grad-CAM and guided backpropagation: which pixels of one image a class score rests on."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.architecture.arithmetic import explain
from alexnet.architecture.spec import Arch
from alexnet.errors import did_you_mean
from alexnet.inference.predictor import BATCH, Model

# --- What an answer rests on ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """Maps over the central view of one image, for one class. H = W = crop."""

    label: str
    probability: float
    view_HWC: NDArray[np.uint8]
    occlusion_HW: NDArray[np.float32]
    """By how much the class's probability falls where a gray square hides a place, over all squares that hide it."""
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
    """What the answer for one image rests on.

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
        raise ValueError(f"the network knows no class {label!r}; {did_you_mean(label, model.classes)}")
    target = model.classes.index(label) if label is not None else int(probabilities_K.argmax())
    layer = layer or last_maps(arch)
    cam_HW = grad_cam(model, view_NCHW, target, layer)

    crop = arch.input.crop
    window, stride = max(2, crop // 5), max(1, crop // 20)

    def probability(views_NCHW: Tensor) -> Tensor:
        with torch.no_grad():
            return network(views_NCHW).float().softmax(1)

    # After the mean is taken off, zero is the mean color: a gray square.
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
        raise ValueError(f"{network.arch.name} has no maps called {layer!r} to weigh; {did_you_mean(layer, maps)}")
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
