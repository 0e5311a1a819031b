"""The `results` command: what `alexnet reproduce` has measured of the paper's claims, as a table and as a page."""

from __future__ import annotations

import json
from pathlib import Path

from alexnet._runtime.notes import say
from alexnet.cli.app import PAPER, Json, app, check_output
from alexnet.cli.render_results import summary_table


@app.command(group=PAPER, sort_key=2)
def results(
    file: Path = Path("runs/reproduce/results.jsonl"), /, *, page: Path | None = None, json_: Json = False,
) -> None:
    """Show all results of `alexnet reproduce`: for each claim the published number, ours, and the verdict.

    With --page they are written as a Markdown page with a figure for each claim, such as docs/results.md.

    Args:
        file: The results file that `alexnet reproduce` wrote, one JSON object a line.
        page: Markdown file to write (.md), with figures in a folder of its name. In an existing page, only the text
            between two comment lines is replaced: "begin: written by `alexnet results`, do not edit" and "end". A new
            page has them.
    """
    if page is not None:
        check_output(page, (".md",), overwrite=True)  # only the marked part of the page is replaced

    from alexnet.reproduce.results import not_measured, read_outcomes

    outcomes, written = read_outcomes(file), list[Path]()
    if page is not None:
        from alexnet.reproduce.results_page import write_results_page

        written = write_results_page(outcomes, page)
    if json_:
        print(json.dumps(outcomes, indent=2))
    else:
        from rich.console import Console

        if outcomes:
            Console(highlight=False).print(summary_table(outcomes))
        if unmeasured := not_measured(outcomes):
            print(f"not measured: {', '.join(unmeasured)}")
    for path in written:
        say(f"written: {path}")
