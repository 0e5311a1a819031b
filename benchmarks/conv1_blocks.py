"""conv1 by space-to-depth: blocks of 4 x 4 pixels become 48 channels, and 11 x 11 at stride 4 3 x 3 at stride 1.

The rearrangement is exact: the kernel is padded with a row and a column of zeros to 12 x 12, three blocks a side. A row
of gpu.py's phase `layers` says whether it is faster than the direct convolution on a GPU. On a CPU it is not
(docs/performance.md).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BlockConv2d(nn.Module):
    """A convolution of few channels with a stride, on the blocks of its square input; `layer` has the weights."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        assert layer.groups == 1
        assert layer.dilation == (1, 1)
        self.layer = layer

    def forward(self, pixels_NCHW: Tensor) -> Tensor:
        stride, padding, kernel = (int(pair[0]) for pair in (
            self.layer.stride, self.layer.padding, self.layer.kernel_size))
        weight, side = F.pad(self.layer.weight, (0, -kernel % stride) * 2), pixels_NCHW.shape[-1]
        outputs = (side + 2 * padding - kernel) // stride + 1
        far = (outputs - 1) * stride + weight.shape[-1] - side - padding  # may cut pixels that no output needs
        return F.conv2d(blocks(F.pad(pixels_NCHW, (padding, far) * 2), stride),
                        blocks(weight, stride).contiguous(memory_format=torch.channels_last), self.layer.bias)


def blocks(maps_NCHW: Tensor, side: int) -> Tensor:
    """Each block of side x side as one pixel with side^2 times the channels; channels-last."""
    count, channels, rows, columns = maps_NCHW.shape
    split = maps_NCHW.permute(0, 2, 3, 1).reshape(count, rows // side, side, columns // side, side, channels)
    joined = split.permute(0, 1, 3, 2, 4, 5).reshape(count, rows // side, columns // side, side * side * channels)
    return joined.permute(0, 3, 1, 2)
