"""The results file of `alexnet reproduce`: one outcome a line, from which docs/results.md is made."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from alexnet.data.packed import PackedDataset
from alexnet.errors import UserError, require
from alexnet.reproduce.claim_designs import CLAIMS
from alexnet.reproduce.measures import Design
from alexnet.reproduce.outcome import MeasuredJson, OutcomeJson

_NETWORKS = {
    "paper-small": "the paper's five convolutions and three fully connected layers at a third of their widths",
    "cifar": "the network of Figure 1, four layers without regularization",
}


class Provenance(TypedDict):
    """How an outcome was measured."""

    command: str
    machine: str
    precision: str


def describe_design(design: Design, packed: PackedDataset) -> str:
    """Network, data, images and epochs in a sentence."""
    claim, counts = design.claim, packed.counts
    images = (f"{design.images_per_class} training images of each class" if design.images_per_class else
              f"all {counts['train']:,} training images")
    common = f" ({', '.join(claim.common)})" if claim.common else ""
    epochs = (f"until the clean training error is {claim.target:.0%}, at most {design.epochs} epochs"
              if claim.stops_at_target else f"{design.epochs} epochs")
    return (f"{_NETWORKS[claim.network][0].upper()}{_NETWORKS[claim.network][1:]}{common}, on "
            f"{Path(packed.source).name} ({len(packed.classes)} classes, {packed.side} pixels), {images}, {epochs}.")


def to_outcome(
    design: Design, packed: PackedDataset, measured: MeasuredJson, provenance: Provenance, notes: list[str],
) -> OutcomeJson:
    """A line of a results file. notes: of the data."""
    claim = design.claim
    train = design.images_per_class * len(packed.classes) if design.images_per_class else packed.counts["train"]
    seeds = max(map(design.seeds_of, claim.variants), key=len)
    return {
        "claim": claim.name, "section": claim.section, "statement": claim.statement,
        "design": describe_design(design, packed), "against": f"{claim.against[0].upper()}{claim.against[1:]}.",
        "data": Path(packed.source).name, "side": packed.side, "images": [train, packed.counts["val"]],
        "epochs": design.epochs, "seeds": list(seeds), "quick": design.quick,
        **measured, "notes": [*measured["notes"], *notes], **provenance}


def append(path: Path, outcome: OutcomeJson) -> None:
    """Append a line to a results file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(outcome) + "\n")


def read(path: Path) -> list[OutcomeJson]:
    """Read a results file: the latest outcome of each claim, data, side, images and number of epochs, in CLAIMS' order.

    Raises:
        UserError: the file does not exist, or has a line of another format.
    """
    require(path.is_file(), f"{path} does not exist",
            f"`alexnet reproduce CLAIM --data DATA --results {path}` writes it")
    latest: dict[tuple[str, str, int, int, int], OutcomeJson] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        outcome = _parse(line)
        if outcome is None:
            raise UserError(f"line {number} of {path} is not a result of this version", "remove it")
        latest[outcome["claim"], outcome["data"], outcome["side"], outcome["images"][0], outcome["epochs"]] = outcome
    order = list(CLAIMS)
    return sorted(latest.values(), key=lambda outcome: (
        order.index(outcome["claim"]), outcome["data"], outcome["epochs"]))


def not_measured(outcomes: Iterable[OutcomeJson]) -> list[str]:
    """Names of the claims that have no outcome here."""
    measured = {outcome["claim"] for outcome in outcomes}
    return [name for name in CLAIMS if name not in measured]


def _parse(line: str) -> OutcomeJson | None:
    try:
        outcome: OutcomeJson = json.loads(line)
        is_known = OutcomeJson.__required_keys__ <= outcome.keys() and outcome["claim"] in CLAIMS
    except (ValueError, AttributeError, TypeError):
        return None
    return outcome if is_known else None
