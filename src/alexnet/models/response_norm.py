"""Local response normalization (LRN, §3.3) and its conventions: alpha or alpha / n, within a tower or across towers.

    b_i = a_i / s_i^beta,  s_i = k + alpha * (sum of a_j^2 over the n neighbors j of i)

    da_i = db_i / s_i^beta - 2 alpha beta a_i * (sum of db_j a_j / s_j^(beta + 1) over the n neighbors j of i)

Two conventions differ between implementations, and `architecture.spec.LRN` has a field for each: whether alpha is
divided by n (torch, Caffe and code2012 do; the printed formula does not), and whether neighbors in the other tower
count.

Both sums run over the same band of maps, so both passes use the same kernel and only `a` is saved. The kernels are in C
for a CPU and in Triton for CUDA (_runtime/kernels.py); torch.compile sees them as an operator. On other devices, and in
exported graphs, the sum over the band is a 1x1 convolution with a matrix of ones and zeros.
Shapes: N images, C maps, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet._runtime import kernels
from alexnet.architecture.spec import LRN


class ResponseNorm(nn.Module):
    """LRN across maps (§3.3): b = a / (k + alpha * sum of a^2 over n neighbors) ^ beta.

    Sums are computed in fp32 for fp32, bf16 and fp16 maps, in fp64 for fp64.
    """

    neighbors: Tensor

    def __init__(self, lrn: LRN, maps: int, towers: int) -> None:
        super().__init__()
        self.lrn = lrn
        self.towers = towers if lrn.within_tower else 1
        self.alpha = lrn.alpha / lrn.n if lrn.divide_by_n else lrn.alpha
        index = torch.arange(maps)
        neighbors_CC = (index[:, None] - index[None, :]).abs() <= lrn.n // 2
        tower = index // (maps // self.towers)
        neighbors_CC &= tower[:, None] == tower[None, :]
        self.register_buffer("neighbors", neighbors_CC.float()[:, :, None, None], persistent=False)
        self._devices = tuple(kind for kind in ("cpu", "cuda") if kernels.available(kind))
        """Kinds of device with kernels: a compiler cannot ask for them."""

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        if torch.jit.is_tracing() or torch.compiler.is_exporting() or maps_NCHW.device.type == "meta":
            return self.banded(maps_NCHW)
        if torch.compiler.is_compiling():
            has_kernel = maps_NCHW.device.type in self._devices and kernels.accepts_norm(
                maps_NCHW, self.towers, self.lrn.n)
            if not has_kernel:
                return self.banded(maps_NCHW)
            return kernels.differentiable_norm(maps_NCHW, **norm_numbers(self))
        return _Normalize.apply(maps_NCHW, self)

    def banded(self, maps_NCHW: Tensor) -> Tensor:
        """The definition, in operators that every exporter supports."""
        with in_full_precision(maps_NCHW) as wide:
            return (wide * self.sums(wide).pow(-self.lrn.beta)).to(maps_NCHW.dtype)

    def sums(self, wide_NCHW: Tensor) -> Tensor:
        """s = k + alpha * (sum of squares over the neighbors)."""
        return self.lrn.k + self.alpha * F.conv2d(wide_NCHW.square(), self.neighbors.to(wide_NCHW.dtype))

    def extra_repr(self) -> str:
        lrn = self.lrn
        alpha = f"{lrn.alpha:g}/{lrn.n}" if lrn.divide_by_n else f"{lrn.alpha:g}"
        return f"k={lrn.k:g}, n={lrn.n}, alpha={alpha}, beta={lrn.beta:g}, within_tower={lrn.within_tower}"


class _Normalize(torch.autograd.Function):
    """Forward and backward pass by the formulas at the top of this file; only the maps are saved."""

    @staticmethod
    def forward(ctx: Any, maps_NCHW: Tensor, norm: ResponseNorm) -> Tensor:
        ctx.save_for_backward(maps_NCHW)
        ctx.norm = norm
        if _has_kernel(maps_NCHW, norm):
            return kernels.norm_forward(maps_NCHW, **norm_numbers(norm))
        with in_full_precision(maps_NCHW) as wide:
            return wide.mul(_power(norm.sums(wide), norm.lrn.beta)).to(maps_NCHW.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, above_NCHW: Tensor) -> tuple[Tensor, None]:
        (maps_NCHW,), norm = ctx.saved_tensors, ctx.norm
        if _has_kernel(maps_NCHW, norm):
            return kernels.norm_backward(maps_NCHW, above_NCHW, **norm_numbers(norm)), None
        with in_full_precision(maps_NCHW) as wide, in_full_precision(above_NCHW) as above:
            sums = norm.sums(wide)
            direct = above.to(wide.dtype) * _power(sums, norm.lrn.beta)
            through = F.conv2d(direct.mul(wide).div_(sums), norm.neighbors.to(wide.dtype))
            return direct.sub_(through.mul_(wide), alpha=2 * norm.alpha * norm.lrn.beta).to(maps_NCHW.dtype), None


def _has_kernel(maps_NCHW: Tensor, norm: ResponseNorm) -> bool:
    return kernels.supports_norm(maps_NCHW, norm.towers, norm.lrn.n)


class NormNumbers(TypedDict):
    """The constants of a normalization, as the kernels take them."""

    k: float
    alpha: float
    beta: float
    n: int
    towers: int


def norm_numbers(norm: ResponseNorm) -> NormNumbers:
    """The constants of this layer."""
    lrn = norm.lrn
    return {"k": lrn.k, "alpha": norm.alpha, "beta": lrn.beta, "n": lrn.n, "towers": norm.towers}


def _power(sums: Tensor, beta: float) -> Tensor:
    """s^-beta; for the paper's 3/4 by two square roots, which are several times as fast as a power."""
    if beta == 0.75:
        root = sums.rsqrt()
        return root.sqrt().mul_(root)
    return sums.pow(-beta)


@contextmanager
def in_full_precision(maps_NCHW: Tensor) -> Iterator[Tensor]:
    """The maps in fp32 or fp64, with autocast off: squares of activations in the hundreds overflow fp16."""
    device = maps_NCHW.device.type
    with torch.autocast(device, enabled=False) if device != "meta" else nullcontext():
        yield maps_NCHW.float() if maps_NCHW.dtype in (torch.bfloat16, torch.float16) else maps_NCHW
