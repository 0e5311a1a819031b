"""The results file of `alexnet reproduce`, results.jsonl: one outcome of a claim a line."""

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
from alexnet.reproduce.outcome import OutcomeJson


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


def read_outcomes(path: Path) -> list[OutcomeJson]:
    """Read a results file: the latest outcome of each claim, data, side and number of epochs, in CLAIMS' order.

    Raises:
        UserError: the file does not exist, or a line is not the result of a claim that this version knows.
    """
    require(path.is_file(), f"{path} does not exist",
            f"`alexnet reproduce CLAIM --data DATA --results {path}` writes it")
    latest: dict[tuple[str, str, int, int, bool], OutcomeJson] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        outcome = _outcome(line, f"line {number} of {path}")
        latest[outcome["claim"], outcome["data"], outcome["side"], outcome["epochs"], outcome["quick"]] = outcome
    order = list(CLAIMS)
    return sorted(latest.values(), key=lambda outcome: (
        order.index(outcome["claim"]), outcome["data"], outcome["epochs"], outcome["quick"]))


def not_measured(outcomes: Iterable[OutcomeJson]) -> list[str]:
    """Names of the claims that `alexnet reproduce` can test, and that have no outcome here."""
    measured = {outcome["claim"] for outcome in outcomes}
    return [name for name in CLAIMS if name not in measured]


def _outcome(line: str, place: str) -> OutcomeJson:
    """Parse a line and check its keys."""
    remedy = "delete the line, or make it anew with `alexnet reproduce`"
    try:
        tree = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place} is not JSON ({error})", remedy) from error
    missing = OutcomeJson.__required_keys__ - (tree.keys() if isinstance(tree, dict) else set())
    require(not missing, f"{place} lacks {', '.join(sorted(missing))}", remedy)
    require(tree["claim"] in CLAIMS, f"{place} has the claim {tree['claim']}, which this version does not know", remedy)
    outcome: OutcomeJson = tree
    return outcome
