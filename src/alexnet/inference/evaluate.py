"""Loss and top-k errors as sums and counts: every image exactly once, one view or ten, one network or several.

Shapes: N images, K classes, V views.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet._runtime.pixels import AnyPixels
from alexnet.data.imagenet_classes import readable
from alexnet.data.loader import batches
from alexnet.data.packed import PackedSplit
from alexnet.data.preprocessing import Preprocess
from alexnet.errors import did_you_mean
from alexnet.inference.metrics import Errors, count_errors

ModelWithInput = tuple[nn.Module, Preprocess]
"""A network and its preprocessing; several make an ensemble."""


def probabilities(members: Sequence[ModelWithInput], pixels: AnyPixels, views: int = 1) -> Tensor:
    """Softmax outputs averaged over the views and then over the networks (§4.1, §6), float32 [N, K].

    pixels: uint8 [N, side, side, 3], at the side that the networks' preprocessing expects; on their device.
    views: 1 (the center) or 10 (four corners and the center, and their mirror images).
    """
    total: Tensor | None = None
    for network, preprocess in members:
        if views == 10:
            inputs = preprocess.ten_views(pixels)
            logits = network(inputs.flatten(0, 1)).float().unflatten(0, inputs.shape[:2])
            outputs_NK = logits.softmax(-1).mean(1)
        elif views == 1:
            outputs_NK = network(preprocess(pixels)).float().softmax(-1)
        else:
            raise ValueError(f"views {views} must be 1 or 10")
        total = outputs_NK if total is None else total + outputs_NK
    if total is None:
        raise ValueError("there is no network to evaluate; give at least one")
    return total / len(members)


def predictions(
    members: Sequence[ModelWithInput], split: PackedSplit, *, views: int = 1, batch_size: int = 128,
    device: torch.device | None = None, on_progress: Callable[[int, int], object] | None = None,
    share: tuple[int, int] = (0, 1),
) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
    """Probabilities [N, K] and places in the split, batch by batch, every image once, in order.

    share: (rank, world), of whose batches these are; progress is told of all images.
    """
    device = device or torch.device("cpu")
    modes = [network.training for network, _ in members]
    done = 0
    try:
        for network, _ in members:
            network.eval()
        for batch in batches(split, max(1, batch_size // views), device=device, rank=share[0], world=share[1]):
            if len(batch.indices):  # a share of a few images may be none
                with torch.inference_mode():
                    outputs_NK = probabilities(members, batch.pixels, views)
                yield outputs_NK, batch.indices
            done += len(batch.global_indices)
            if on_progress:
                on_progress(done, len(split))
    finally:
        for (network, _), mode in zip(members, modes, strict=True):
            network.train(mode)


def evaluate(
    members: Sequence[ModelWithInput], split: PackedSplit, *, views: int = 1, batch_size: int = 128, label_map: Tensor | None = None,
    device: torch.device | None = None, on_progress: Callable[[int, int], object] | None = None,
    share: tuple[int, int] = (0, 1),
) -> Errors:
    """The errors over a whole split, or a (rank, world)'s share of it.

    label_map: from the data's classes to the network's, where they differ.
    """
    errors = Errors()
    for outputs_NK, indices in predictions(
            members, split, views=views, batch_size=batch_size, device=device, on_progress=on_progress, share=share):
        labels_N = torch.from_numpy(split.labels[indices])
        errors += count_errors(outputs_NK.cpu(), labels_N if label_map is None else label_map[labels_N])
    return errors


def match_classes(known: Sequence[str], asked: Sequence[str]) -> Tensor:
    """For each class of the data, its number in the network: int64 [len(asked)]. By name, so order does not matter.

    One of ImageNet's classes may go by its name on one side and by WordNet's number on the other; capitals do not
    matter, unless they alone tell two of the network's classes apart.
    Raises ValueError for a class that the network does not know.
    """
    number = {readable(name): place for place, name in enumerate(known)}
    alike = Counter(name.casefold() for name in number)
    folded = {name.casefold(): place for name, place in number.items() if alike[name.casefold()] == 1}
    found = [number.get(readable(name), folded.get(readable(name).casefold())) for name in asked]
    strangers = [name for name, place in zip(asked, found, strict=True) if place is None]
    if strangers:
        raise ValueError(
            f"the network was not trained on {len(strangers)} of the data's {len(asked)} classes, such as "
            f"{strangers[0]!r} ({did_you_mean(strangers[0], known[:20])}); evaluate on data with the classes it knows")
    return torch.tensor(found)
