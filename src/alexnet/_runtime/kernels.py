"""Tensors through the kernels, C's on a CPU and Triton's on CUDA: which they take, and what comes out. No network.

Shapes: N images, C channels or maps, H rows, W columns.
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
from alexnet._runtime.pixels import AnyPixels, Pixels, as_pixels

WIDEST, REACH = 4096, 16
"""What the kernels' row buffers hold: maps of one tower, and neighbors to one side of a map."""

_int, _float, _address = ctypes.c_int, ctypes.c_float, ctypes.c_void_p


@cache
def _triton() -> Any:
    """triton_kernels, or None where Triton is not installed; torch for CUDA brings it."""
    if importlib.util.find_spec("triton") is None:
        return None
    from alexnet._runtime import triton_kernels

    return triton_kernels


def _any_for(tensor: AnyPixels, dtypes: tuple[torch.dtype, ...]) -> bool:
    """Whether there are kernels for a tensor's device, and they are allowed, and it is of one of these types."""
    device = tensor.device.type
    there = native.level() if device == "cpu" else native.allowed() and device == "cuda" and _triton()
    return tensor.dtype in dtypes and bool(there)


class _Norm(ctypes.Structure):
    _fields_ = (("width", _int), ("reach", _int), ("k", _float), ("alpha", _float), ("beta", _float))


class _View(ctypes.Structure):
    _fields_ = (("side", _int), ("crop", _int), ("mean_side", _int), ("bgr", _int), ("half", _int),
                ("inverse_scale", _float * 3))


class _Rule(ctypes.Structure):
    _fields_ = (("momentum", _float), ("decay", _float), ("rate", _float), ("lr_in_velocity", _int),
                ("nesterov", _int))


def _threads(numbers: int) -> int:
    """Work of a few microseconds is done before a second thread has woken."""
    return torch.get_num_threads() if numbers > 20_000 else 1


# --- Response normalization -------------------------------------------------------------------------------------------


def norms(maps_NCHW: Tensor, towers: int, n: int) -> bool:
    """Whether `norm_forward` takes such maps."""
    return (maps_NCHW.ndim == 4 and maps_NCHW.shape[1] // towers <= WIDEST and n // 2 <= REACH
            and _any_for(maps_NCHW, (torch.float32, torch.bfloat16)))


def norm_forward(maps_NCHW: Tensor, *, k: float, alpha: float, beta: float, n: int, towers: int) -> Tensor:
    """x / (k + alpha * sum of x^2 over n neighbors of the same tower) ^ beta, channels-last, in the maps' own type."""
    if maps_NCHW.is_cuda:
        return _triton().norm_forward(maps_NCHW, k=k, alpha=alpha, beta=beta, n=n, towers=towers)
    x = maps_NCHW.contiguous(memory_format=torch.channels_last)
    y = torch.empty_like(x)
    norm, rows = _norm(x, k, alpha, beta, n, towers)
    native.call("alexnet_norm_forward", ctypes.byref(norm), _at(x), _at(y), rows, _half(x), _threads(x.numel()))
    return y


def norm_backward(
    maps_NCHW: Tensor, above_NCHW: Tensor, *, k: float, alpha: float, beta: float, n: int, towers: int,
) -> Tensor:
    """The gradient by the maps, from that by the normalized maps."""
    if maps_NCHW.is_cuda:
        return _triton().norm_backward(maps_NCHW, above_NCHW, k=k, alpha=alpha, beta=beta, n=n, towers=towers)
    x = maps_NCHW.contiguous(memory_format=torch.channels_last)
    dy = above_NCHW.to(x.dtype).contiguous(memory_format=torch.channels_last)
    dx = torch.empty_like(x)
    norm, rows = _norm(x, k, alpha, beta, n, towers)
    native.call("alexnet_norm_backward", ctypes.byref(norm), _at(x), _at(dy), _at(dx), rows, _half(x),
                _threads(x.numel()))
    return dx


def _norm(x: Tensor, k: float, alpha: float, beta: float, n: int, towers: int) -> tuple[_Norm, ctypes.c_long]:
    width = x.shape[1] // towers
    return _Norm(width, n // 2, k, alpha, beta), ctypes.c_long(x.numel() // width if width else 0)


# --- Views ------------------------------------------------------------------------------------------------------------


def windows(
    pixels: AnyPixels, mean_HWC: Tensor, scale_C: Tensor, places_V2: Tensor, mirrored_V: Tensor | None,
    shift_VC: Tensor | None, crop: int, *, bgr: bool, dtype: torch.dtype, photo_V: Tensor | None = None,
) -> Tensor:
    """(pixels - mean + shift) / scale in windows of crop x crop at `places`, mirrored where asked, blue first if `bgr`.

    pixels: uint8 [N, side, side, 3]. mean_HWC: float [side, side, 3] or [1, 1, 3].
    places_V2: top and left. photo_V: the image of each view, where they are not one each. dtype: float32 or
    bfloat16. Returns [V, 3, crop, crop], channels-last.
    """
    pixels = as_pixels(pixels).contiguous()  # held until the kernel has read it, which takes addresses alone
    if pixels.device.type == "cuda":
        return _triton().windows(pixels.tensor(), mean_HWC, scale_C, places_V2, mirrored_V, shift_VC, crop, bgr=bgr,
                                 dtype=dtype, photo_V=photo_V)
    count, places = len(places_V2), places_V2.long().contiguous()
    photo = np.arange(count) if photo_V is None else photo_V.numpy()
    view, addresses, mean, mirrored, shift, out = _prepared(
        pixels, photo, mean_HWC, scale_C, mirrored_V, shift_VC, crop, bgr, dtype)
    if count:  # what reaches out of its image, torch would refuse too
        assert 0 <= int(places.min()) <= int(places.max()) <= view.side - crop, "a window outside its image"
    turned_mean = mean.flip(1).contiguous()
    native.call("alexnet_windows", ctypes.byref(view), _address(addresses.ctypes.data), _at(mean), _at(turned_mean),
                _at(places), _at(mirrored), _at(shift), _at(out), ctypes.c_long(count), torch.get_num_threads())
    return out.permute(0, 3, 1, 2)


def boxes(
    pixels: AnyPixels, mean_C: Tensor, scale_C: Tensor, boxes_N4: Tensor, mirrored_N: Tensor | None,
    shift_NC: Tensor | None, crop: int, *, bgr: bool, dtype: torch.dtype,
) -> Tensor:
    """As `windows`, one of each image, of boxes (top, left, rows, columns, in pixels) rescaled to crop x crop.

    On a CPU only. mean_C: one color.
    """
    count, places = len(boxes_N4), boxes_N4.float().contiguous()
    pixels = as_pixels(pixels).contiguous()  # held until the kernel has read it
    view, addresses, mean, mirrored, shift, out = _prepared(
        pixels, np.arange(count), mean_C.reshape(1, 1, 3), scale_C, mirrored_N, shift_NC, crop, bgr, dtype)
    native.call("alexnet_boxes", ctypes.byref(view), _address(addresses.ctypes.data), _at(mean), _at(places),
                _at(mirrored), _at(shift), _at(out), ctypes.c_long(count), torch.get_num_threads())
    return out.permute(0, 3, 1, 2)


def _prepared(
    pixels: Pixels, photo_V: NDArray[np.int64], mean_HWC: Tensor, scale_C: Tensor,
    mirrored_V: Tensor | None, shift_VC: Tensor | None, crop: int, bgr: bool, dtype: torch.dtype,
) -> tuple[_View, NDArray[np.uintp], Tensor, Tensor, Tensor, Tensor]:
    """What both kernels are told: the view, where each image is, mean, mirrored, shift, and memory for the views.

    The kernels speak of colors in the view's own order.
    """
    count, scale, mean = len(photo_V), scale_C.double(), mean_HWC.float()
    mirrored = torch.zeros(count, dtype=torch.uint8) if mirrored_V is None else mirrored_V.to(torch.uint8).contiguous()
    shift = torch.zeros(count, 3) if shift_VC is None else shift_VC.float()
    if bgr:
        mean, scale, shift = mean.flip(-1), scale.flip(0), shift.flip(-1)
    assert len(mirrored) == len(shift) == count
    out = torch.empty((count, crop, crop, 3), dtype=dtype)
    view = _View(pixels.side, crop, mean.shape[0], bgr, _half(out), (_float * 3)(*(1 / scale).tolist()))
    return view, pixels.addresses()[photo_V], mean.contiguous(), mirrored, shift.contiguous(), out


def makes_views(pixels: AnyPixels, dtype: torch.dtype) -> bool:
    """Whether `windows` takes such images."""
    return _any_for(as_pixels(pixels), (torch.uint8,)) and dtype in (torch.float32, torch.bfloat16)


# --- The update -------------------------------------------------------------------------------------------------------


def updates(w: Tensor, v: Tensor, g: Tensor) -> bool:
    """Whether `update` takes these: float32, dense, and laid out in memory alike."""
    return (all(_any_for(tensor, (torch.float32,)) for tensor in (w, v, g))
            and w.stride() == v.stride() == g.stride() and _dense(w))


def update(
    w: Tensor, v: Tensor, g: Tensor, *, momentum: float, decay: float, rate: float, lr_in_velocity: bool,
    nesterov: bool,
) -> None:
    """Change weights and velocity in place by §5's rule or PyTorch's (`optimize.Momentum`), in one pass."""
    if w.is_cuda:
        _triton().update(w, v, g, momentum=momentum, decay=decay, rate=rate, lr_in_velocity=lr_in_velocity,
                         nesterov=nesterov)
        return
    rule = _Rule(momentum, decay, rate, lr_in_velocity, nesterov)
    native.call("alexnet_update", ctypes.byref(rule), _at(w), _at(v), _at(g), ctypes.c_long(w.numel()),
                torch.get_num_threads())


def _dense(tensor: Tensor) -> bool:
    """No gaps and no number twice, whatever the order of its axes."""
    return tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last))


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return _address(tensor.data_ptr())


def _half(tensor: Tensor) -> int:
    return int(tensor.dtype == torch.bfloat16)
