"""Metadata of ONNX files on their input: sizes, resize rule, mean, std, channel order, version.

Every value is a text, because the metadata of an ONNX file holds nothing else. Numbers are JSON.
"""

from __future__ import annotations

import base64
import json

from alexnet._runtime.software import own_version
from alexnet.data.numpy_preprocessing import central_window
from alexnet.models.checkpoint import Checkpoint

STEPS = "crop, mean, std, channel order"
"""What `Preprocess` does, in this order: a file that takes pixels does it itself."""


def input_metadata(saved: Checkpoint, *, from_pixels: bool) -> dict[str, str]:
    """The facts that a program needs to make the input from an image file.

    `mean` and `std` are on 0..255, in the channel order of the input. A mean color is three numbers. A mean image is
    its part under the center crop: {"shape": [crop, crop, 3], "float32": base64 of little-endian numbers}.

    Args:
        saved: the checkpoint.
        from_pixels: the file takes stored uint8 images; default: views.
    """
    spec = saved.arch.input
    channels = "RGB" if from_pixels else spec.channels
    return {
        "version": own_version(), "input": describe_input(saved, from_pixels), "side": str(spec.side),
        "crop": str(spec.crop), "channels": channels, "resize": resize_rule(spec.side), "mean": _mean(saved, channels),
        "std": json.dumps(spec.scale if channels == "RGB" else spec.scale[::-1]),
        "steps_inside": STEPS if from_pixels else ""}


def resize_rule(side: int) -> str:
    """How an image becomes the stored square (`data.square.square`), in words."""
    return (f"rotate as EXIF says; resize the shorter side to {side} pixels and the longer side in proportion, rounded "
            f"down, bilinear with antialiasing (Pillow's Image.BILINEAR); take the central {side}x{side} pixels, whose "
            "corner is rounded half to even")


def describe_input(saved: Checkpoint, from_pixels: bool = False) -> str:
    """The network's input in words: channel order, side, mean and scale, both in the channel order of the input."""
    spec = saved.arch.input
    if from_pixels:
        return f"RGB, {spec.side}x{spec.side}, uint8 [N, side, side, 3]; the network crops and normalizes it itself"
    order = 1 if spec.channels == "RGB" else -1  # InputSpec has RGB
    image = "the center crop of the mean image" if spec.mean_crop == "center" else "the mean image"
    mean = (str(spec.mean[::order]) if isinstance(spec.mean, tuple) else
            {"pixel": image, "channel": "the mean color"}[spec.mean])
    scale = "" if spec.scale == (1.0, 1.0, 1.0) else f", divided by {spec.scale[::order]}"
    return f"{spec.channels}, {spec.crop}x{spec.crop}, 0..255, minus {mean}{scale}"


def _mean(saved: Checkpoint, channels: str) -> str:
    mean_HWC = saved.mean_HWC.cpu().numpy()[..., ::1 if channels == "RGB" else -1]
    if len(mean_HWC) == 1:
        return json.dumps([float(str(number)) for number in mean_HWC.flatten()])
    window = central_window(len(mean_HWC), saved.arch.input.crop)
    central_HWC = mean_HWC[window, window].astype("<f4")
    return json.dumps({"shape": list(central_HWC.shape), "float32": base64.b64encode(central_HWC.tobytes()).decode()})
