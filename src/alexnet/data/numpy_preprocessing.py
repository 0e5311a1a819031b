"""Preprocessing in NumPy: stored images -> center crops, a network's input (§4.1), as preprocessing.py does in torch.

Shapes: N images, H rows, W columns, C channels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alexnet.architecture.spec import InputSpec


def central_window(side: int, crop: int) -> slice:
    """The rows, and the columns, of the center crop of a square image."""
    first = (side - crop) // 2
    return slice(first, first + crop)


def center_views(
    pixels_NHWC: NDArray[np.uint8], spec: InputSpec, mean_HWC: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The center crops, minus the mean, divided by the scale: float32 [N, C, crop, crop] from uint8 [N, side, side, C].

    Args:
        pixels_NHWC: the stored images, RGB.
        spec: the network's input.
        mean_HWC: [side, side, 3] or [1, 1, 3], on 0..255, RGB.
    """
    window = central_window(spec.side, spec.crop)
    mean_HWC = mean_HWC if len(mean_HWC) == 1 else mean_HWC[window, window]
    views_NHWC = (pixels_NHWC[:, window, window].astype(np.float32) - mean_HWC) / np.array(spec.scale, np.float32)
    if spec.channels == "BGR":
        views_NHWC = views_NHWC[..., ::-1]
    return np.ascontiguousarray(views_NHWC.transpose(0, 3, 1, 2))
