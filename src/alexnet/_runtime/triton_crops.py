"""Crops of a batch of images (§4.1) in Triton, for CUDA: windows, and boxes that are rescaled, each in one pass.

Shapes: N images, V views, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from alexnet._runtime.pixels import TensorPixels

BLOCK = 1024
"""Elements of one program."""


@triton.jit
def _views(pixels, mean, scale, top_left, mirrored, shift, image, out, side, mean_side, CROP: tl.constexpr,
           BGR: tl.constexpr, CENTRAL: tl.constexpr, BLOCK: tl.constexpr):
    """One program computes BLOCK elements of one view, in memory order: channels of a pixel side by side."""
    view = tl.program_id(0).to(tl.int64)
    number = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = number < CROP * CROP * 3
    channel, column, row = number % 3, number // 3 % CROP, number // (3 * CROP)
    channel = 2 - channel if BGR else channel
    top, left = tl.load(top_left + 2 * view), tl.load(top_left + 2 * view + 1)
    column = tl.where(tl.load(mirrored + view) != 0, CROP - 1 - column, column)
    place = (top + row) * side + left + column
    value = tl.load(pixels + tl.load(image + view) * side * side * 3 + place * 3 + channel, mask=inside, other=0)
    place = number // 3 if CENTRAL else tl.where(mean_side == 1, 0, place)
    value = value.to(tl.float32) - tl.load(mean + place * 3 + channel, mask=inside, other=0.0)
    _finish(value, scale, shift, out, view, number, channel, inside, CROP)


@triton.jit
def _boxes(pixels, mean, scale, boxes, mirrored, shift, out, side, CROP: tl.constexpr, BGR: tl.constexpr,
           BLOCK: tl.constexpr):
    """One program computes BLOCK elements of one image's box: first between two rows, then between two columns."""
    view = tl.program_id(0).to(tl.int64)
    number = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = number < CROP * CROP * 3
    channel, column, row = number % 3, number // 3 % CROP, number // (3 * CROP)
    channel = 2 - channel if BGR else channel
    column = tl.where(tl.load(mirrored + view) != 0, CROP - 1 - column, column)
    box, image = boxes + 4 * view, pixels + view * side * side * 3
    above, below, down = _between(tl.load(box), tl.load(box + 2), row, side, CROP)
    near, far, across = _between(tl.load(box + 1), tl.load(box + 3), column, side, CROP)
    near_value = _mix(image, (above * side + near) * 3 + channel, (below * side + near) * 3 + channel, down, inside)
    far_value = _mix(image, (above * side + far) * 3 + channel, (below * side + far) * 3 + channel, down, inside)
    value = near_value + across * (far_value - near_value) - tl.load(mean + channel, mask=inside, other=0.0)
    _finish(value, scale, shift, out, view, number, channel, inside, CROP)


@triton.jit
def _between(begin, size, number, side, CROP: tl.constexpr):
    """Where an axis of the image has output pixel `number`: the pixels on both sides, and the distance from the first.

    As in the C kernel: an output pixel is `size / CROP` pixels wide, and positions end at the centers of the outermost.
    """
    at = begin + (number.to(tl.float32) + 0.5) * (size / CROP) - 0.5
    at = tl.minimum(tl.maximum(at, 0.0), (side - 1) * 1.0)
    before = at.to(tl.int32)
    return before, tl.minimum(before + 1, side - 1), at - before.to(tl.float32)


@triton.jit
def _mix(image, first, second, share, inside):
    value = tl.load(image + first, mask=inside, other=0).to(tl.float32)
    return value + share * (tl.load(image + second, mask=inside, other=0).to(tl.float32) - value)


@triton.jit
def _finish(value, scale, shift, out, view, number, channel, inside, CROP: tl.constexpr):
    """Add the view's color noise to values minus their mean, divide by the scale, and store them."""
    value += tl.load(shift + 3 * view + channel, mask=inside, other=0.0)
    value /= tl.load(scale + channel, mask=inside, other=1.0)
    tl.store(out + view * CROP * CROP * 3 + number, value.to(out.dtype.element_ty), mask=inside)


def crop_normalize(
    pixels: TensorPixels, mean_HWC: Tensor, scale_C: Tensor, top_left_V2: Tensor, mirrored_V: Tensor | None,
    shift_VC: Tensor | None, crop: int, *, bgr: bool, dtype: torch.dtype, image_V: Tensor | None = None,
    mean_is_central: bool = False,
) -> Tensor:
    """`kernels.crop_normalize` on CUDA."""
    count = len(top_left_V2)
    image = torch.arange(count, device=pixels.device) if image_V is None else image_V
    mirrored, shift, out = _view_arguments(count, mirrored_V, shift_VC, crop, dtype, pixels.device)
    if count:
        with torch.cuda.device_of(out):  # Triton launches on the current device
            _views[(count, triton.cdiv(crop * crop * 3, BLOCK))](
                pixels.tensor().contiguous(), mean_HWC.float().contiguous(), scale_C.float(),
                top_left_V2.long().contiguous(), mirrored, shift, image.long(), out, pixels.side, mean_HWC.shape[0],
                CROP=crop, BGR=bgr, CENTRAL=mean_is_central, BLOCK=BLOCK)
    return out.permute(0, 3, 1, 2)


def resized_crop_normalize(
    pixels: TensorPixels, mean_C: Tensor, scale_C: Tensor, boxes_N4: Tensor, mirrored_N: Tensor | None,
    shift_NC: Tensor | None, crop: int, *, bgr: bool, dtype: torch.dtype,
) -> Tensor:
    """`kernels.resized_crop_normalize` on CUDA."""
    count = len(boxes_N4)
    mirrored, shift, out = _view_arguments(count, mirrored_N, shift_NC, crop, dtype, pixels.device)
    if count:
        with torch.cuda.device_of(out):
            _boxes[(count, triton.cdiv(crop * crop * 3, BLOCK))](
                pixels.tensor().contiguous(), mean_C.float().contiguous(), scale_C.float(),
                boxes_N4.float().contiguous(), mirrored, shift, out, pixels.side, CROP=crop, BGR=bgr, BLOCK=BLOCK)
    return out.permute(0, 3, 1, 2)


def _view_arguments(
    count: int, mirrored_V: Tensor | None, shift_VC: Tensor | None, crop: int, dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:
    """Which views are mirrored, their color noise, and the memory of the output, [V, crop, crop, 3]."""
    mirrored = torch.zeros(count, device=device) if mirrored_V is None else mirrored_V
    shift = torch.zeros(count, 3, device=device) if shift_VC is None else shift_VC
    out = torch.empty((count, crop, crop, 3), dtype=dtype, device=device)
    return mirrored.to(torch.uint8), shift.float().contiguous(), out
