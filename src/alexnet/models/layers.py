"""Layers that torch lacks: a convolution that rounds up (why 224 gives 55), and normalization within one map."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from alexnet.architecture.spec import MapLRN
from alexnet.models.response_norm import in_full_precision

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class CeilConv2d(nn.Conv2d):
    """A convolution whose output size is rounded up, as code2012's: 1 + ceil((224 - 11) / 4) = 55.

    The last position of the kernel may reach beyond the image; zeros are added on the right and at the bottom.
    """

    def _conv_forward(self, maps_NCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        kernel, stride, padding, dilation = (int(pair[0]) for pair in (
            self.kernel_size, self.stride, self.padding, self.dilation))
        bottom, right = (-(side + 2 * padding - dilation * (kernel - 1) - 1) % stride for side in maps_NCHW.shape[2:])
        padded = F.pad(maps_NCHW, (0, right, 0, bottom)) if bottom or right else maps_NCHW
        return super()._conv_forward(padded, weight, bias)


class MapNorm(nn.Module):
    """Response normalization within a map: b = a / (1 + alpha / side^2 * sum of a^2 over the window) ^ beta.

    cuda-convnet's layer `rnorm`, which code2012 has after conv2. A window at the border sums the values that it has,
    and still divides by side^2 (layer.py). The 1 is cuda-convnet's for a norm whose configuration gives no minDiv.
    """

    def __init__(self, lrn: MapLRN) -> None:
        super().__init__()
        self.lrn = lrn

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        side = self.lrn.side
        with in_full_precision(maps_NCHW) as wide:
            # The average counts the padding's zeros, so it is the window's sum divided by side^2 everywhere.
            average = F.avg_pool2d(wide.square(), side, stride=1, padding=side // 2)
            return (wide * (1 + self.lrn.alpha * average).pow(-self.lrn.beta)).to(maps_NCHW.dtype)

    def extra_repr(self) -> str:
        return f"side={self.lrn.side}, alpha={self.lrn.alpha:g}, beta={self.lrn.beta:g}"
