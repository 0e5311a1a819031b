"""The kernels of native/kernels.c for tensors on a CPU, called through ctypes. kernels.py says what each computes.

Shapes: N images, V views, C channels or feature maps, H rows, W columns.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet._runtime import native
from alexnet._runtime.philox import Draw
from alexnet._runtime.pixels import Pixels

_int, _float, _address = ctypes.c_int, ctypes.c_float, ctypes.c_void_p


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


def norm_forward(maps_NCHW: Tensor, *, k: float, alpha: float, beta: float, n: int, towers: int) -> Tensor:
    """`kernels.norm_forward` on a CPU."""
    x = maps_NCHW.contiguous(memory_format=torch.channels_last)
    y = torch.empty_like(x)
    norm, rows = _norm(x, k, alpha, beta, n, towers)
    native.call("alexnet_norm_forward", ctypes.byref(norm), _at(x), _at(y), rows, _is_bf16(x), _threads(x.numel()))
    return y


def norm_backward(
    maps_NCHW: Tensor, grad_NCHW: Tensor, *, k: float, alpha: float, beta: float, n: int, towers: int,
) -> Tensor:
    """`kernels.norm_backward` on a CPU."""
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


def crop_normalize(
    pixels: Pixels, mean_HWC: Tensor, scale_C: Tensor, top_left_V2: Tensor, mirrored_V: Tensor | None,
    shift_VC: Tensor | None, crop: int, *, bgr: bool, dtype: torch.dtype, image_V: Tensor | None,
    mean_is_central: bool,
) -> Tensor:
    """`kernels.crop_normalize` on a CPU."""
    pixels = pixels.contiguous()  # kept until the kernel returns, since the kernel gets addresses
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
    pixels: Pixels, mean_C: Tensor, scale_C: Tensor, boxes_N4: Tensor, mirrored_N: Tensor | None,
    shift_NC: Tensor | None, crop: int, *, bgr: bool, dtype: torch.dtype,
) -> Tensor:
    """`kernels.resized_crop_normalize` on a CPU."""
    count, boxes = len(boxes_N4), boxes_N4.float().contiguous()
    pixels = pixels.contiguous()  # kept until the kernel returns, since the kernel gets addresses
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


def sgd_update(
    w: Sequence[Tensor], v: Sequence[Tensor], g: Sequence[Tensor], rates: Sequence[Tensor], decays: Sequence[float],
    copies: Sequence[Tensor], *, momentum: float, lr_in_velocity: bool, nesterov: bool,
) -> None:
    """`kernels.sgd_update` on a CPU."""
    for weight, velocity, gradient, rate, decay in zip(w, v, g, rates, decays, strict=True):
        rule = _Rule(momentum, decay, float(rate), lr_in_velocity, nesterov)
        native.call("alexnet_update", ctypes.byref(rule), _at(weight), _at(velocity), _at(gradient),
                    ctypes.c_long(weight.numel()), torch.get_num_threads())
    for copy, weight in zip(copies, w, strict=bool(copies)):
        copy.copy_(weight)


# --- Dropout (§4.2) ---------------------------------------------------------------------------------------------------


def dropout(x_ND: Tensor, rows_N: NDArray[np.int64], draw: Draw, first_unit: int) -> Tensor:
    """`kernels.dropout` on a CPU."""
    x, positions = x_ND.contiguous(), np.ascontiguousarray(rows_N)
    y = torch.empty_like(x)
    key, layer, seed_high = draw.words
    struct = _Draw(key & 0xFFFFFFFF, seed_high, key >> 32, layer, draw.threshold, draw.scale, first_unit, _is_bf16(x))
    native.call("alexnet_dropout", ctypes.byref(struct), _at(x), _address(positions.ctypes.data), _at(y),
                ctypes.c_long(len(x)), ctypes.c_long(x.shape[1]), _threads(x.numel()))
    return y


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return _address(tensor.data_ptr())


def _is_bf16(tensor: Tensor) -> int:
    return int(tensor.dtype == torch.bfloat16)
