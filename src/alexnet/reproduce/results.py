"""What `experiments` measured, as words: a table for the terminal, and the page docs/results.md is made of.

A results file holds one outcome a line, each with the command, machine and time that it took; a later one of the same
claim, data and epochs takes the place of an earlier one on the page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet.reproduce.claims import CLAIMS
from alexnet.reproduce.runs import Difference, Outcome

if TYPE_CHECKING:
    pass


BEGIN, END = "<!-- reproduced -->\n", "<!-- end -->"
"""Between these two lines of a page stands what `write_page` writes."""


def append(path: Path, outcome: Outcome, about: dict[str, Any]) -> None:
    """One line more in a results file. about: command, machine, versions, seconds of training."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(outcome.to_json() | about) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """A results file, the latest outcome of each claim, data and length, in the claims' order."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; `alexnet reproduce CLAIM --data DATA --results {path}` writes it")
    latest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        tree = json.loads(line)
        latest[tree["claim"], tree["data"], tree["side"], tree["epochs"]] = tree
    order = list(CLAIMS)
    return sorted(latest.values(), key=lambda tree: (order.index(tree["claim"]), tree["data"], tree["epochs"]))


def value(outcome: Outcome, number: float) -> str:
    return f"{number:.1f}" if outcome.unit == "times" else f"{number:.1%}"


def papers(outcome: Outcome) -> str:
    """The paper's number for the first difference."""
    paper = CLAIMS[outcome.claim].paper
    if paper is None:
        return "no number"
    return f"{paper:g} times" if outcome.unit == "times" else f"{paper:+.1f} points"


def ours(outcome: Outcome, difference: Difference) -> str:
    """A difference with its interval."""
    form = "{:.1f}" if outcome.unit == "times" else "{:+.1f}"
    mean = form.format(difference.mean)
    if len(difference.values) < 2:
        return f"{mean} {outcome.unit}"
    low, high = (form.format(difference.mean + side * difference.half_width) for side in (-1, 1))
    return f"{mean} {outcome.unit} ({low} to {high})"


def markdown(trees: Iterable[dict[str, Any]]) -> str:
    """One table of claims, then each claim's sides."""
    trees = list(trees)
    rows = ["| claim | the paper | ours (95% interval over seeds) | verdict | data |", "|---|---|---|---|---|"]
    details = []
    for tree in trees:
        outcome, claim = Outcome.from_json(tree), CLAIMS[tree["claim"]]
        data = f"{outcome.data}, {outcome.side} pixels, {outcome.epochs} epochs"
        rows.append(f"| `{claim.name}` | {papers(outcome)} | {ours(outcome, outcome.differences[0])} | "
                    f"{outcome.verdict} | {data} |")
        details.append(_detail(outcome, tree))
    return "\n".join([*rows, "", *details])


def _detail(outcome: Outcome, tree: dict[str, Any]) -> str:
    claim = CLAIMS[outcome.claim]
    what = "epochs to 25% training error" if outcome.unit == "times" else "top-1 error"
    seeds = ", ".join(map(str, outcome.seeds))
    rows = [f"| {claim.name}, {outcome.data} | {what}, seeds {seeds} | against the first | |", "|---|---|---|---|"]
    differences = ["", *(ours(outcome, difference) for difference in outcome.differences)]
    for side, difference in zip(outcome.measured, differences, strict=True):
        rows.append(f"| {side.name} | {', '.join(value(outcome, one) for one in side.values)} | {difference} | "
                    f"{side.note} |")
    minutes = max(1, round(tree["seconds"] / 60))
    return "\n".join([f"**{claim.name}** ({claim.where}): {claim.says}.", "", *rows, "",
                      f"`{tree['command']}`; {tree['machine']}, {minutes} min of training in all, "
                      f"{tree['precision_used']}.", ""])


def write_page(page: Path, results: Sequence[dict[str, Any]]) -> None:
    """Replace what stands between the page's two marks. Raises ValueError as `around` does."""
    before, after = around(page)
    page.write_text(f"{before}{BEGIN}{markdown(results)}{END}{after}", encoding="utf-8")


def around(page: Path) -> tuple[str, str]:
    """What stands before the page's first mark and behind its second. Raises ValueError where there is no such page, or
    it lacks a mark."""
    if not page.is_file():
        raise ValueError(f"there is no page {page}; make it, with the lines {BEGIN.strip()} and {END} in it")
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN.strip()} and {END} to write between; add the two lines")
    return before, after
