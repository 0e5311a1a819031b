"""The table of `alexnet results`: each comparison of each claim, the published number, ours, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from alexnet.reproduce.outcome import OutcomeJson


def summary_table(outcomes: Sequence[OutcomeJson]) -> RenderableType:
    """One row for each comparison; the claim and its data are named in its first row."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    from alexnet.reproduce.results_text import (
        cautions,
        design_notes,
        footnote_number,
        format_expected,
        format_measured,
    )

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("claim", "data", "comparison", "published", "measured (95% interval)", "verdict"):
        table.add_column(title)
    notes: list[str] = []
    footnotes = cautions(outcomes)
    for outcome in outcomes:
        notes += [f"* {outcome['claim']}, {escape(outcome['data'])}, {outcome['date']}: {note}"
                  for note in design_notes(outcome)]
        star = "*" if design_notes(outcome) else ""
        head = (outcome["claim"], escape(f"{outcome['data']}, {outcome['precision']}, {outcome['date']}"))
        for comparison in outcome["comparisons"]:
            number = footnote_number(footnotes, outcome, comparison)
            table.add_row(*head, escape(comparison["name"]), escape(format_expected(comparison)),
                          format_measured(comparison), comparison["verdict"] + star + f" ({number})" * (number > 0))
            head = ("", "")
    notes += [f"({number}) {escape(footnote)}" for number, footnote in enumerate(footnotes, 1)]
    return Group(table, *notes)
