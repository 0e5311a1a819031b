"""The kernels as operators of torch (`torch.ops.alexnet`): on CUDA, in torch.compile, and for tensors without memory.

Each operator has an implementation for a CPU (c_kernels.py) and for CUDA (triton_*.py, imported for the first tensor
there), and one that only says shape, dtype and device of the result. Eager code on a CPU calls c_kernels.py.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from alexnet._runtime import c_kernels
from alexnet._runtime.philox import Draw
from alexnet._runtime.pixels import TensorPixels

_LIBRARY = torch.library.Library("alexnet", "DEF")
_NORM = "float k, float alpha, float beta, int n, int towers"
for _schema in (
    f"norm_forward(Tensor maps, {_NORM}) -> Tensor",
    f"norm_backward(Tensor maps, Tensor grad, {_NORM}) -> Tensor",
    "crop_normalize(Tensor pixels, Tensor mean, Tensor scale, Tensor top_left, Tensor? mirrored, Tensor? shift, "
    "Tensor? image, int crop, bool bgr, ScalarType dtype, bool mean_is_central) -> Tensor",
    "resized_crop_normalize(Tensor pixels, Tensor mean, Tensor scale, Tensor boxes, Tensor? mirrored, Tensor? shift, "
    "int crop, bool bgr, ScalarType dtype) -> Tensor",
    "sgd_update(Tensor(a!)[] w, Tensor(b!)[] v, Tensor[] g, Tensor[] rates, float[] decays, Tensor(c!)[] copies, "
    "float momentum, bool lr_in_velocity, bool nesterov) -> ()",
    "dropout(Tensor x, Tensor counter, float p, int layer, int first_unit) -> Tensor",
):
    _LIBRARY.define(_schema)

norm_forward = torch.ops.alexnet.norm_forward.default
norm_backward = torch.ops.alexnet.norm_backward.default
crop_normalize = torch.ops.alexnet.crop_normalize.default
resized_crop_normalize = torch.ops.alexnet.resized_crop_normalize.default
sgd_update = torch.ops.alexnet.sgd_update.default
dropout = torch.ops.alexnet.dropout.default


def _module(device: str, triton: str = "triton_norm_dropout") -> Any:
    """The C kernels for a CPU, and this module of Triton kernels for CUDA."""
    return c_kernels if device == "CPU" else importlib.import_module(f"alexnet._runtime.{triton}")


def _implement(device: str) -> None:
    """Register the operators for a device."""

    def forward(maps: Tensor, k: float, alpha: float, beta: float, n: int, towers: int) -> Tensor:
        return _module(device).norm_forward(maps, k=k, alpha=alpha, beta=beta, n=n, towers=towers)

    def backward(
        maps: Tensor, grad: Tensor, k: float, alpha: float, beta: float, n: int, towers: int,
    ) -> Tensor:
        return _module(device).norm_backward(maps, grad, k=k, alpha=alpha, beta=beta, n=n, towers=towers)

    def crop(
        pixels: Tensor, mean: Tensor, scale: Tensor, top_left: Tensor, mirrored: Tensor | None, shift: Tensor | None,
        image: Tensor | None, crop: int, bgr: bool, dtype: torch.dtype, mean_is_central: bool,
    ) -> Tensor:
        return _module(device, "triton_crops").crop_normalize(
            TensorPixels(pixels), mean, scale, top_left, mirrored, shift, crop, bgr=bgr, dtype=dtype, image_V=image,
            mean_is_central=mean_is_central)

    def resized_crop(
        pixels: Tensor, mean: Tensor, scale: Tensor, boxes: Tensor, mirrored: Tensor | None, shift: Tensor | None,
        crop: int, bgr: bool, dtype: torch.dtype,
    ) -> Tensor:
        return _module(device, "triton_crops").resized_crop_normalize(
            TensorPixels(pixels), mean, scale, boxes, mirrored, shift, crop, bgr=bgr, dtype=dtype)

    def update(
        w: Sequence[Tensor], v: Sequence[Tensor], g: Sequence[Tensor], rates: Sequence[Tensor],
        decays: Sequence[float], copies: Sequence[Tensor], momentum: float, lr_in_velocity: bool, nesterov: bool,
    ) -> None:
        _module(device, "triton_update").sgd_update(w, v, g, rates, decays, copies, momentum=momentum,
                                                    lr_in_velocity=lr_in_velocity, nesterov=nesterov)

    def drop(x: Tensor, counter: Tensor, p: float, layer: int, first_unit: int) -> Tensor:
        if device == "CPU":
            draw = Draw.from_counter(p, counter[:3].tolist(), layer)
            return c_kernels.dropout(x, counter[3:].numpy(), draw, first_unit)
        return _module(device).dropout(x, counter, Draw(p, 0, 0, layer), first_unit)

    for name, function in (("norm_forward", forward), ("norm_backward", backward), ("crop_normalize", crop),
                           ("resized_crop_normalize", resized_crop), ("sgd_update", update), ("dropout", drop)):
        _LIBRARY.impl(name, function, device)


_implement("CPU")
_implement("CUDA")


# --- Shapes, for tensors without memory -------------------------------------------------------------------------------


@torch.library.register_fake("alexnet::norm_forward", lib=_LIBRARY)
def _(maps: Tensor, *numbers: object) -> Tensor:
    return torch.empty_like(maps, memory_format=torch.channels_last)


@torch.library.register_fake("alexnet::norm_backward", lib=_LIBRARY)
def _(maps: Tensor, grad: Tensor, *numbers: object) -> Tensor:
    return torch.empty_like(maps, memory_format=torch.channels_last)


@torch.library.register_fake("alexnet::crop_normalize", lib=_LIBRARY)
def _(
    pixels: Tensor, mean: Tensor, scale: Tensor, top_left: Tensor, mirrored: Tensor | None, shift: Tensor | None,
    image: Tensor | None, crop: int, bgr: bool, dtype: torch.dtype, mean_is_central: bool,
) -> Tensor:
    for given in (mean, scale, top_left, mirrored, shift, image):
        torch._check(given is None or given.device == pixels.device, lambda: "tensors on different devices")
    return pixels.new_empty((len(top_left), crop, crop, 3), dtype=dtype).permute(0, 3, 1, 2)


@torch.library.register_fake("alexnet::resized_crop_normalize", lib=_LIBRARY)
def _(
    pixels: Tensor, mean: Tensor, scale: Tensor, boxes: Tensor, mirrored: Tensor | None, shift: Tensor | None,
    crop: int, bgr: bool, dtype: torch.dtype,
) -> Tensor:
    for given in (mean, scale, boxes, mirrored, shift):
        torch._check(given is None or given.device == pixels.device, lambda: "tensors on different devices")
    return pixels.new_empty((len(boxes), crop, crop, 3), dtype=dtype).permute(0, 3, 1, 2)


@torch.library.register_fake("alexnet::sgd_update", lib=_LIBRARY)
def _(
    w: Sequence[Tensor], v: Sequence[Tensor], g: Sequence[Tensor], rates: Sequence[Tensor], decays: Sequence[float],
    copies: Sequence[Tensor], *numbers: object,
) -> None:
    devices = {tensor.device for tensors in (w, v, g, rates, copies) for tensor in tensors}
    torch._check(len(devices) <= 1, lambda: "tensors on different devices")


@torch.library.register_fake("alexnet::dropout", lib=_LIBRARY)
def _(x: Tensor, counter: Tensor, *numbers: object) -> Tensor:
    torch._check(x.device == counter.device, lambda: "tensors on different devices")
    return torch.empty_like(x, memory_format=torch.contiguous_format)


# --- Gradients --------------------------------------------------------------------------------------------------------


def _save_norm(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    maps, *ctx.numbers = inputs
    ctx.save_for_backward(maps)


def _norm_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (maps,) = ctx.saved_tensors
    return norm_backward(maps, grad, *ctx.numbers), *[None] * len(ctx.numbers)


def _save_dropout(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, counter, *ctx.numbers = inputs
    ctx.save_for_backward(counter)


def _dropout_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (counter,) = ctx.saved_tensors
    return dropout(grad, counter, *ctx.numbers), None, *[None] * len(ctx.numbers)


torch.library.register_autograd("alexnet::norm_forward", _norm_gradient, setup_context=_save_norm, lib=_LIBRARY)
torch.library.register_autograd("alexnet::dropout", _dropout_gradient, setup_context=_save_dropout, lib=_LIBRARY)
