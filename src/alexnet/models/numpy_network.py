"""AlexNet in NumPy: the forward pass of any `Arch` in evaluation mode, one function for each kind of layer.

The shortest way to read how the network computes. `alexnet predict` runs it on a few images (inference/quick_start.py),
because importing torch takes longer than the network does. `models/alexnet.py` is the same network in torch, which is
trained; the tests compare the two.

Shapes: N images; C maps (channels) that a layer reads, O that it writes; H rows, W columns of its input, P rows, Q
columns of its output; U rows, V columns of a kernel; D inputs of a fully connected layer; K classes; T towers. The
features of an image are maps [C, H, W]; a network's weights are named as in the state dict of models/alexnet.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from alexnet.architecture.arithmetic import explain, output_size, pooled_size
from alexnet.architecture.spec import LRN, Activation, Arch, Conv, MapLRN, Rounding, layer_kind_and_number

Array: TypeAlias = NDArray[np.float32]

_BATCH_NORM_EPSILON = np.float32(1e-5)
"""Added to the variance (torch's default, with which the networks are trained)."""


class NumpyNetwork:
    """The network that `arch` describes, with trained weights: pixels NCHW to logits NK (§3.5, Figure 2)."""

    def __init__(self, arch: Arch, weights: Mapping[str, Array], temperature: float = 1.0) -> None:
        """Keep the weights; nothing is copied.

        Args:
            arch: the network's numbers.
            weights: the state dict, float32.
            temperature: divides the logits, as in `models.alexnet.AlexNet`.

        Raises:
            KeyError: a tensor is missing.
            ValueError: a tensor has another shape.
        """
        self.arch, self.temperature = arch, np.float32(temperature)
        self._weights = {name: {key: weights[f"{prefix}.{key}"] for key in _TENSORS[layer_kind_and_number(name)[0]]}
                         for name, prefix in state_prefixes(arch).items()}
        _check_shapes(arch, self._weights)

    def __call__(self, pixels_NCHW: Array) -> Array:
        """The logits of views that `data.numpy_preprocessing.center_views` makes."""
        maps_NCHW = pixels_NCHW
        for number, conv in enumerate(self.arch.conv, 1):
            maps_NCHW = convolve(maps_NCHW, **self._weights[f"conv{number}"], conv=conv,
                                 groups=self.arch.groups(number), rounding=self.arch.conv_rounding)
            for operation in self.arch.post_ops(number):
                maps_NCHW = self._post_operation(operation, number, maps_NCHW)
        if self.arch.average_pool:
            maps_NCHW = adaptive_average_pool(maps_NCHW, self.arch.average_pool)
        units_ND = maps_NCHW.reshape(len(maps_NCHW), -1)
        for number in range(len(self.arch.conv) + 1, len(self.arch.conv) + len(self.arch.dense) + 1):
            units_ND = fully_connected(units_ND, **self._weights[f"fc{number}"])
            if self.arch.dense_norm:
                units_ND = batch_norm(units_ND, **self._weights[f"norm{number}"])
            units_ND = activate(units_ND, self.arch.activation)  # dropout does nothing in evaluation mode
        output = f"fc{len(self.arch.conv) + len(self.arch.dense) + 1}"
        return fully_connected(units_ND, **self._weights[output]) / self.temperature

    def _post_operation(self, operation: str, number: int, maps_NCHW: Array) -> Array:
        """One of `spec.POST_OPS` after convolution `number`."""
        arch = self.arch
        if operation == "act":
            return activate(maps_NCHW, arch.activation)
        if operation == "pool":
            return max_pool(maps_NCHW, arch.pool_kernel, arch.pool_stride, arch.pool_rounding)
        if operation == "avgpool":
            return average_pool(maps_NCHW, arch.pool_kernel, arch.pool_stride, arch.pool_rounding)
        if operation == "mapnorm":
            return map_norm(maps_NCHW, arch.map_lrn)
        if arch.norm == "batch":
            return batch_norm(maps_NCHW, **self._weights[f"norm{number}"])
        return response_norm(maps_NCHW, arch.lrn, arch.towers)


# --- Layers -----------------------------------------------------------------------------------------------------------


def convolve(
    maps_NCHW: Array, weight: Array, bias: Array, conv: Conv, groups: int = 1, rounding: Rounding = "floor",
) -> Array:
    """A convolution (§3.5) as one matrix product: the filters, one a row, times the patches, one a column.

    Args:
        weight: the filters, [O, C / groups, U, V].
        bias: [O].
        conv: stride, padding and dilation.
        groups: each group of O / groups filters reads its own C / groups maps, as on two GPUs (§3.2).
        rounding: ceil (code2012): zeros at the right and bottom complete the last step.
    """
    count, sides, kernel, stride = len(maps_NCHW), maps_NCHW.shape[2:], conv.effective_kernel, conv.stride
    rows, columns = (output_size(side, kernel, stride, conv.padding, rounding) for side in sides)
    margins = [(conv.padding, max(conv.padding, (steps - 1) * stride + kernel - side - conv.padding))
               for side, steps in zip(sides, (rows, columns), strict=True)]
    padded_NCHW = np.pad(maps_NCHW, ((0, 0), (0, 0), *margins))
    windows_NCPQUV = sliding_window_view(padded_NCHW, (kernel, kernel), axis=(2, 3))[
        :, :, :stride * rows:stride, :stride * columns:stride, ::conv.dilation, ::conv.dilation]
    patches = windows_NCPQUV.transpose(0, 1, 4, 5, 2, 3).reshape(count, groups, -1, rows * columns)
    filters = weight.reshape(groups, len(weight) // groups, -1)
    return (filters @ patches).reshape(count, len(weight), rows, columns) + bias[:, None, None]


def fully_connected(units_ND: Array, weight: Array, bias: Array) -> Array:
    """Each unit is a weighted sum of all inputs, plus its bias. weight: [units, D]."""
    return units_ND @ weight.T + bias


def activate(values: Array, function: Activation) -> Array:
    """ReLU, max(0, x) (§3.1), or one of the two that the paper compares it with."""
    if function == "relu":
        return np.maximum(values, 0)
    if function == "tanh":
        return np.tanh(values)
    half = np.float32(0.5)
    return half + half * np.tanh(half * values)  # the sigmoid 1 / (1 + exp(-x)), whose exponential could overflow


def max_pool(maps_NCHW: Array, kernel: int, stride: int, rounding: Rounding) -> Array:
    """The largest value of each window (§3.4). With `ceil`, the last window may reach beyond the edge."""
    return _pool(maps_NCHW, kernel, stride, rounding, np.maximum, -np.inf)


def average_pool(maps_NCHW: Array, kernel: int, stride: int, rounding: Rounding) -> Array:
    """The mean of each window, over the values that it has within the edge."""
    sums, sizes = (_pool(each, kernel, stride, rounding, np.add, 0) for each in (
        maps_NCHW, np.ones((1, 1, *maps_NCHW.shape[2:]), np.float32)))
    return sums / sizes


def _pool(
    maps_NCHW: Array, kernel: int, stride: int, rounding: Rounding, combine: np.ufunc, beyond: float,
) -> Array:
    """Combine the values of each window; those beyond the edge are `beyond`."""
    sides = maps_NCHW.shape[2:]
    steps = [pooled_size(side, kernel, stride, rounding) for side in sides]
    margins = [(0, max(0, (count - 1) * stride + kernel - side)) for side, count in zip(sides, steps, strict=True)]
    return _windows(np.pad(maps_NCHW, ((0, 0), (0, 0), *margins), constant_values=beyond), kernel, stride, combine,
                    *steps)


def _windows(
    maps_NCHW: Array, kernel: int, stride: int, combine: np.ufunc, rows: int, columns: int,
) -> Array:
    """Combine the values of each window: first those of a column, then the columns, which takes 2 kernel values."""
    tall = combine.reduce([maps_NCHW[:, :, first:][:, :, :stride * rows:stride] for first in range(kernel)])
    return combine.reduce([tall[..., first:][..., :stride * columns:stride] for first in range(kernel)])


def adaptive_average_pool(maps_NCHW: Array, side: int) -> Array:
    """Means of side x side windows that cover a map. Window i has the rows floor(i H / side) to ceil((i + 1) H / side).

    torchvision's network has this layer between the convolutions and fc6.
    """
    for axis in (2, 3):
        length = maps_NCHW.shape[axis]
        windows = [range(i * length // side, -(-(i + 1) * length // side)) for i in range(side)]
        maps_NCHW = np.stack([maps_NCHW.take(window, axis).mean(axis) for window in windows], axis)
    return maps_NCHW


def response_norm(maps_NCHW: Array, lrn: LRN, towers: int = 1) -> Array:
    """Local response normalization (§3.3): b = a / (k + alpha * sum of a^2 over n neighboring maps) ^ beta.

    towers: with `lrn.within_tower`, a sum stays within one of them.
    """
    count, channels, rows, columns = maps_NCHW.shape
    towers = towers if lrn.within_tower else 1
    squares_NTCHW = np.square(maps_NCHW).reshape(count, towers, channels // towers, rows, columns)
    around = np.pad(squares_NTCHW, ((0, 0), (0, 0), (lrn.n // 2, lrn.n // 2), (0, 0), (0, 0)))
    sums_NTCHW = np.add.reduce([around[:, :, first:first + channels // towers] for first in range(lrn.n)])
    alpha = lrn.alpha / lrn.n if lrn.divide_by_n else lrn.alpha
    return maps_NCHW * (lrn.k + alpha * sums_NTCHW.reshape(maps_NCHW.shape)) ** -lrn.beta


def map_norm(maps_NCHW: Array, lrn: MapLRN) -> Array:
    """Response normalization within a map (cuda-convnet's rnorm): as above, with the mean of a^2 over a window."""
    edge = (lrn.side // 2, lrn.side // 2)
    squares = np.pad(np.square(maps_NCHW), ((0, 0), (0, 0), edge, edge))
    means = _windows(squares, lrn.side, 1, np.add, *maps_NCHW.shape[2:]) / np.float32(lrn.side**2)
    return maps_NCHW * (1 + lrn.alpha * means) ** -lrn.beta


def batch_norm(values: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array) -> Array:
    """Batch normalization with the training set's mean and variance of each map or unit (arXiv 1502.03167).

    values: [N, C, H, W] or [N, D].
    """
    slope = weight / np.sqrt(running_var + _BATCH_NORM_EPSILON)
    offset = bias - running_mean * slope
    return values * slope.reshape(-1, *[1] * (values.ndim - 2)) + offset.reshape(-1, *[1] * (values.ndim - 2))


def softmax(logits_NK: Array) -> Array:
    """Probabilities: positive, with a sum of 1 (§3.5)."""
    exponentials_NK = np.exp(logits_NK - logits_NK.max(1, keepdims=True))
    return exponentials_NK / exponentials_NK.sum(1, keepdims=True)


# --- Weights ----------------------------------------------------------------------------------------------------------

_TENSORS = {"conv": ("weight", "bias"), "fc": ("weight", "bias"),
            "norm": ("weight", "bias", "running_mean", "running_var")}
"""Layer, without its number -> its tensors in the state dict."""


def state_prefixes(arch: Arch) -> dict[str, str]:
    """Layers with weights -> the beginning of their keys: conv1 -> features.conv1, or torchvision's features.0."""
    layers = [layer for layer in explain(arch).layers if layer.name != "average_pool"]
    convolutional = sum(1 + len(arch.post_ops(number)) for number in range(1, len(arch.conv) + 1))
    prefixes = {}
    for part, members in ("features", layers[:convolutional]), ("classifier", layers[convolutional:]):
        for place, layer in enumerate(members):
            if layer.parameters:
                prefixes[layer.name] = f"{part}.{place if arch.state_keys == 'torchvision' else layer.name}"
    return prefixes


def _check_shapes(arch: Arch, weights: Mapping[str, Mapping[str, Array]]) -> None:
    """Raise ValueError for a tensor that does not fit its layer."""
    for layer in explain(arch).layers:
        if not layer.parameters:
            continue
        maps, before = layer.output_shape[0], layer.input_shape
        shape = {"conv": (maps, before[0] // layer.groups, layer.kernel, layer.kernel), "fc": (maps, math.prod(before)),
                 "norm": (maps,)}[layer.name.rstrip("0123456789")]
        for key, tensor in weights[layer.name].items():
            expected = shape if key == "weight" else (maps,)
            if tensor.shape != expected or tensor.dtype != np.float32:
                raise ValueError(f"{layer.name}.{key} is {tensor.dtype} {tensor.shape}, and {arch.name} has {expected}")
