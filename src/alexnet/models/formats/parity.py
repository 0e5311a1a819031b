"""Parity check of an exported network: its logits against the original network's, at several batch sizes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet.errors import require
from alexnet.models.checkpoint import Checkpoint

Runner = Callable[[Tensor], NDArray[np.float32]]
"""An exported network: inputs to logits [N, K]."""

BATCH_SIZES = (1, 2, 7)

TOLERANCE = 1e-4
"""The largest difference of a logit that is allowed, as a fraction of the largest logit."""

_FAULT = "it was deleted; this is a fault of alexnet or of the other runtime"


def check_parity(network: nn.Module, run: Runner, saved: Checkpoint, *, from_pixels: bool = False) -> float:
    """Compare an exported network with the original, on random images, for each of `BATCH_SIZES`.

    Args:
        network: the original.
        run: the exported network.
        saved: the checkpoint of both.
        from_pixels: both take stored uint8 images; default: views.

    Returns:
        The largest difference between logits, as a fraction of the largest logit.

    Raises:
        UserError: a difference exceeds `TOLERANCE`, an image gets another class, or the network's logits are not
        finite.
    """
    largest_difference = 0.0
    for count in BATCH_SIZES:
        inputs = example_input(saved, count, from_pixels)
        with torch.inference_mode():
            expected_NK = network(inputs).numpy()
        require(bool(np.isfinite(expected_NK).all()), "the network's own logits are not finite: its training had "
                "diverged, or its numbers are too large", "export an earlier checkpoint")
        logits_NK = run(inputs)
        require(logits_NK.shape == expected_NK.shape, f"the exported file gives {count} images logits of shape "
                f"{logits_NK.shape}, and the network {expected_NK.shape}", _FAULT)
        largest = max(np.abs(expected_NK).max(), np.finfo(np.float32).tiny)
        difference = float(np.abs(logits_NK - expected_NK).max() / largest)
        # The top-1 class must be the network's, or one whose logit there is as large within the tolerance.
        top_N = np.take_along_axis(expected_NK, logits_NK.argmax(1)[:, None], 1)[:, 0]
        same_class = bool((top_N >= expected_NK.max(1) - TOLERANCE * largest).all())
        require(difference <= TOLERANCE and same_class, f"the exported file differs from the network by "
                f"{difference:.1e} of the largest logit, and {TOLERANCE:g} is allowed", _FAULT)
        largest_difference = max(largest_difference, difference)
    return largest_difference


def example_input(saved: Checkpoint, count: int, from_pixels: bool) -> Tensor:
    """Random images [count, side, side, 3], uint8, the same ones at each call; or their views NCHW."""
    side = saved.arch.input.side
    pixels_NHWC = torch.randint(
        0, 256, (count, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))
    return pixels_NHWC if from_pixels else saved.preprocess()(pixels_NHWC).contiguous()


@contextmanager
def exporter_silenced() -> Iterator[None]:
    """Silence the exporters' notices about optional packages and about their own deprecated functions."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
