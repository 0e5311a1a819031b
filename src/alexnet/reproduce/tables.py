"""The tables of §6 beside ours, for whatever networks and images are given.

Each of the paper's numbers stands once, with its place; ours are measured, never kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from alexnet.data.loader import batches
from alexnet.data.packed import PackedSplit
from alexnet.inference.evaluate import ModelWithInput, probabilities
from alexnet.inference.metrics import Errors, count_errors

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Reported:
    """A line of Table 1 or 2, or of the text. Errors in percent; None where the paper prints a dash."""

    system: str
    views: int | None
    """None where the system has none, or the paper does not say."""
    images: str
    top1_error: float | None
    top5_error: float | None
    where: str


REPORTED = (
    Reported("sparse coding", None, "ILSVRC-2010 test", 47.1, 28.2, "Table 1"),
    Reported("SIFT + FVs", None, "ILSVRC-2010 test", 45.7, 25.7, "Table 1"),
    Reported("1 CNN", 1, "ILSVRC-2010 test", 39.0, 18.3, "§6, footnote"),
    Reported("1 CNN", 10, "ILSVRC-2010 test", 37.5, 17.0, "Table 1"),
    Reported("1 CNN", 10, "ILSVRC-2012 val", 40.7, 18.2, "Table 2"),
    Reported("5 CNNs", 10, "ILSVRC-2012 val", 38.1, 16.4, "Table 2"),
    Reported("5 CNNs", 10, "ILSVRC-2012 test", None, 16.4, "Table 2"),
    Reported("1 CNN*", 10, "ILSVRC-2012 val", 39.0, 16.6, "Table 2"),
    Reported("7 CNNs*", 10, "ILSVRC-2012 val", 36.7, 15.4, "Table 2"),
    Reported("7 CNNs*", 10, "ILSVRC-2012 test", None, 15.3, "Table 2"),
    Reported("SIFT + FVs", None, "ILSVRC-2012 test", None, 26.2, "Table 2"),
    Reported("1 CNN, sixth conv", None, "ImageNet, Fall 2009", 67.4, 40.9, "§6"),
)

VIEWS = (1, 10)


@dataclass(frozen=True)
class Ours:
    """What was measured of one network, or of several averaged."""

    system: str
    networks: int
    views: int
    errors: Errors


def tables(
    members: Sequence[tuple[str, ModelWithInput]], split: PackedSplit, *, label_map: Tensor, batch_size: int = 128,
    device: torch.device | None = None, on_progress: Callable[[int, int], object] | None = None,
) -> list[Ours]:
    """Each network at one view and at ten, and all of them averaged (§6): every image once for each.

    members: the networks with their names; they are left in evaluation mode. label_map: from the data's classes to the
    networks'.
    """
    device = device or torch.device("cpu")
    names = [name for name, _ in members] + ([f"{len(members)} CNNs averaged"] if len(members) > 1 else [])
    measured = {(place, views): Errors() for place in range(len(names)) for views in VIEWS}
    for _, (network, _) in members:
        network.eval()
    done = 0
    for batch in batches(split, max(1, batch_size // max(VIEWS))):
        pixels_NHWC = batch.pixels_NHWC.to(device)
        labels_N = label_map[batch.labels_N]
        for views in VIEWS:
            with torch.inference_mode():
                outputs = [probabilities([member], pixels_NHWC, views).cpu() for _, member in members]
            if len(outputs) > 1:
                outputs.append(torch.stack(outputs).mean(0))
            for place, outputs_NK in enumerate(outputs):
                measured[place, views] += count_errors(outputs_NK, labels_N)
        done += len(batch.indices)
        if on_progress:
            on_progress(done, len(split))
    return [Ours(name, len(members) if place == len(members) else 1, views, measured[place, views])
            for place, name in enumerate(names) for views in VIEWS]


def to_json(measured: Sequence[Ours]) -> dict[str, Any]:
    """`paper` (errors as fractions) and `ours`, each a list of lines."""
    def fraction(percent: float | None) -> float | None:
        return None if percent is None else round(percent / 100, 4)

    return {
        "paper": [{"system": row.system, "views": row.views, "images": row.images, "where": row.where,
                   "top1_error": fraction(row.top1_error), "top5_error": fraction(row.top5_error)} for row in REPORTED],
        "ours": [{"system": row.system, "networks": row.networks, "views": row.views} | row.errors.to_json()
                 for row in measured]}
