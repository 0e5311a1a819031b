"""Comparisons between torch and the NumPy references, and the statistics of random numbers.

The relative error is the largest difference over the largest value of the reference.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from hypothesis import settings
from numpy_layers import Array, Back
from torch import Tensor

many_shapes = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def numbers(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Array:
    """Normal random numbers that float32 holds exactly, so that both precisions get the same input."""
    return rng.normal(0, scale, shape).astype(np.float32).astype(np.float64)


def assert_agrees(ours: Tensor | Array, reference: Array, within: float, what: object = "") -> None:
    """Assert a relative error below `within`. what: for the message."""
    values = ours.detach().double().numpy() if isinstance(ours, Tensor) else ours
    np.testing.assert_allclose(
        values, reference, rtol=0, atol=within * np.abs(reference).max(), equal_nan=False, err_msg=str(what))


def assert_layer_agrees(
    ours: Callable[..., Tensor], reference: tuple[Array, Back], *inputs: Array, rng: np.random.Generator,
) -> None:
    """Compare forward and backward: relative error below 1e-12 in float64, 1e-5 in float32.

    In float32 the gradient of the output is positive everywhere: the gradient of a bias is its sum, and a sum of large
    terms that cancel would keep their rounding errors. Gradients of both signs are compared in float64.
    """
    output, back = reference
    signed = numbers(rng, *output.shape)
    for dtype, within, cotangent in ((torch.float64, 1e-12, signed), (torch.float32, 1e-5, np.abs(signed))):
        tensors = [torch.tensor(a, dtype=dtype, requires_grad=True) for a in inputs]
        result = ours(*tensors)
        result.backward(torch.tensor(cotangent, dtype=dtype))
        assert_agrees(result, output, within, f"forward, {dtype}")
        for number, (tensor, gradient) in enumerate(zip(tensors, back(cotangent), strict=True)):
            assert_agrees(tensor.grad, gradient, within, f"gradient {number}, {dtype}")


def ks_distance(sample: Array, distribution: Callable[[Array], Array]) -> float:
    """Kolmogorov-Smirnov distance between a sample and a cumulative distribution function.

    For a sample of n from the distribution it exceeds 2.4 / sqrt(n) with probability 2 exp(-2 * 2.4^2) = 2e-5.
    """
    expected, n = distribution(np.sort(sample)), len(sample)
    return max((np.arange(1, n + 1) / n - expected).max(), (expected - np.arange(n) / n).max())


def normal(z: Array) -> Array:
    """Probability of a standard normal number below z."""
    return 0.5 + 0.5 * torch.erf(torch.from_numpy(z / math.sqrt(2))).numpy()
