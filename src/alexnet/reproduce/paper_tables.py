"""Tables 1 and 2 of the paper (§6) as data, and the same errors measured for any networks and images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from alexnet.data.loader import batches
from alexnet.data.packed import PackedSplit
from alexnet.inference.evaluate import ModelWithInput, probabilities
from alexnet.inference.metrics import Errors, GroupTally, classes_ahead, count_errors


@dataclass(frozen=True)
class Reported:
    """A row of Table 1 or 2, or a number in the text. Errors are in percent; None where the paper prints a dash."""

    system: str
    views: int | None
    """None: the system has none, or the paper does not say."""
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
class Measured:
    """Errors of one network, or of several averaged."""

    system: str
    networks: int
    views: int
    errors: Errors


def measure_table(
    networks: Sequence[tuple[str, ModelWithInput]], split: PackedSplit, *, label_map: Tensor, batch_size: int = 128,
    device: torch.device | None = None, on_progress: Callable[[int, int], object] | None = None,
) -> list[Measured]:
    """Measure each network with one view and with ten, and all of them averaged (§6), on every image of a split.

    Args:
        networks: names and networks; they are left in evaluation mode.
        split: the images.
        label_map: class of the data -> class of the networks, int64 [K].
        batch_size: views in a forward pass.
        device: where the networks are; default: CPU.
        on_progress: called with (images done, images in all).

    Returns:
        Two rows, one view and ten, for each network; then, for several networks, two for their average.
    """
    device = device or torch.device("cpu")
    names = [name for name, _ in networks] + ([f"{len(networks)} CNNs averaged"] if len(networks) > 1 else [])
    errors = {(row, views): Errors() for row in range(len(names)) for views in VIEWS}
    tallies = {} if split.groups is None else {key: GroupTally(split.groups) for key in errors}
    for _, (network, _) in networks:
        network.eval()
    done = 0
    for batch in batches(split, max(1, batch_size // max(VIEWS))):
        pixels_NHWC = batch.pixels_NHWC.to(device)
        labels_N = label_map[batch.labels_N]
        for views in VIEWS:
            with torch.inference_mode():
                outputs = [probabilities([member], pixels_NHWC, views).cpu() for _, member in networks]
            if len(outputs) > 1:
                outputs.append(torch.stack(outputs).mean(0))
            for row, outputs_NK in enumerate(outputs):
                errors[row, views] += count_errors(outputs_NK, labels_N)
                if tallies:
                    tallies[row, views].add(batch.indices, classes_ahead(outputs_NK, labels_N))
        done += len(batch.indices)
        if on_progress:
            on_progress(done, len(split))
    for key, tally in tallies.items():
        errors[key] = replace(errors[key], sample=tally.sample)
    return [Measured(name, len(networks) if row == len(networks) else 1, views, errors[row, views])
            for row, name in enumerate(names) for views in VIEWS]


def to_json(measured: Sequence[Measured]) -> dict[str, object]:
    """`paper` and `ours`, each a list of rows with errors as fractions."""
    def fraction(percent: float | None) -> float | None:
        return None if percent is None else round(percent / 100, 4)

    return {
        "paper": [{"system": row.system, "views": row.views, "images": row.images, "where": row.where,
                   "top1_error": fraction(row.top1_error), "top5_error": fraction(row.top5_error)} for row in REPORTED],
        "ours": [{"system": row.system, "networks": row.networks, "views": row.views} | row.errors.to_json()
                 for row in measured]}
