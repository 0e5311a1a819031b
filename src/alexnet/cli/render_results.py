"""The table of `alexnet results`: each comparison of each claim, the paper's number, ours, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from alexnet.reproduce.outcome import OutcomeJson


def summary_table(outcomes: Sequence[OutcomeJson]) -> Table:
    """One row for each comparison; the claim and its data are named in its first row."""
    from rich.markup import escape
    from rich.table import Table

    from alexnet.reproduce.results_text import format_measured, format_paper

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("claim", "data", "comparison", "the paper", "measured (95% interval)", "verdict"):
        table.add_column(title)
    for outcome in outcomes:
        head = (outcome["claim"], escape(outcome["data"]) + (", quick" if outcome["quick"] else ""))
        for comparison in outcome["comparisons"]:
            table.add_row(*head, escape(comparison["name"]), format_paper(comparison), format_measured(comparison),
                          comparison["verdict"])
            head = ("", "")
    return table
