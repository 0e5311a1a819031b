"""The tables of §6 beside ours, for whatever networks and photographs are given.

Each of the paper's numbers stands once, with its place; ours are measured, never kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from alexnet.evaluate import Errors, Member, count_errors, probabilities
from alexnet.shards import Split
from alexnet.stream import batches

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Reported:
    """A line of Table 1 or 2, or of the text. Errors in percent; None where the paper prints a dash."""

    system: str
    views: int | None
    """None where the system has none, or the paper does not say."""
    photographs: str
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
    members: Sequence[tuple[str, Member]], split: Split, *, label_map: Tensor, batch_size: int = 128,
    device: torch.device | None = None, on_progress: Callable[[int, int], object] | None = None,
) -> list[Ours]:
    """Each network at one view and at ten, and all of them averaged (§6): every photograph once for each.

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
        "paper": [{"system": row.system, "views": row.views, "photographs": row.photographs, "where": row.where,
                   "top1_error": fraction(row.top1_error), "top5_error": fraction(row.top5_error)} for row in REPORTED],
        "ours": [{"system": row.system, "networks": row.networks, "views": row.views} | row.errors.to_json()
                 for row in measured]}


def render(measured: Sequence[Ours], photographs: str) -> RenderableType:
    """The paper's lines and ours in one table; ours with their 95% intervals. photographs: ours, in words."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("system", "views", "photographs", "top-1", "top-5", "source; 95% intervals in %"):
        number = title in ("views", "top-1", "top-5")
        table.add_column(title, justify="right" if number else "left", no_wrap=number)
    table.add_row("the paper's", style="bold")
    for row in REPORTED:
        table.add_row(f"  {row.system}", str(row.views or ""), row.photographs, *(
            "-" if error is None else f"{error:.1f}%" for error in (row.top1_error, row.top5_error)), row.where)
    table.add_row("ours", style="bold")
    for ours in measured:
        errors = ours.errors.to_json()
        table.add_row(f"  {escape(ours.system)}", str(ours.views), escape(photographs),
                      f"{errors['top1_error']:.1%}", f"{errors['top5_error']:.1%}", ", ".join(
                          f"{100 * low:.1f} to {100 * high:.1f}" for low, high in errors["interval"].values()))
    return Group(table, "", *_remarks(measured))


def _remarks(measured: Sequence[Ours]) -> list[str]:
    """What must be known to read the table."""
    remarks = ["* pre-trained on the ImageNet 2011 Fall release, with a sixth convolution (--arch paper-conv6)."]
    if measured and measured[0].errors.photographs != 50_000:
        remarks.append(f"Ours are errors on {measured[0].errors.photographs:,} photographs that are not the paper's "
                       "50,000 of ILSVRC-2012: they are to be compared with each other, and not with the paper's.")
    for views in VIEWS:
        single = [row.errors.top1_error for row in measured if row.networks == 1 and row.views == views]
        if len(single) > 1:
            mean = sum(single) / len(single)
            change = next(row.errors.top1_error for row in measured if row.networks > 1 and row.views == views) - mean
            remarks.append(f"{'One view' if views == 1 else 'Ten views'}: single networks {min(single):.1%} to "
                           f"{max(single):.1%}, mean {mean:.1%}; averaging their outputs, {100 * change:+.1f} points"
                           + (" (Table 2: -2.6, by five)." if views == 10 else "."))
    return remarks
