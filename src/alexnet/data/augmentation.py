"""Random views for training: uniform numbers from (seed, epoch, image), crop boxes, PCA color noise (§4.1)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniform(seed: int, epoch: int, indices: NDArray[np.int64], draws: int) -> NDArray[np.float64]:
    """Numbers in 0 < u < 1, [N, draws], each a hash of (seed, epoch, index, draw) alone (splitmix64's finaliser)."""
    with np.errstate(over="ignore"):
        key = _mix(_mix(np.array([seed], np.uint64)) + np.uint64(epoch + 1) * _GOLDEN)
        rows = _mix(key + indices.astype(np.uint64) * _GOLDEN)
        bits = _mix(rows[:, None] + np.arange(1, draws + 1, dtype=np.uint64) * _GOLDEN)
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def boxes(draws_N4: Tensor, side: int, area: tuple[float, float]) -> Tensor:
    """torchvision's random-resized crop: [N, 4] (top, left, rows, columns) of a random area, ratio (3/4 to 4/3), place.

    draws_N4: numbers in 0 < u < 1. area: as a share of the stored image's.
    """
    log_ratio = (draws_N4[:, 1] * 2 - 1) * float(np.log(4 / 3))
    share = (area[0] + draws_N4[:, 0] * (area[1] - area[0])).sqrt()
    high, wide = (share * (-log_ratio / 2).exp()).clamp(max=1), (share * (log_ratio / 2).exp()).clamp(max=1)
    return torch.stack([(1 - high) * draws_N4[:, 2], (1 - wide) * draws_N4[:, 3], high, wide], 1) * side


def lighting_basis(covariance_CC: NDArray[np.float64], scale: str) -> Tensor:
    """Columns p_i * l_i of §4.1's color noise, float [3, 3], from the RGB covariance of pixels on 0..255.

    scale `deviations`: l_i are the principal standard deviations, as cuda-convnet2's (19.7, 37.1, 121.8) are.
    scale `eigenvalues`: the printed text, with pixels in 0..1, which moves an image by half as much.
    """
    eigenvalues, vectors = np.linalg.eigh(covariance_CC)
    eigenvalues = eigenvalues.clip(min=0)
    lengths = np.sqrt(eigenvalues) if scale == "deviations" else eigenvalues / 255
    return torch.from_numpy(vectors * lengths).float()
