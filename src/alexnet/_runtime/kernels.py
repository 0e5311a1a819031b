"""Fused kernels for response normalization, random crops, the SGD update and dropout: C on a CPU, Triton on CUDA.

Each operation has a `supports_...` function. Where it returns False, the caller runs its own torch code.
Shapes: N images, V views, C channels or feature maps, H rows, W columns.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet._runtime import native
from alexnet._runtime.philox import Draw
from alexnet._runtime.pixels import AnyPixels, Pixels, as_pixels

MAX_MAPS, MAX_REACH = 4096, 16
"""Size of the kernels' row buffers: feature maps of one tower, and neighbors on each side of a map."""

_int, _float, _address = ctypes.c_int, ctypes.c_float, ctypes.c_void_p


@cache
def _triton() -> Any:
    """The module triton_kernels, or None where Triton is not installed. The CUDA builds of torch include it."""
    if importlib.util.find_spec("triton") is None:
        return None
    from alexnet._runtime import triton_kernels

    return triton_kernels


def _supported(tensor: AnyPixels, dtypes: tuple[torch.dtype, ...]) -> bool:
    """Whether there are kernels for the tensor's device and dtype, and ALEXNET_NATIVE allows them."""
    device = tensor.device.type
    available = native.level() if device == "cpu" else native.allowed() and device == "cuda" and _triton()
    return tensor.dtype in dtypes and bool(available)


# The C structs of native/kernels.c.


class _Norm(ctypes.Structure):
    _fields_ = (("width", _int), ("reach", _int), ("k", _float), ("alpha", _float), ("beta", _float))


class _View(ctypes.Structure):
    _fields_ = (("side", _int), ("crop", _int), ("mean_side", _int), ("bgr", _int), ("half", _int),
                ("inverse_scale", _float * 3))


class _Rule(ctypes.Structure):
    _fields_ = (("momentum", _float), ("decay", _float), ("rate", _float), ("lr_in_velocity", _int),
                ("nesterov", _int))


class _Draw(ctypes.Structure):
    _fields_ = (*((name, ctypes.c_uint32) for name in ("seed_low", "seed_high", "step", "layer", "threshold")),
                ("scale", _float), ("first_unit", _int), ("half", _int))


def _threads(numel: int) -> int:
    """One thread for small tensors: their work ends before a second thread has woken up."""
    return torch.get_num_threads() if numel > 20_000 else 1


# --- Response normalization (§3.3) ------------------------------------------------------------------------------------


def supports_norm(maps_NCHW: Tensor, towers: int, n: int) -> bool:
    """Whether `norm_forward` and `norm_backward` accept these maps."""
    return (maps_NCHW.ndim == 4 and maps_NCHW.shape[1] // towers <= MAX_MAPS and n // 2 <= MAX_REACH
            and _supported(maps_NCHW, (torch.float32, torch.bfloat16)))


def norm_forward(maps_NCHW: Tensor, *, k: float, alpha: float, beta: float, n: int, towers: int) -> Tensor:
    """x / (k + alpha * sum of x^2 over n neighboring maps of the same tower) ^ beta; channels-last, same dtype."""
    if maps_NCHW.is_cuda:
        return _triton().norm_forward(maps_NCHW, k=k, alpha=alpha, beta=beta, n=n, towers=towers)
    x = maps_NCHW.contiguous(memory_format=torch.channels_last)
    y = torch.empty_like(x)
    norm, rows = _norm(x, k, alpha, beta, n, towers)
    native.call("alexnet_norm_forward", ctypes.byref(norm), _at(x), _at(y), rows, _is_bf16(x), _threads(x.numel()))
    return y


def norm_backward(
    maps_NCHW: Tensor, grad_NCHW: Tensor, *, k: float, alpha: float, beta: float, n: int, towers: int,
) -> Tensor:
    """Gradient with respect to the maps, from the gradient with respect to the normalized maps."""
    if maps_NCHW.is_cuda:
        return _triton().norm_backward(maps_NCHW, grad_NCHW, k=k, alpha=alpha, beta=beta, n=n, towers=towers)
    x = maps_NCHW.contiguous(memory_format=torch.channels_last)
    dy = grad_NCHW.to(x.dtype).contiguous(memory_format=torch.channels_last)
    dx = torch.empty_like(x)
    norm, rows = _norm(x, k, alpha, beta, n, towers)
    native.call("alexnet_norm_backward", ctypes.byref(norm), _at(x), _at(dy), _at(dx), rows, _is_bf16(x),
                _threads(x.numel()))
    return dx


def _norm(x: Tensor, k: float, alpha: float, beta: float, n: int, towers: int) -> tuple[_Norm, ctypes.c_long]:
    """The C struct, and the number of rows: pixels x towers."""
    width = x.shape[1] // towers
    return _Norm(width, n // 2, k, alpha, beta), ctypes.c_long(x.numel() // width if width else 0)


# --- Crops (§4.1) -----------------------------------------------------------------------------------------------------


def supports_crop(pixels: AnyPixels, dtype: torch.dtype) -> bool:
    """Whether `crop_normalize` accepts these images and output dtype."""
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
    pixels = as_pixels(pixels).contiguous()  # kept until the kernel returns, since the kernel gets addresses
    if pixels.device.type == "cuda":
        return _triton().crop_normalize(pixels.tensor(), mean_HWC, scale_C, top_left_V2, mirrored_V, shift_VC, crop,
                                        bgr=bgr, dtype=dtype, image_V=image_V, mean_is_central=mean_is_central)
    count, places = len(top_left_V2), top_left_V2.long().contiguous()
    image = np.arange(count) if image_V is None else image_V.numpy()
    view, addresses, mean, mirrored, shift, out = _crop_arguments(
        pixels, image, mean_HWC, scale_C, mirrored_V, shift_VC, crop, bgr, dtype)
    if count:  # the kernel does not check bounds
        assert 0 <= int(places.min()) <= int(places.max()) <= view.side - crop, "a crop outside its image"
    assert not mean_is_central or view.mean_side == crop
    mirrored_mean = None if mean_is_central else mean.flip(1).contiguous()
    native.call("alexnet_crops", ctypes.byref(view), _address(addresses.ctypes.data), _at(mean),
                None if mirrored_mean is None else _at(mirrored_mean), _at(places), _at(mirrored), _at(shift), _at(out),
                ctypes.c_long(count), torch.get_num_threads())
    return out.permute(0, 3, 1, 2)


def resized_crop_normalize(
    pixels: AnyPixels, mean_C: Tensor, scale_C: Tensor, boxes_N4: Tensor, mirrored_N: Tensor | None,
    shift_NC: Tensor | None, crop: int, *, bgr: bool, dtype: torch.dtype,
) -> Tensor:
    """`crop_normalize` of one box of each image, rescaled bilinearly to crop x crop. CPU only.

    Args:
        mean_C: one color, on 0..255.
        boxes_N4: top, left, rows, columns, in pixels; fractions are allowed.
    """
    count, boxes = len(boxes_N4), boxes_N4.float().contiguous()
    pixels = as_pixels(pixels).contiguous()  # kept until the kernel returns, since the kernel gets addresses
    view, addresses, mean, mirrored, shift, out = _crop_arguments(
        pixels, np.arange(count), mean_C.reshape(1, 1, 3), scale_C, mirrored_N, shift_NC, crop, bgr, dtype)
    native.call("alexnet_boxes", ctypes.byref(view), _address(addresses.ctypes.data), _at(mean), _at(boxes),
                _at(mirrored), _at(shift), _at(out), ctypes.c_long(count), torch.get_num_threads())
    return out.permute(0, 3, 1, 2)


def _crop_arguments(
    pixels: Pixels, image_V: NDArray[np.int64], mean_HWC: Tensor, scale_C: Tensor,
    mirrored_V: Tensor | None, shift_VC: Tensor | None, crop: int, bgr: bool, dtype: torch.dtype,
) -> tuple[_View, NDArray[np.uintp], Tensor, Tensor, Tensor, Tensor]:
    """Arguments of both crop kernels: struct, address of each view's image, mean, mirrored, shift, output memory.

    Mean, scale and shift are in the channel order of the output.
    """
    count, scale, mean = len(image_V), scale_C.double(), mean_HWC.float()
    mirrored = torch.zeros(count, dtype=torch.uint8) if mirrored_V is None else mirrored_V.to(torch.uint8).contiguous()
    shift = torch.zeros(count, 3) if shift_VC is None else shift_VC.float()
    if bgr:
        mean, scale, shift = mean.flip(-1), scale.flip(0), shift.flip(-1)
    assert len(mirrored) == len(shift) == count
    out = torch.empty((count, crop, crop, 3), dtype=dtype)
    view = _View(pixels.side, crop, mean.shape[0], bgr, _is_bf16(out), (_float * 3)(*(1 / scale).tolist()))
    return view, pixels.addresses()[image_V], mean.contiguous(), mirrored, shift.contiguous(), out


# --- The SGD update (§5) ----------------------------------------------------------------------------------------------


def supports_sgd(w: Tensor, v: Tensor, g: Tensor) -> bool:
    """Whether `sgd_update` accepts these: float32, without gaps, and with the same memory layout."""
    return (all(_supported(tensor, (torch.float32,)) for tensor in (w, v, g))
            and w.stride() == v.stride() == g.stride() and _is_dense(w))


def sgd_update(
    w: Tensor, v: Tensor, g: Tensor, *, momentum: float, weight_decay: float, learning_rate: float,
    lr_in_velocity: bool, nesterov: bool,
) -> None:
    """Update weights w and velocity v in place from gradient g, by §5's rule or PyTorch's, in one pass.

    Args:
        lr_in_velocity: True: §5's v <- m v - eps (decay w + g); w <- w + v.
            False: PyTorch's v <- m v + decay w + g; w <- w - eps v.
        nesterov: PyTorch's Nesterov momentum; only with lr_in_velocity=False.
    """
    if w.is_cuda:
        _triton().sgd_update(w, v, g, momentum=momentum, weight_decay=weight_decay, learning_rate=learning_rate,
                             lr_in_velocity=lr_in_velocity, nesterov=nesterov)
        return
    rule = _Rule(momentum, weight_decay, learning_rate, lr_in_velocity, nesterov)
    native.call("alexnet_update", ctypes.byref(rule), _at(w), _at(v), _at(g), ctypes.c_long(w.numel()),
                torch.get_num_threads())


# --- Dropout (§4.2) ---------------------------------------------------------------------------------------------------


def supports_dropout(x_ND: Tensor) -> bool:
    """Whether `dropout` accepts this tensor."""
    return x_ND.ndim == 2 and _supported(x_ND, (torch.float32, torch.bfloat16))


def dropout(x_ND: Tensor, rows_N: NDArray[np.int64], draw: Draw, first_unit: int) -> Tensor:
    """Multiply by 0 the units that `philox.keep_mask` drops, and by 1 / (1 - p) the others.

    Args:
        x_ND: units, or their gradient.
        rows_N: position of each image in the global batch.
        first_unit: number in the layer of the first unit of x.
    """
    if x_ND.is_cuda:
        return _triton().dropout(x_ND, torch.from_numpy(rows_N).to(x_ND.device, non_blocking=True), draw, first_unit)
    x, positions = x_ND.contiguous(), np.ascontiguousarray(rows_N)
    y = torch.empty_like(x)
    key, layer, seed_high = draw.words
    struct = _Draw(key & 0xFFFFFFFF, seed_high, key >> 32, layer, draw.threshold, draw.scale, first_unit, _is_bf16(x))
    native.call("alexnet_dropout", ctypes.byref(struct), _at(x), _address(positions.ctypes.data), _at(y),
                ctypes.c_long(len(x)), ctypes.c_long(x.shape[1]), _threads(x.numel()))
    return y


def _is_dense(tensor: Tensor) -> bool:
    """Whether the tensor's memory has no gaps and no element twice."""
    return tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last))


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return _address(tensor.data_ptr())


def _is_bf16(tensor: Tensor) -> int:
    return int(tensor.dtype == torch.bfloat16)
