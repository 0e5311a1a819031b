"""Layers that torch does not have: convolution with a rounded-up size, normalization within a map (code2012)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from alexnet.models.response_norm import in_full_precision

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class CeilConv2d(nn.Conv2d):
    """A convolution that takes the ceiling of its output size, as code2012 did: 1 + ceil((224 - 11) / 4) = 55.

    The kernel's last step may reach past the image; zeros stand there, on the right and at the bottom.
    """

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        kernel, stride, padding, dilation = (int(each[0]) for each in (
            self.kernel_size, self.stride, self.padding, self.dilation))
        bottom, right = (-(side + 2 * padding - dilation * (kernel - 1) - 1) % stride for side in maps_NCHW.shape[2:])
        return super().forward(F.pad(maps_NCHW, (0, right, 0, bottom)) if bottom or right else maps_NCHW)


class MapNorm(nn.Module):
    """code2012's second normalization after conv2: over a 5x5 window of the same map, scale 0.001, divided by 25.

    b = a / (1 + 0.001 / 25 * sum of a^2 over the window) ^ 0.75; windows at the border sum what they have. The 1 is
    cuda-convnet2's for a norm whose configuration gives no k (its minDiv; scale is divided by the window's 25 there).
    """

    side, scale, beta = 5, 0.001, 0.75

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        with in_full_precision(maps_NCHW) as wide:
            # Zeros count in this average, so it is the window's sum divided by 25 everywhere.
            average = F.avg_pool2d(wide.square(), self.side, stride=1, padding=self.side // 2)
            return (wide * (1 + self.scale * average).pow(-self.beta)).to(maps_NCHW.dtype)

    def extra_repr(self) -> str:
        return f"side={self.side}, scale={self.scale:g}, beta={self.beta:g}"
