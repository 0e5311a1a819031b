"""The text of `alexnet list weights`: a table of the weights that have a name, and every fact of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from alexnet.models.known_weights import KnownWeights
    from alexnet.models.packaged import Measured


def print_weights_table(console: Console, known: Sequence[KnownWeights]) -> None:
    """A row for each, and below the table what does not fit into a row."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("weights", no_wrap=True)
    for title in ("classes", "input", "top-1 error", "top-5 error", "MB"):
        table.add_column(title, justify="right", no_wrap=True)
    for each in known:
        table.add_row(escape(each.name), f"{each.classes:,}", str(each.crop), _percent(each.top1_error),
                      _percent(each.top5_error), f"{each.megabytes:,.1f}")
    console.print(table)
    for each in known:
        console.print(f"\n{_names(each)}", style="bold", markup=False)
        _print_facts(console, each)
    console.print("\nAll classes of one of them: alexnet list weights NAME", soft_wrap=True)


def print_weights(console: Console, known: KnownWeights, classes: Sequence[str], measured: Sequence[Measured]) -> None:
    """Every fact of some weights, what was measured on them, and their classes."""
    console.print(f"{_names(known)}: network {known.arch}, {known.classes:,} classes, input of "
                  f"{known.crop}x{known.crop} pixels, the center of images of {known.side}x{known.side}; "
                  f"{known.parameters:,} parameters, {known.megabytes:,.1f} MB", soft_wrap=True, markup=False)
    _print_facts(console, known)
    for each in measured:
        console.print(f"  measured  {measured_text(each)}", soft_wrap=True, markup=False)
    console.print(f"\nIts {known.classes:,} classes: {', '.join(classes)}", markup=False)


def measured_text(measured: Measured) -> str:
    """One line: the images, the views, and each error that was measured."""
    parts = [f"top-1 error {measured['top1_error']:.1%}, top-5 error {measured['top5_error']:.1%}"]
    if "ece" in measured:
        parts.append(f"calibration error {measured['ece']:.1%} on {measured['ece_images']:,} images")
    if measured.get("sure_images"):
        parts.append(f"on the {measured['sure_images']:,} whose likeliest class has at least 50%: top-1 error "
                     f"{measured['sure_error']:.1%}")
    views = measured["views"]
    return f"{measured['data']}, {measured['images']:,} images, {views} view{'s' * (views != 1)}: {', '.join(parts)}"


def _names(known: KnownWeights) -> str:
    return f"{known.name} (or: {known.alias})" if known.alias else known.name


def _print_facts(console: Console, known: KnownWeights) -> None:
    error = (f"top-1 {_percent(known.top1_error)}, top-5 {_percent(known.top5_error)}, one central view, on "
             f"{known.measured_on}" if known.measured_on else "not measured")
    facts = {"error": error, "license": known.license, "from": known.provenance, "address": known.address,
             "checksum": known.checksum + " (its first digits; the owner published no more)" * known.checksum_is_prefix,
             "use": known.use}
    for name, text in facts.items():
        console.print(f"  {name:<9} {text}", soft_wrap=True, markup=False)


def _percent(error: float | None) -> str:
    return "-" if error is None else f"{error:.1%}"
