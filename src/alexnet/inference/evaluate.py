"""Evaluation: errors over a split, with one view or averaged over ten views, of one network or an ensemble.

Every image counts exactly once, on any number of ranks. Shapes: N images, K classes, V views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet._runtime.pixels import AnyPixels
from alexnet.data.loader import batches
from alexnet.data.packed import PackedSplit
from alexnet.data.preprocessing import Preprocess
from alexnet.errors import require
from alexnet.inference.metrics import Errors, count_errors

ModelWithInput = tuple[nn.Module, Preprocess]
"""A network and its preprocessing. Several of them are an ensemble."""


def probabilities(models: Sequence[ModelWithInput], pixels: AnyPixels, views: int = 1) -> Tensor:
    """Softmax outputs averaged over the views, and then over the networks (§4.1, §6): float32 [N, K].

    Args:
        models: one network, or an ensemble.
        pixels: uint8 [N, side, side, 3], of the side that the preprocessing expects, on the networks' device.
        views: 1 (the center crop) or 10 (four corners and the center, and their mirror images).

    Raises:
        UserError: `views` is another number, or there is no network.
    """
    require(views in (1, 10), f"views {views} must be 1 or 10")
    require(len(models) > 0, "there is no network to evaluate", "give at least one")
    outputs = []
    for network, preprocess in models:
        if views == 10:
            inputs = preprocess.ten_views(pixels)
            logits_NVK = network(inputs.flatten(0, 1)).float().unflatten(0, inputs.shape[:2])
            outputs.append(logits_NVK.softmax(-1).mean(1))
        else:
            outputs.append(network(preprocess(pixels)).float().softmax(-1))
    total_NK: Tensor = sum(outputs[1:], outputs[0])
    return total_NK / len(models)


def predictions(
    models: Sequence[ModelWithInput], split: PackedSplit, *, views: int = 1, batch_size: int = 128,
    device: torch.device | None = None, on_progress: Callable[[int, int], object] | None = None,
    share: tuple[int, int] = (0, 1),
) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
    """Yield the probabilities [N, K] and the indices [N] of each batch of a split, in order, every image once.

    The networks are put into evaluation mode, and at the end into the mode that they were in.

    Args:
        models: one network, or an ensemble.
        split: the images.
        views: 1 or 10, as for `probabilities`.
        batch_size: views in a forward pass.
        device: of the networks; default: the CPU.
        on_progress: called with the number of images done, on all ranks, and of all images.
        share: rank and world size: yield this rank's part of each batch.
    """
    device = device or torch.device("cpu")
    modes = [network.training for network, _ in models]
    done = 0
    try:
        for network, _ in models:
            network.eval()
        for batch in batches(split, max(1, batch_size // views), device=device, rank=share[0], world=share[1]):
            if len(batch.indices):  # a rank's part of a small batch may be empty
                with torch.inference_mode():
                    outputs_NK = probabilities(models, batch.pixels, views)
                yield outputs_NK, batch.indices
            done += len(batch.global_indices)
            if on_progress:
                on_progress(done, len(split))
    finally:
        for (network, _), mode in zip(models, modes, strict=True):
            network.train(mode)


def evaluate(
    models: Sequence[ModelWithInput], split: PackedSplit, *, views: int = 1, batch_size: int = 128,
    label_map: Tensor | None = None, device: torch.device | None = None,
    on_progress: Callable[[int, int], object] | None = None, share: tuple[int, int] = (0, 1),
    on_outputs: Callable[[NDArray[np.float32], NDArray[np.int64]], object] | None = None,
) -> Errors:
    """Count the errors over a split, or over a rank's share of it.

    Args:
        models, split, views, batch_size, device, on_progress, share: as for `predictions`.
        label_map: from the data's classes to the network's, as `classes.map_labels` gives it; default: the same.
        on_outputs: called with the probabilities [n, K] and the indices [n] of each batch.
    """
    errors = Errors()
    for outputs_NK, indices in predictions(
            models, split, views=views, batch_size=batch_size, device=device, on_progress=on_progress, share=share):
        labels_N, outputs_NK = torch.from_numpy(split.labels[indices]), outputs_NK.cpu()
        errors += count_errors(outputs_NK, labels_N if label_map is None else label_map[labels_N])
        if on_outputs:
            on_outputs(outputs_NK.numpy(), indices)
    return errors
