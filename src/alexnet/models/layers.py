"""Layers that torch lacks: a convolution that rounds its size up, and the 2012 code's normalization within one map."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from alexnet.models.response_norm import in_full_precision

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class CeilConv2d(nn.Conv2d):
    """A convolution whose output size is rounded up, as code2012's: 1 + ceil((224 - 11) / 4) = 55.

    The last position of the kernel may reach beyond the image; zeros are added on the right and at the bottom.
    """

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        kernel, stride, padding, dilation = (int(pair[0]) for pair in (
            self.kernel_size, self.stride, self.padding, self.dilation))
        bottom, right = (-(side + 2 * padding - dilation * (kernel - 1) - 1) % stride for side in maps_NCHW.shape[2:])
        return super().forward(F.pad(maps_NCHW, (0, right, 0, bottom)) if bottom or right else maps_NCHW)


class MapNorm(nn.Module):
    """Normalization within a map, which code2012 has after conv2: 5x5 windows, scale 0.001, divided by 25.

    b = a / (1 + 0.001 / 25 * sum of a^2 over the window) ^ 0.75; a window at the border sums the values that it has.
    The 1 is cuda-convnet2's value for a norm whose configuration gives no k (its minDiv), and cuda-convnet2 divides
    scale by the window's 25 values.
    """

    side, scale, beta = 5, 0.001, 0.75

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        with in_full_precision(maps_NCHW) as wide:
            # The average counts the padding's zeros, so it is the window's sum divided by 25 everywhere.
            average = F.avg_pool2d(wide.square(), self.side, stride=1, padding=self.side // 2)
            return (wide * (1 + self.scale * average).pow(-self.beta)).to(maps_NCHW.dtype)

    def extra_repr(self) -> str:
        return f"side={self.side}, scale={self.scale:g}, beta={self.beta:g}"
