"""Attribution: which pixels a class score depends on, by Grad-CAM, guided backpropagation, deconvnet and occlusion.

captum computes all but Grad-CAM, which the server and the demo need without captum: captum imports Matplotlib, which
needs a folder that it can write to. Sources: occlusion and deconvnet, Zeiler and Fergus, arXiv 1311.2901; guided
backpropagation, Springenberg et al., 1412.6806; Grad-CAM, Selvaraju et al., 1610.02391.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet._runtime.extras import install_line
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.spec import Arch
from alexnet.data.numpy_preprocessing import central_window
from alexnet.errors import UserError, did_you_mean
from alexnet.inference.classifier import BATCH_SIZE, ImageInput
from alexnet.inference.predictor import Model
from alexnet.models.hooks import captured_outputs, uncompiled


@dataclass(frozen=True)
class Attribution:
    """Attribution maps over the center crop of one image, for one class. H = W = crop."""

    label: str
    probability: float
    view_HWC: NDArray[np.uint8]
    """The center crop."""
    occlusion_HW: NDArray[np.float32]
    """By how much the class's probability falls if a gray square hides a pixel, averaged over all such squares."""
    window: int
    """The square's side, in pixels."""
    grad_cam_HW: NDArray[np.float32]
    """Grad-CAM, 0..1: where the maps of `layer` raise the class's logit."""
    layer: str
    guided_HWC: NDArray[np.float32] | None
    """Guided backpropagation: the gradient of the class's logit with respect to the pixels, where each ReLU passes only
    positive gradients, and only where it was open; None for a network without ReLUs."""
    deconvnet_HWC: NDArray[np.float32] | None
    """The same, where each ReLU passes all positive gradients, as a deconvolutional network does."""


def attribute(
    model: Model, image: ImageInput, *, label: str | None = None, layer: str | None = None,
) -> Attribution:
    """Compute all attribution maps of one image.

    Args:
        model: the model.
        image: the image.
        label: the class; default: the likeliest one.
        layer: the layer whose maps Grad-CAM weighs; default: the last convolution's activations.

    Raises:
        UserError: the class or layer does not exist, or captum is not installed.
    """
    attr = _captum()
    network, arch = model.network, model.network.arch
    pixels_HWC = model.pixels(image)
    view_NCHW = model.views(pixels_HWC)
    with torch.inference_mode():
        probabilities_K = network(view_NCHW).float().softmax(1)[0]
    target = int(probabilities_K.argmax()) if label is None else model.class_index(label)
    layer = layer or last_activation(arch)
    cam_HW = grad_cam(model, view_NCHW, target, layer)
    side = max(2, arch.input.crop // 5)
    occlusion_HW = _occlusion(model, view_NCHW, target, side)
    guided = deconvnet = None
    if arch.activation == "relu":
        with _captums_hooks():
            guided, deconvnet = (
                _to_image(method(network).attribute(view_NCHW.clone().requires_grad_(), target=target), arch)
                for method in (attr.GuidedBackprop, attr.Deconvolution))
    window = central_window(len(pixels_HWC), arch.input.crop)
    return Attribution(model.classes[target], float(probabilities_K[target]), pixels_HWC[window, window],
                       occlusion_HW, side, cam_HW, layer, guided, deconvnet)


def grad_cam(model: Model, view_NCHW: Tensor, target: int, layer: str) -> NDArray[np.float32]:
    """Compute Grad-CAM for one view: float32 [crop, crop], 0..1.

    Args:
        model: the model.
        view_NCHW: one view, as `Model.views` gives it.
        target: index of the class.
        layer: the layer whose maps are weighed.

    Raises:
        UserError: the layer has no maps.
    """
    network = model.network
    layers = [entry.name for entry in explain(network.arch).layers if len(entry.output_shape) == 3]
    if layer not in layers:
        raise UserError(f"{network.arch.name} has no layer {layer!r} with feature maps", did_you_mean(layer, layers))
    with captured_outputs(network, [layer]) as captured, torch.enable_grad():
        logit = network(view_NCHW)[0, target]
    maps_NCHW = captured[layer]
    (gradient_NCHW,) = torch.autograd.grad(logit, maps_NCHW)
    cam_N1HW = torch.relu((gradient_NCHW.mean((2, 3), keepdim=True) * maps_NCHW).sum(1, keepdim=True))
    cam_HW: NDArray[np.float32] = torch.nn.functional.interpolate(
        cam_N1HW.detach().float(), view_NCHW.shape[2:], mode="bilinear")[0, 0].cpu().numpy()
    return cam_HW / (cam_HW.max() or 1.0)


def last_activation(arch: Arch) -> str:
    """The activations of the last convolution, Grad-CAM's usual layer: relu5 in the paper's network."""
    return f"{arch.activation}{len(arch.conv)}"


def _occlusion(model: Model, view_NCHW: Tensor, target: int, side: int) -> NDArray[np.float32]:
    def probabilities(views_NCHW: Tensor) -> Tensor:
        with torch.no_grad():
            return model.network(views_NCHW).float().softmax(1)

    stride = max(1, view_NCHW.shape[-1] // 20)
    # With the mean subtracted, zero is the mean color: a gray square.
    maps_NCHW = _captum().Occlusion(probabilities).attribute(
        view_NCHW, (3, side, side), (3, stride, stride), target=target, baselines=0.0,
        perturbations_per_eval=BATCH_SIZE)
    return maps_NCHW[0].mean(0).cpu().numpy()


def _captum() -> Any:
    try:
        from captum import attr
    except ImportError:
        raise UserError("attribution maps are computed by captum", install_line("interpret")) from None
    return attr


@contextmanager
def _captums_hooks() -> Iterator[None]:
    """Let captum set hooks, which it removes afterwards, without its notice of it, and without compiled code."""
    with uncompiled(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting .*hooks")
        yield


def _to_image(gradient_NCHW: Tensor, arch: Arch) -> NDArray[np.float32]:
    """[1, 3, H, W] in the network's channel order -> [H, W, 3] in RGB."""
    image_HWC = gradient_NCHW[0].detach().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(image_HWC[..., ::-1] if arch.input.channels == "BGR" else image_HWC)
