"""Loss and top-k errors as sums and counts: every photograph exactly once, one view or ten, one network or several.

Shapes: N photographs, K classes, V views.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet.augment import Pixels, Preprocess
from alexnet.config import nearest
from alexnet.imagenet import readable
from alexnet.shards import Split
from alexnet.stream import batches

Member = tuple[nn.Module, Preprocess]
"""A network and its preprocessing; several make an ensemble."""


@dataclass(frozen=True)
class Errors:
    """What was counted. Sums, so that shares of several ranks add up; `+` adds them."""

    photographs: int = 0
    loss_sum: float = 0.0
    top1_wrong: int = 0
    top5_wrong: int = 0

    def __add__(self, other: Errors) -> Errors:
        return replace(self, photographs=self.photographs + other.photographs, loss_sum=self.loss_sum + other.loss_sum,
                       top1_wrong=self.top1_wrong + other.top1_wrong, top5_wrong=self.top5_wrong + other.top5_wrong)

    @property
    def loss(self) -> float:
        """Mean negative log-probability of the true class, in nats."""
        return self.loss_sum / self.photographs if self.photographs else math.nan

    @property
    def top1_error(self) -> float:
        """The fraction whose likeliest class is wrong."""
        return self.top1_wrong / self.photographs if self.photographs else math.nan

    @property
    def top5_error(self) -> float:
        """The fraction whose true class is not among the five likeliest (§2)."""
        return self.top5_wrong / self.photographs if self.photographs else math.nan

    def to_json(self) -> dict[str, Any]:
        """`photographs`, `loss`, `top1_error`, `top5_error` (fractions) and the 95% `interval` of each error."""
        return {
            "photographs": self.photographs, "loss": self.loss,
            "top1_error": self.top1_error, "top5_error": self.top5_error,
            "interval": {"top1_error": wilson(self.top1_wrong, self.photographs),
                         "top5_error": wilson(self.top5_wrong, self.photographs)},
        }

    def describe(self, *, views: int, networks: int = 1, classes: int | None = None) -> str:
        """Three lines for a person; of five classes and less two, as five guesses name them all."""
        def plural(number: int, thing: str) -> str:
            return f"{number:,} {thing}{'s' * (number != 1)}"

        lines = [f"{plural(self.photographs, 'photograph')}, {plural(views, 'view')}, {plural(networks, 'network')}, "
                 f"loss {self.loss:.4f}"]
        counted = [("top-1 error", self.top1_wrong), ("top-5 error", self.top5_wrong)]
        for name, wrong in counted[: 1 if classes and classes <= 5 else 2]:
            low, high = wilson(wrong, self.photographs)
            lines.append(f"{name} {wrong / max(self.photographs, 1):7.2%}   (95% interval {low:.2%} to {high:.2%})")
        return "\n".join(lines)


def wilson(wrong: int, photographs: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval for a fraction, 95% unless z says otherwise; (0, 1) where nothing was counted.

    It covers the chance of which photographs were drawn, not that of the training seed.
    """
    if not photographs:
        return 0.0, 1.0
    p, n = wrong / photographs, photographs
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def count_errors(probabilities_NK: Tensor, labels_N: Tensor) -> Errors:
    """Errors of one batch. A tie counts against the network, and so does NaN: a collapsed network is never right."""
    own = probabilities_NK.gather(1, labels_N[:, None])
    # How many other classes are not strictly less likely than the true one; itself is taken off again.
    ahead_N = (~(own > probabilities_NK)).sum(1) - 1
    return Errors(
        photographs=len(labels_N), loss_sum=-own.double().clamp(min=1e-45).log().sum().item(),
        top1_wrong=int((ahead_N >= 1).sum()), top5_wrong=int((ahead_N >= 5).sum()))


def probabilities(members: Sequence[Member], pixels: Pixels, views: int = 1) -> Tensor:
    """Softmax outputs averaged over the views and then over the networks (§4.1, §6), float32 [N, K].

    pixels: uint8 [N, side, side, 3], at the side that the networks' preprocessing expects; on their device.
    views: 1 (the centre) or 10 (four corners and the centre, and their mirror images).
    """
    total: Tensor | None = None
    for network, preprocess in members:
        if views == 10:
            inputs = preprocess.ten_views(pixels)
            logits = network(inputs.flatten(0, 1)).float().unflatten(0, inputs.shape[:2])
            outputs_NK = logits.softmax(-1).mean(1)
        elif views == 1:
            outputs_NK = network(preprocess.centre(pixels)).float().softmax(-1)
        else:
            raise ValueError(f"views {views} must be 1 or 10")
        total = outputs_NK if total is None else total + outputs_NK
    if total is None:
        raise ValueError("there is no network to evaluate; give at least one")
    return total / len(members)


def predictions(
    members: Sequence[Member], split: Split, *, views: int = 1, batch_size: int = 128,
    device: torch.device | None = None, on_progress: Callable[[int, int], object] | None = None,
    share: tuple[int, int] = (0, 1),
) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
    """Probabilities [N, K] and places in the split, batch by batch, every photograph once, in order.

    share: (rank, world), of whose batches these are; progress is told of all photographs.
    """
    device = device or torch.device("cpu")
    modes = [network.training for network, _ in members]
    done = 0
    try:
        for network, _ in members:
            network.eval()
        for batch in batches(split, max(1, batch_size // views), device=device, rank=share[0], world=share[1]):
            if len(batch.indices):  # a share of a few photographs may be none
                with torch.inference_mode():
                    outputs_NK = probabilities(members, batch.pixels, views)
                yield outputs_NK, batch.indices
            done += len(batch.everyone)
            if on_progress:
                on_progress(done, len(split))
    finally:
        for (network, _), mode in zip(members, modes, strict=True):
            network.train(mode)


def evaluate(
    members: Sequence[Member], split: Split, *, views: int = 1, batch_size: int = 128, label_map: Tensor | None = None,
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
            f"{strangers[0]!r} ({nearest(strangers[0], known[:20])}); evaluate on data with the classes it knows")
    return torch.tensor(found)
