"""The results file of `alexnet reproduce` (one outcome a line), and its tables for docs/results.md."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired

from alexnet.data.overlap import OverlapJson
from alexnet.errors import UserError, require
from alexnet.reproduce.claims import CLAIMS
from alexnet.reproduce.former_outcome import Difference, Outcome

BEGIN, END = "<!-- reproduced -->\n", "<!-- end -->"
"""`write_page` replaces what stands between these two marks of a Markdown page."""


class Provenance(OverlapJson):
    """How an outcome was measured."""

    command: str
    machine: str
    precision_used: str
    seconds: float
    """Training time of all runs that the outcome uses."""
    undecodable: NotRequired[int]
    """Images of the data that could not be decoded, and are not counted."""


@dataclass(frozen=True)
class Record:
    """One line of a results file."""

    outcome: Outcome
    provenance: Provenance


def append(path: Path, outcome: Outcome, provenance: Provenance) -> None:
    """Append a line to a results file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**outcome.to_json(), **provenance}) + "\n")


def read(path: Path) -> list[Record]:
    """Read a results file: the latest outcome of each claim, data, side and number of epochs, in CLAIMS' order.

    Raises:
        UserError: the file does not exist.
    """
    require(path.is_file(), f"{path} does not exist",
            f"`alexnet reproduce CLAIM --data DATA --results {path}` writes it")
    latest: dict[tuple[str, str, int, int], Record] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        tree = json.loads(line)
        outcome = Outcome.from_json(tree)
        latest[outcome.claim, outcome.data, outcome.side, outcome.epochs] = Record(outcome, {
            "command": tree["command"], "machine": tree["machine"], "precision_used": tree["precision_used"],
            "seconds": tree["seconds"]})
    order = list(CLAIMS)
    return sorted(latest.values(), key=lambda record: (
        order.index(record.outcome.claim), record.outcome.data, record.outcome.epochs))


def format_value(outcome: Outcome, number: float) -> str:
    """A measured value: a top-1 error in percent, or epochs."""
    return f"{number:.1f}" if outcome.unit == "times" else f"{number:.1%}"


def format_paper_value(outcome: Outcome) -> str:
    """The paper's number for the first difference."""
    paper = CLAIMS[outcome.claim].paper
    if paper is None:
        return "no number"
    return f"{paper:g} times" if outcome.unit == "times" else f"{paper:+.1f} points"


def format_difference(outcome: Outcome, difference: Difference) -> str:
    """A measured difference with its 95% interval."""
    form = "{:.1f}" if outcome.unit == "times" else "{:+.1f}"
    mean = form.format(difference.mean)
    if len(difference.values) < 2:
        return f"{mean} {outcome.unit}"
    low, high = (form.format(difference.mean + side * difference.half_width) for side in (-1, 1))
    return f"{mean} {outcome.unit} ({low} to {high})"


def markdown(records: Iterable[Record]) -> str:
    """A table of all claims, then a table of variants for each."""
    rows = ["| claim | paper | measured (95% interval over seeds) | verdict | data |", "|---|---|---|---|---|"]
    details = []
    for record in records:
        outcome = record.outcome
        data = f"{outcome.data}, {outcome.side} pixels, {outcome.epochs} epochs"
        rows.append(f"| `{outcome.claim}` | {format_paper_value(outcome)} | "
                    f"{format_difference(outcome, outcome.differences[0])} | {outcome.verdict} | {data} |")
        details.append(_variants_table(record))
    return "\n".join([*rows, "", *details])


def _variants_table(record: Record) -> str:
    outcome, provenance, claim = record.outcome, record.provenance, CLAIMS[record.outcome.claim]
    seeds = ", ".join(map(str, outcome.seeds))
    rows = [f"| {claim.name}, {outcome.data} | {outcome.measure_name}, seeds {seeds} | difference from the first | |",
            "|---|---|---|---|"]
    differences = ["", *(format_difference(outcome, difference) for difference in outcome.differences)]
    for variant, difference in zip(outcome.variants, differences, strict=True):
        values = ", ".join(format_value(outcome, number) for number in variant.values)
        rows.append(f"| {variant.name} | {values} | {difference} | {variant.note} |")
    minutes = max(1, round(provenance["seconds"] / 60))
    return "\n".join([f"**{claim.name}** ({claim.section}): {claim.statement}.", "", *rows, "",
                      f"`{provenance['command']}`; {provenance['machine']}, {minutes} min of training in total, "
                      f"{provenance['precision_used']}.", ""])


def write_page(page: Path, records: Iterable[Record]) -> None:
    """Replace what stands between a page's two marks by the tables.

    Raises:
        UserError: as `split_page` does.
    """
    before, after = split_page(page)
    page.write_text(f"{before}{BEGIN}{markdown(records)}{END}{after}", encoding="utf-8")


def split_page(page: Path) -> tuple[str, str]:
    """What stands before a page's first mark and after its second.

    Raises:
        UserError: the page does not exist, or a mark is missing.
    """
    marks = f"the lines {BEGIN.strip()} and {END}"
    require(page.is_file(), f"there is no page {page}", f"make it, with {marks} in it")
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{page} does not have {marks}, between which the tables are written", "add the two lines")
    return before, after
