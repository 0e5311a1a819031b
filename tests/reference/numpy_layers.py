"""The paper's layers in plain NumPy, forward and backward, written from their formulas.

Everything is float64, without torch. Each layer returns its output and a function from the gradient of the output to
the gradients of its inputs. Sources: §N, a section of the paper; code2012, the configuration and code of 2012; Caffe
and torchvision, their models. Shapes: N images, C maps or channels, H rows, W columns, O filters or units, K classes,
V views.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


Back = Callable[[Array], tuple[Array, ...]]
"""From the gradient of an output to the gradients of the inputs."""


ROUND = {"floor": math.floor, "ceil": math.ceil}


#: §3.3 as printed; code2012, which divides alpha by n; Caffe, which also has k = 1.
LRN_PAPER = {"k": 2.0, "n": 5, "alpha": 1e-4, "beta": 0.75}


LRN_CODE2012 = {**LRN_PAPER, "alpha": 1e-4 / 5}


LRN_CAFFE = {**LRN_CODE2012, "k": 1.0}


def convolution(
    x: Array, w: Array, b: Array, stride: int = 1, padding: int = 0, groups: int = 1, rounding: str = "floor",
) -> tuple[Array, Back]:
    """y[o, r, c] = b[o] + sum of w[o, i, u, v] x[i, stride r + u - padding, stride c + v - padding] (§3.5).

    i runs over the maps of o's group; outside its edges x is 0. The output's side is (side + 2 padding - kernel) /
    stride + 1, rounded.
    """
    (samples, maps, height, width), (kernels, _, kernel, _) = x.shape, w.shape
    rows, columns = (1 + ROUND[rounding]((side + 2 * padding - kernel) / stride) for side in (height, width))
    canvas = np.zeros((samples, maps, height + 2 * padding + stride, width + 2 * padding + stride))
    inside = np.s_[:, :, padding:padding + height, padding:padding + width]
    canvas[inside] = x
    w_GOCUV = w.reshape(groups, kernels // groups, -1, kernel, kernel)

    def window(u: int, v: int) -> tuple[slice, ...]:
        return np.s_[:, :, u:u + stride * rows:stride, v:v + stride * columns:stride]

    def by_group(a: Array) -> Array:
        return a.reshape(samples, groups, -1, rows, columns)

    y = np.zeros((samples, kernels, rows, columns)) + b[:, None, None]
    for u, v in np.ndindex(kernel, kernel):
        tap = np.einsum("ngcrs,goc->ngors", by_group(canvas[window(u, v)]), w_GOCUV[..., u, v])
        y += tap.reshape(y.shape)

    def back(dy: Array) -> tuple[Array, ...]:
        dcanvas, dw = np.zeros_like(canvas), np.zeros_like(w_GOCUV)
        for u, v in np.ndindex(kernel, kernel):
            dtap = np.einsum("ngors,goc->ngcrs", by_group(dy), w_GOCUV[..., u, v])
            dcanvas[window(u, v)] += dtap.reshape(samples, maps, rows, columns)
            dw[..., u, v] = np.einsum("ngors,ngcrs->goc", by_group(dy), by_group(canvas[window(u, v)]))
        return dcanvas[inside], dw.reshape(w.shape), dy.sum((0, 2, 3))

    return y, back


def pooling_windows(
    x: Array, kernel: int, stride: int, rounding: str,
) -> tuple[dict[tuple[int, ...], tuple[slice, ...]], Array]:
    """The window of each output, and an array for the outputs.

    With ceil a window may reach beyond the edge, but starts inside.
    """
    samples, maps, *sides = x.shape
    rows, columns = (min(1 + ROUND[rounding]((side - kernel) / stride), len(range(0, side, stride))) for side in sides)
    windows = {(r, c): np.s_[:, :, r * stride:r * stride + kernel, c * stride:c * stride + kernel]
               for r, c in np.ndindex(rows, columns)}
    return windows, np.empty((samples, maps, rows, columns))


def max_pooling(x: Array, kernel: int, stride: int, rounding: str) -> tuple[Array, Back]:
    """The maximum of each window (§3.4)."""
    windows, y = pooling_windows(x, kernel, stride, rounding)
    for (r, c), window in windows.items():
        y[:, :, r, c] = x[window].max((2, 3))

    def back(dy: Array) -> tuple[Array, ...]:
        dx = np.zeros_like(x)
        for (r, c), window in windows.items():
            flat = x[window].reshape(*x.shape[:2], -1)
            largest = np.arange(flat.shape[-1]) == flat.argmax(-1)[..., None]
            dx[window] += largest.reshape(x[window].shape) * dy[:, :, r, c, None, None]
        return (dx,)

    return y, back


def window_average(x: Array, kernel: int, stride: int, rounding: str) -> tuple[Array, Back]:
    """The mean of each window over the values that it has (cuda-convnet's AvgPooler: a sum over the region's size)."""
    windows, y = pooling_windows(x, kernel, stride, rounding)
    for (r, c), window in windows.items():
        y[:, :, r, c] = x[window].mean((2, 3))

    def back(dy: Array) -> tuple[Array, ...]:
        dx = np.zeros_like(x)
        for (r, c), window in windows.items():
            dx[window] += dy[:, :, r, c, None, None] / x[0, 0][window[2:]].size
        return (dx,)

    return y, back


def average_pooling(x: Array, side: int) -> tuple[Array, Back]:
    """Output i of m is the mean of inputs floor(i n / m) to ceil((i + 1) n / m), along rows and columns alike."""
    down, across = (np.zeros((side, length)) for length in x.shape[2:])
    for share in (down, across):
        for i, row in enumerate(share):
            low, high = math.floor(i * len(row) / side), math.ceil((i + 1) * len(row) / side)
            row[low:high] = 1 / (high - low)
    return down @ x @ across.T, lambda dy: (down.T @ dy @ across,)


def response_norm(x: Array, k: float, n: int, alpha: float, beta: float, towers: int = 1) -> tuple[Array, Back]:
    """b_i = a_i / S_i^beta with S_i = k + alpha * sum of a_j^2 over the n maps j around i, of i's own tower (§3.3)."""
    maps = x.shape[1]
    neighbors = [[j for j in range(maps) if abs(i - j) <= n // 2 and j * towers // maps == i * towers // maps]
                 for i in range(maps)]

    def total(a: Array) -> Array:
        return np.stack([a[:, js].sum(1) for js in neighbors], axis=1)

    sums = k + alpha * total(x**2)

    def back(db: Array) -> tuple[Array, ...]:
        # db_i / da_j = [i = j] S_i^-beta - 2 alpha beta a_j a_i S_i^-(beta + 1); being neighbors is symmetric.
        return (db * sums**-beta - 2 * alpha * beta * x * total(db * x * sums ** -(beta + 1)),)

    return x * sums**-beta, back


def map_norm(x: Array, side: int = 5, alpha: float = 0.001) -> tuple[Array, Back]:
    """b = a / S^0.75 with S = 1 + alpha / side^2 * sum of a^2 over the window around a in its own map.

    The defaults are code2012's; layers-18pct of cuda-convnet has a side of 3 and 5e-5.
    """
    def total(a: Array) -> Array:
        wide = np.pad(a, ((0, 0), (0, 0), (side // 2, side // 2), (side // 2, side // 2)))
        return np.lib.stride_tricks.sliding_window_view(wide, (side, side), (2, 3)).sum((-2, -1))

    share = alpha / side**2
    sums = 1 + share * total(x**2)
    return x * sums**-0.75, lambda db: (db * sums**-0.75 - 1.5 * share * x * total(db * x * sums**-1.75),)


def relu(x: Array) -> tuple[Array, Back]:
    """max(0, x) (§3.1)."""
    return np.maximum(x, 0), lambda dy: (dy * (x > 0),)


def dense(x: Array, w: Array, b: Array) -> tuple[Array, Back]:
    """y = W x + b, of flattened maps."""
    flat = x.reshape(len(x), -1)
    return flat @ w.T + b, lambda dy: ((dy @ w).reshape(x.shape), dy.T @ flat, dy.sum(0))


def dropout(x: Array, mask: Array) -> tuple[Array, Back]:
    """Each unit times its element of the mask (§4.2)."""
    mask = mask.reshape(x.shape)
    return x * mask, lambda dy: (dy * mask,)


def softmax(logits: Array) -> Array:
    """exp(z_k) / sum of exp(z)."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
