"""Fused kernels for response normalization, random crops, the SGD update and dropout: C on a CPU, Triton on CUDA.

Each operation has a `supports_...` function. Where it returns False, the caller runs its own torch code.
Shapes: N images, V views, C channels or feature maps, H rows, W columns.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet._runtime import c_kernels, native, operators
from alexnet._runtime.devices import to_device
from alexnet._runtime.philox import Draw, counter_words
from alexnet._runtime.pixels import AnyPixels, as_pixels

MAX_MAPS, MAX_REACH = 4096, 16
"""Size of the kernels' row buffers: feature maps of one tower, and neighbors on each side of a map."""


@cache
def _has_triton() -> bool:
    """Whether Triton is installed. The CUDA builds of torch include it."""
    return importlib.util.find_spec("triton") is not None


def available(device: str) -> bool:
    """Whether there are kernels for a kind of device (`cpu`, `cuda`, ...), and ALEXNET_NATIVE allows them."""
    if device == "cpu":
        return bool(native.level())
    return device == "cuda" and bool(native.allowed()) and _has_triton()


def _supported(tensor: AnyPixels, dtypes: tuple[torch.dtype, ...]) -> bool:
    return tensor.dtype in dtypes and available(tensor.device.type)


def _is_plain(tensor: Tensor) -> bool:
    """Whether a C kernel can take the tensor: it is on a CPU, and no stand-in of a compiler without memory."""
    return not tensor.is_cuda and type(tensor) in (Tensor, nn.Parameter)


# --- Response normalization (§3.3) ------------------------------------------------------------------------------------


def supports_norm(maps_NCHW: Tensor, towers: int, n: int) -> bool:
    """Whether `norm_forward` and `norm_backward` accept these maps, and there are kernels."""
    return accepts_norm(maps_NCHW, towers, n) and available(maps_NCHW.device.type)


def accepts_norm(maps_NCHW: Tensor, towers: int, n: int) -> bool:
    """Whether they accept these maps, where there are kernels."""
    return (maps_NCHW.ndim == 4 and maps_NCHW.shape[1] // towers <= MAX_MAPS and n // 2 <= MAX_REACH
            and maps_NCHW.dtype in (torch.float32, torch.bfloat16))


def norm_forward(maps_NCHW: Tensor, *, k: float, alpha: float, beta: float, n: int, towers: int) -> Tensor:
    """x / (k + alpha * sum of x^2 over n neighboring maps of the same tower) ^ beta; channels-last, same dtype."""
    if _is_plain(maps_NCHW):
        return c_kernels.norm_forward(maps_NCHW, k=k, alpha=alpha, beta=beta, n=n, towers=towers)
    return operators.norm_forward(maps_NCHW, k, alpha, beta, n, towers)


def norm_backward(
    maps_NCHW: Tensor, grad_NCHW: Tensor, *, k: float, alpha: float, beta: float, n: int, towers: int,
) -> Tensor:
    """Gradient with respect to the maps, from the gradient with respect to the normalized maps."""
    if _is_plain(maps_NCHW):
        return c_kernels.norm_backward(maps_NCHW, grad_NCHW, k=k, alpha=alpha, beta=beta, n=n, towers=towers)
    return operators.norm_backward(maps_NCHW, grad_NCHW, k, alpha, beta, n, towers)


def differentiable_norm(maps_NCHW: Tensor, *, k: float, alpha: float, beta: float, n: int, towers: int) -> Tensor:
    """`norm_forward`, with `norm_backward` as its gradient: what torch.compile puts into its graph."""
    return operators.norm_forward(maps_NCHW, k, alpha, beta, n, towers)


# --- Crops (§4.1) -----------------------------------------------------------------------------------------------------


def supports_crop(pixels: AnyPixels, dtype: torch.dtype) -> bool:
    """Whether `crop_normalize` and `resized_crop_normalize` accept these images and output dtype."""
    return _supported(as_pixels(pixels), (torch.uint8,)) and dtype in (torch.float32, torch.bfloat16)


def crop_normalize(
    pixels: AnyPixels, mean_HWC: Tensor, scale_C: Tensor, top_left_V2: Tensor,
    mirrored_V: Tensor | None, shift_VC: Tensor | None, crop: int, *, bgr: bool, dtype: torch.dtype,
    image_V: Tensor | None = None, mean_is_central: bool = False,
) -> Tensor:
    """Crop, mirror, and compute (pixels - mean + shift) / scale in one pass.

    Args:
        pixels: uint8 [N, side, side, 3].
        mean_HWC: float [side, side, 3] or [1, 1, 3], on 0..255; [crop, crop, 3] if `mean_is_central`.
        top_left_V2: position of each crop, in pixels.
        mirrored_V: which views are mirrored; None: no view.
        shift_VC: color noise, added to all pixels of a view; None: none.
        bgr: whether the output's channels are blue, green, red.
        dtype: of the output, float32 or bfloat16.
        image_V: index of each view's image; None: view v is of image v.
        mean_is_central: every view loses the same `mean_HWC`, after mirroring; else the part at its own position.

    Returns:
        [V, 3, crop, crop], channels-last.
    """
    pixels = as_pixels(pixels)
    if pixels.device.type == "cuda":
        return operators.crop_normalize(pixels.tensor(), mean_HWC, scale_C, top_left_V2, mirrored_V, shift_VC, image_V,
                                        crop, bgr, dtype, mean_is_central)
    return c_kernels.crop_normalize(pixels, mean_HWC, scale_C, top_left_V2, mirrored_V, shift_VC, crop, bgr=bgr,
                                    dtype=dtype, image_V=image_V, mean_is_central=mean_is_central)


def resized_crop_normalize(
    pixels: AnyPixels, mean_C: Tensor, scale_C: Tensor, boxes_N4: Tensor, mirrored_N: Tensor | None,
    shift_NC: Tensor | None, crop: int, *, bgr: bool, dtype: torch.dtype,
) -> Tensor:
    """`crop_normalize` of one box of each image, rescaled bilinearly to crop x crop.

    Args:
        mean_C: one color, on 0..255.
        boxes_N4: top, left, rows, columns, in pixels, on the CPU or the device of the images; fractions are allowed.
    """
    pixels = as_pixels(pixels)
    if pixels.device.type == "cuda":
        boxes = to_device(boxes_N4.float(), pixels.device)
        return operators.resized_crop_normalize(
            pixels.tensor(), mean_C, scale_C, boxes, mirrored_N, shift_NC, crop, bgr, dtype)
    return c_kernels.resized_crop_normalize(
        pixels, mean_C, scale_C, boxes_N4, mirrored_N, shift_NC, crop, bgr=bgr, dtype=dtype)


# --- The SGD update (§5) ----------------------------------------------------------------------------------------------


def supports_sgd(w: Tensor, v: Tensor, g: Tensor) -> bool:
    """Whether `sgd_update` accepts these: float32, without gaps, and with the same memory layout."""
    return (all(_supported(tensor, (torch.float32,)) for tensor in (w, v, g))
            and w.stride() == v.stride() == g.stride() and _is_dense(w))


def sgd_update(
    w: Sequence[Tensor], v: Sequence[Tensor], g: Sequence[Tensor], rates: Sequence[Tensor], decays: Sequence[float],
    copies: Sequence[Tensor] = (), *, momentum: float, lr_in_velocity: bool, nesterov: bool,
) -> None:
    """Update all weights w and velocities v in place from gradients g, by §5's rule or PyTorch's, in one pass.

    On CUDA one launch updates up to 64 tensors.

    Args:
        rates: learning rate of each tensor: float32 [], on the device, where a CUDA graph that is replayed finds those
            of its step.
        decays: weight decay of each tensor.
        copies: bfloat16, of the shapes and strides of w: they get the new weights. Default: there are none.
        lr_in_velocity: True: §5's v <- m v - eps (decay w + g); w <- w + v.
            False: PyTorch's v <- m v + decay w + g; w <- w - eps v.
        nesterov: PyTorch's Nesterov momentum; only with lr_in_velocity=False.
    """
    if all(map(_is_plain, w)):
        c_kernels.sgd_update(w, v, g, rates, decays, copies, momentum=momentum, lr_in_velocity=lr_in_velocity,
                             nesterov=nesterov)
    else:
        operators.sgd_update(w, v, g, rates, decays, copies, momentum, lr_in_velocity, nesterov)


# --- Dropout (§4.2) ---------------------------------------------------------------------------------------------------


def supports_dropout(x_ND: Tensor) -> bool:
    """Whether `dropout` accepts this tensor."""
    return x_ND.ndim == 2 and _supported(x_ND, (torch.float32, torch.bfloat16))


def dropout(
    x_ND: Tensor, rows_N: NDArray[np.int64], draw: Draw, first_unit: int, counter: Tensor | None = None,
) -> Tensor:
    """Multiply by 0 the units that `philox.keep_mask` drops, and by 1 / (1 - p) the others.

    Args:
        x_ND: units, or their gradient.
        rows_N: position of each image in the global batch.
        first_unit: number in the layer of the first unit of x.
        counter: `counter_words` of seed, step and rows on the device, for the layers of a step; default: copied there.
    """
    if _is_plain(x_ND):
        return c_kernels.dropout(x_ND, rows_N, draw, first_unit)
    if counter is None:
        counter = to_device(counter_words(draw.seed, draw.step, rows_N), x_ND.device)
    return operators.dropout(x_ND, counter, draw.p, draw.layer, first_unit)


def _is_dense(tensor: Tensor) -> bool:
    """Whether the tensor's memory has no gaps and no element twice."""
    return tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
