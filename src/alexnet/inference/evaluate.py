"""Evaluation: errors over a split, with one view or averaged over ten views, of one network or an ensemble.

Every image counts exactly once, on any number of ranks. Shapes: N images, K classes, V views.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet._runtime.devices import to_device
from alexnet._runtime.pixels import AnyPixels
from alexnet._runtime.readback import Readback
from alexnet.data.loader import batches
from alexnet.data.order import batch_bounds
from alexnet.data.packed import PackedSplit
from alexnet.data.preprocessing import Preprocess
from alexnet.errors import require
from alexnet.inference.metrics import Errors, GroupTally, classes_ahead, error_counts
from alexnet.models.alexnet import AlexNet
from alexnet.models.quantized import FastNetwork
from alexnet.models.wrappers import evaluation_mode, unwrapped

ModelWithInput = tuple[nn.Module, Preprocess]
"""A network and its preprocessing. Several of them are an ensemble."""

BATCH_SIZE, CUDA_BATCH_SIZE = 128, 512
"""Views in a forward pass, and the most in validation on CUDA, where small batches leave most of the device idle."""

QUEUED_BATCHES = 4
"""Evaluated batches on CUDA whose counts have not been read yet: enough work, and a bound on the memory of batches."""


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
            logits_NVK = network(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
            outputs.append(softmax_of_views(network, logits_NVK).mean(1))
        else:
            outputs.append(network(preprocess(pixels)).float().softmax(-1))
    total_NK: Tensor = sum(outputs[1:], outputs[0])
    return total_NK / len(models)


def softmax_of_views(network: nn.Module, logits: Tensor) -> Tensor:
    """Softmax outputs of views whose mean is taken afterwards (§4.1), at the temperature for this mean: float32.

    The mean of softmax outputs is less extreme than they are, so the temperature that calibrates it is another one than
    that of a single view, by which the network has divided its logits already.

    Args:
        network: one with two temperatures, also inside wrappers such as that of `torch.compile`; any other has none of
            its own for ten views.
        logits: of the network for some of the ten views, [..., K].
    """
    logits, inner = logits.float(), unwrapped(network)
    if isinstance(inner, AlexNet | FastNetwork) and inner.ten_view_temperature is not None:
        logits = logits * (inner.temperature / inner.ten_view_temperature)
    return logits.softmax(-1)


def predictions(
    models: Sequence[ModelWithInput], split: PackedSplit, *, views: int = 1, batch_size: int = BATCH_SIZE,
    device: torch.device | None = None, on_progress: Callable[[int, int], object] | None = None,
    share: tuple[int, int] = (0, 1), collective: bool = False,
) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
    """Yield the probabilities [N, K] and the indices [N] of each batch of a split, in order, every image once.

    Several ranks evaluate whole batches, those that one process would evaluate, so the probabilities are the same for
    any world size. A rank has a contiguous range of them, which may be empty. Meanwhile the networks are in evaluation
    mode.

    Args:
        models: one network, or an ensemble.
        split: the images.
        views: 1 or 10, as for `probabilities`.
        batch_size: views in a forward pass.
        device: of the networks; default: the CPU.
        on_progress: called with the number of images done, on all ranks, and of all images; equally often on each rank.
        share: rank and world size.
        collective: whether the forward pass exchanges data between ranks, so that a rank without a batch must take part
            in it, with no images.
    """
    device, size = device or torch.device("cpu"), max(1, batch_size // views)
    bounds, firsts = batch_bounds(len(split), size), rank_batches(len(split), size, share[1])
    with (evaluation_mode([network for network, _ in models]),
          closing(batches(split, size, device=device, start=firsts[share[0]], stop=firsts[share[0] + 1])) as source):
        for count in range(1, max(np.diff(firsts)) + 1):
            if batch := next(source, None):
                with torch.inference_mode():
                    outputs_NK = probabilities(models, batch.pixels, views)
                yield outputs_NK, batch.indices
            elif collective:
                no_images = torch.empty((0, split.side, split.side, 3), dtype=torch.uint8, device=device)
                with torch.inference_mode():
                    probabilities(models, no_images, views)
            if on_progress:
                ends = bounds[np.minimum(firsts[:-1] + count, firsts[1:])]
                on_progress(int((ends - bounds[firsts[:-1]]).sum()), len(split))


def rank_batches(images: int, batch_size: int, world: int) -> NDArray[np.int64]:
    """Which batches each rank evaluates: rank r those from [r] to [r + 1] - 1. int64 [world + 1]."""
    return np.arange(world + 1) * (len(batch_bounds(images, batch_size)) - 1) // world


def sum_errors(errors: Sequence[Errors]) -> Errors:
    """The errors of all batches."""
    return sum(errors, Errors())


def _unchanged(counts: Tensor) -> Tensor:
    return counts


def evaluate(
    models: Sequence[ModelWithInput], split: PackedSplit, *, views: int = 1, batch_size: int = BATCH_SIZE,
    label_map: Tensor | None = None, device: torch.device | None = None,
    on_progress: Callable[[int, int], object] | None = None, share: tuple[int, int] = (0, 1), collective: bool = False,
    total: Callable[[Sequence[Errors]], Errors] = sum_errors, over_ranks: Callable[[Tensor], Tensor] = _unchanged,
    on_outputs: Callable[[NDArray[np.float32], NDArray[np.int64]], object] | None = None,
) -> Errors:
    """Count the errors over a split, or over a rank's share of it; of images in groups, with their design effect.

    On CUDA the errors are counted on the device and read some batches later, so it never waits for the next batch.

    Args:
        models, split, views, batch_size, device, on_progress, share, collective: as for `predictions`.
        label_map: from the data's classes to the network's, as `classes.map_labels` gives it; default: the same.
        total: the sum over all batches, in order; those that other ranks evaluate have no images here. With
            `ProcessGroup.sum_errors`, the result is that of one process to the last bit.
        over_ranks: sums an int64 tensor over the ranks; called after `total`, for images in groups only.
        on_outputs: called with the probabilities [n, K] and the indices [n] of each batch.
    """
    own: list[Errors] = []
    queued: deque[_Counted] = deque()
    tally = None if split.groups is None else GroupTally(split.groups)

    def read_all_but(keep: int) -> None:
        while len(queued) > keep:
            counted = queued.popleft()
            own.append(Errors.from_counts(len(counted.indices), counted.counts.read()))
            if tally and counted.ahead:
                tally.add(counted.indices, counted.ahead.tensor())
            if on_outputs and counted.outputs:
                on_outputs(counted.outputs.tensor().numpy(), counted.indices)

    for outputs_NK, indices in predictions(models, split, views=views, batch_size=batch_size, device=device,
                                           on_progress=on_progress, share=share, collective=collective):
        if not outputs_NK.is_cuda:  # mps has no float64
            outputs_NK = outputs_NK.cpu()
        labels_N = torch.from_numpy(split.labels[indices])
        labels_N = to_device(labels_N if label_map is None else label_map[labels_N], outputs_NK.device)
        queued.append(_Counted(indices, Readback(error_counts(outputs_NK, labels_N)),
                               Readback(outputs_NK) if on_outputs else None,
                               Readback(classes_ahead(outputs_NK, labels_N)) if tally else None))
        read_all_but(QUEUED_BATCHES if outputs_NK.is_cuda else 0)
    read_all_but(0)
    firsts = rank_batches(len(split), max(1, batch_size // views), share[1])
    before, after = firsts[share[0]], firsts[-1] - firsts[share[0] + 1]
    errors = total([*[Errors()] * before, *own, *[Errors()] * after])
    if tally is None:
        return errors
    tally.counts_G3 = over_ranks(torch.from_numpy(tally.counts_G3)).cpu().numpy()
    return replace(errors, sample=tally.sample)


class _Counted(NamedTuple):
    """An evaluated batch whose counts may still be on their way from the device."""

    indices: NDArray[np.int64]
    counts: Readback
    """Of `error_counts`."""
    outputs: Readback | None
    """The probabilities, if somebody asks for them."""
    ahead: Readback | None
    """`classes_ahead` of each image, if the images are in groups."""
