"""Sample images for the page: validation images of the run's own data, or generated patterns."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet.data.class_names import printable
from alexnet.data.packed import PackedDataset

COUNT = 6

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Sample:
    """One sample image.

    Attributes:
        name: name in the data set, or of the pattern.
        label: its class; "" where it has none.
        png: the image as a PNG file.
    """

    name: str
    label: str
    png: bytes


def sample_images(packed: PackedDataset | None) -> list[Sample]:
    """Evenly spaced images of the validation split; without one, three generated patterns."""
    if packed is None or "val" not in packed.splits:
        return [Sample(name, "", encode_png(pixels_HWC)) for name, pixels_HWC in generated_patterns().items()]
    split = packed.split("val")
    # The center of each of six parts: the ends of the split belong to the first and the last class.
    indices = sorted({int(index) for index in (np.arange(COUNT) + 0.5) * len(split) / COUNT})
    return [Sample(printable(split.names[index]), packed.classes[split.labels[index]],
                   encode_png(split.read_one(index)))
            for index in indices]


def generated_patterns(side: int = 256) -> dict[str, NDArray[np.uint8]]:
    """Name -> uint8 [side, side, 3]: stripes, colors and edges, to which the filters of conv1 respond."""
    y_HW, x_HW = np.mgrid[0:side, 0:side].astype(np.float32) / side

    def mix(share_HW: NDArray[np.floating], color: Color, background: Color) -> NDArray[np.float32]:
        share_HW1 = share_HW[..., None].astype(np.float32)
        return share_HW1 * np.array(color, np.float32) + (1 - share_HW1) * np.array(background, np.float32)

    radius_HW = np.hypot(x_HW - 0.62, y_HW - 0.42)
    stripes = mix(0.5 + 0.5 * np.sin(2 * np.pi * (6 * x_HW + 11 * y_HW * x_HW)), (36, 52, 71), (230, 214, 180))
    sunset = mix(y_HW.clip(0, 0.7) / 0.7, (245, 168, 92), (66, 84, 140))
    sunset[radius_HW < 0.13] = (252, 226, 150)
    sunset[y_HW > 0.7 + 0.02 * np.sin(20 * x_HW)] = (34, 60, 66)
    checkerboard = mix((np.floor(6 * x_HW) + np.floor(6 * y_HW)) % 2, (184, 69, 47), (42, 106, 156))
    checkerboard[np.hypot(x_HW - 0.5, y_HW - 0.5) < 0.22] = (240, 236, 226)
    patterns = {"generated stripes": stripes, "generated sunset": sunset, "generated checkerboard": checkerboard}
    return {name: pixels_HWC.round().clip(0, 255).astype(np.uint8) for name, pixels_HWC in patterns.items()}


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of gray values [H, W], RGB or RGBA [H, W, 3 or 4]."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", compress_level=3)
    return stream.getvalue()
