"""Phase `fused` of gpu.py: all that follows conv1, conv2 and conv5 in one kernel, against one pass for each layer."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from gpu_bench import Bench
from torch import Tensor, nn

from alexnet._runtime.norm_pool import norm_pool
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.spec import Arch
from alexnet.models.alexnet import AlexNet
from alexnet.models.response_norm import ResponseNorm, norm_numbers


def fused(bench: Bench) -> None:
    """Forward and backward pass from a convolution's output to the pooled maps, in bf16, and the bytes they move."""
    batch, layout = bench.batches[0], bench.network("paper")
    for number in pooled_layers(layout):
        maps, bias, layers = after_convolution(bench, layout, number, batch, bench.precision.input_dtype)
        elements, pooled = maps.numel(), layers(maps).numel()
        for name, passes in (("one pass each", separate), ("one kernel", in_one_kernel)):
            moved = bytes_moved(elements, pooled, maps.element_size(), norm=len(layers) == 3,
                                in_one=passes is in_one_kernel)
            rate = bench.rate(lambda: _step(passes, maps, bias, layers))  # noqa: B023
            bench.row(f"after conv{number}, {name}", batch=batch, microseconds=1e6 / rate,
                      bytes_per_image=moved / batch, bytes_per_second=moved * rate)


def norm_pool_error(bench: Bench, number: int, batch: int, dtype: torch.dtype) -> list[tuple[str, Tensor, Tensor]]:
    """The kernel's results after convolution `number` and the same in float64: pooled maps and both gradients.

    The maps are few whole numbers: then many windows have equal maxima, and no two values are so near each other that
    rounding in float32 decides which is larger. (They differ by 4e-4 of their size, with the paper's constants.)
    """
    maps, bias, layers = after_convolution(bench, bench.network("paper"), number, batch, dtype)
    maps, bias = (torch.randint_like(tensor, -most, most + 1).mul(16).requires_grad_()
                  for tensor, most in ((maps.detach(), 3), (bias.detach(), 1)))
    wide_maps, wide_bias = (tensor.detach().double().requires_grad_() for tensor in (maps, bias))
    exact = F.relu(wide_maps + wide_bias[:, None, None])
    if isinstance(norm := layers[1], ResponseNorm):
        exact = copy.deepcopy(norm).double().banded(exact)
    result, exact = in_one_kernel(maps, bias, layers), layers[-1](exact)
    above = torch.randn_like(exact).to(dtype)
    result.backward(above)
    exact.backward(above.double())
    assert maps.grad is not None and bias.grad is not None  # noqa: PT018
    assert wide_maps.grad is not None and wide_bias.grad is not None  # noqa: PT018
    return [("pooled maps", result, exact), ("gradient", maps.grad, wide_maps.grad),
            ("gradient of the bias", bias.grad, wide_bias.grad)]


def pooled_layers(layout: Arch) -> list[int]:
    """The numbers of the convolutions that pooling follows: 1, 2 and 5."""
    return [number for number in range(1, len(layout.conv) + 1) if "pool" in layout.post_ops(number)]


def after_convolution(
    bench: Bench, layout: Arch, number: int, batch: int, dtype: torch.dtype,
) -> tuple[Tensor, Tensor, nn.Sequential]:
    """A random output of a convolution without its bias, the bias in float32, and the layers that follow."""
    shape = next(layer.output_shape for layer in explain(layout).layers if layer.name == f"conv{number}")
    network = AlexNet(layout).to(bench.device)
    names = network.layer_names()
    names = names[names.index(f"conv{number}") + 1 : names.index(f"pool{number}") + 1]
    maps = torch.randn(batch, *shape, device=bench.device).to(dtype).contiguous(memory_format=torch.channels_last)
    bias = torch.randn(shape[0], device=bench.device)
    return maps.requires_grad_(), bias.requires_grad_(), nn.Sequential(*map(network.named_layer, names))


def separate(maps: Tensor, bias: Tensor, layers: nn.Sequential) -> Tensor:
    """As torch computes a convolution with a bias, and as the layers follow it."""
    pooled: Tensor = layers(maps + bias.to(maps.dtype)[:, None, None])
    return pooled


def in_one_kernel(maps: Tensor, bias: Tensor, layers: nn.Sequential) -> Tensor:
    """The same by `norm_pool`."""
    pool = layers[-1]
    assert isinstance(pool, nn.MaxPool2d)
    assert isinstance(pool.kernel_size, int)
    assert isinstance(pool.stride, int)
    if isinstance(norm := layers[1], ResponseNorm):
        return norm_pool(maps, bias, pool.kernel_size, pool.stride, ceil=pool.ceil_mode, **norm_numbers(norm))
    return norm_pool(maps, bias, pool.kernel_size, pool.stride, ceil=pool.ceil_mode)


def _step(
    passes: Callable[[Tensor, Tensor, nn.Sequential], Tensor], maps: Tensor, bias: Tensor, layers: nn.Sequential,
) -> float:
    pooled = passes(maps, bias, layers)
    pooled.backward(pooled.detach())
    maps.grad = bias.grad = None
    return 1.0


def bytes_moved(elements: int, pooled: int, size: int, *, norm: bool, in_one: bool) -> int:
    """Bytes that the passes read and write if each reads its inputs once; those of the biases are left out.

    Args:
        elements: of the convolution's output.
        pooled: elements of the pooled maps.
        size: bytes of an element.
        norm: whether there is response normalization.
        in_one: whether one kernel computes all.
    """
    if in_one:
        forward = elements * size + pooled * (size + 1)  # reads the maps; writes pooled maps and offsets
        return forward + 2 * elements * size + pooled * (size + 1)  # the same again, and writes the gradient
    index = 8  # bytes of torch's index of a maximum
    point_by_point = 2 + 2 + (2 if norm else 0)  # bias, ReLU, LRN: each reads and writes all
    backward = (3 if norm else 0) + 3 + 1  # LRN and ReLU read the saved maps too; the bias reads what it sums
    pooling = 1 + 2  # reads all; backward, writes zeros, and then the gradient
    return (point_by_point + backward + pooling) * elements * size + 2 * pooled * (size + index)
