"""The results file of `alexnet reproduce`: one outcome a line, from which docs/results.md is made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from alexnet.errors import UserError, plural, require
from alexnet.reproduce.claim_networks import PAPER_SMALL, describe_widths
from alexnet.reproduce.claims import CLAIMS
from alexnet.reproduce.outcome import ComparisonJson, MeasuredJson, OutcomeJson, VariantJson
from alexnet.reproduce.verdicts import expectation

if TYPE_CHECKING:  # import torch, which showing results does without
    from alexnet.data.packed import PackedDataset
    from alexnet.reproduce.design import Design
    from alexnet.reproduce.run_duration import RunDuration

_NETWORKS = {
    "paper-small": f"a small form of the paper's network, with {describe_widths(PAPER_SMALL)}",
    "cifar": "a network of four layers like Figure 1's, of our making, without regularization",
}


class Provenance(TypedDict):
    """How an outcome was measured."""

    command: str
    machine: str
    precision: str
    date: str
    """In UTC: "2026-11-29"."""


def describe_design(design: Design, packed: PackedDataset) -> str:
    """Network, data, images and epochs in a sentence."""
    claim, counts = design.claim, packed.counts
    images = (f"{design.images_per_class} training images of each class" if design.images_per_class else
              f"all {counts['train']:,} training images")
    common = f" ({', '.join(claim.common)})" if claim.common else ""
    epochs = (f"until the clean training error is {claim.target:.0%}, at most {plural(design.epochs, 'epoch')}"
              if claim.stops_at_target else plural(design.epochs, "epoch"))
    crop = design.setup(claim.variants[0])[0].input.crop
    return (f"{_NETWORKS[claim.network][0].upper()}{_NETWORKS[claim.network][1:]}{common}, on "
            f"{Path(packed.source).name} ({len(packed.classes)} classes, {packed.side} pixels, views of {crop}), "
            f"{images}, {epochs}.")


def departures(design: Design, packed: PackedDataset) -> list[str]:
    """What differs from the claim's own design, in words; nothing with --quick, which is no result."""
    claim = design.claim
    own_epochs = claim.epochs_on(_training_images(design, packed))
    other_data = [f"{Path(packed.source).name} instead of {claim.data}"] if claim.data and (
        claim.data not in Path(packed.source).name) and not design.quick else []
    changes = [("epochs", design.epochs, own_epochs), ("seeds", design.seeds, claim.seeds),
               ("training images of each class", design.images_per_class, claim.images_per_class)]
    return other_data + [f"{'all' if ours is None else ours} {name} instead of {'all' if own is None else own}"
            for name, ours, own in changes if ours != own and not design.quick]


def _training_images(design: Design, packed: PackedDataset) -> int:
    """The training images of the claim's subset."""
    return design.images_per_class * len(packed.classes) if design.images_per_class else packed.counts["train"]


def plan_json(design: Design, packed: PackedDataset, times: Sequence[RunDuration] = ()) -> dict[str, object]:
    """What a claim would compare and train; with times also how many seconds the runs take on this machine."""
    claim = design.claim
    return {
        "claim": claim.name, "section": claim.section, "statement": claim.statement,
        "design": describe_design(design, packed), "against": claim.against,
        "variants": {variant.name: list(variant.differs) for variant in claim.variants},
        "departures": departures(design, packed),
        "comparisons": [expectation(comparison) for comparison in claim.comparisons],
        "rates": list(design.rates), "most_rates": design.max_rates, "tuned_by": design.tuned_by,
        "tuning_seeds": list(design.tuning), "seeds": design.seeds, "least_runs": design.least_runs,
        "common": design.common_settings(), "note": design.note(packed),
        **({"seconds_of_a_run": {time.variant.name: round(time.seconds, 1) for time in times},
            "seconds": round(sum(time.runs * time.seconds for time in times), 1)} if times else {})}


def to_outcome(
    design: Design, packed: PackedDataset, measured: MeasuredJson, provenance: Provenance, notes: list[str],
) -> OutcomeJson:
    """A line of a results file. notes: of the data."""
    claim = design.claim
    seeds = max(map(design.seeds_of, claim.variants), key=len)
    return {
        "claim": claim.name, "section": claim.section, "statement": claim.statement,
        "design": describe_design(design, packed), "against": f"{claim.against[0].upper()}{claim.against[1:]}.",
        "departures": departures(design, packed), "data": Path(packed.source).name, "fingerprint": packed.fingerprint,
        "side": packed.side, "images": [_training_images(design, packed), packed.counts["val"]],
        "epochs": design.epochs, "seeds": list(seeds), "quick": design.quick,
        **measured, "notes": [*measured["notes"], *notes], **provenance}


def append(path: Path, outcome: OutcomeJson) -> None:
    """Append a line to a results file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(outcome) + "\n")


def read_outcomes(path: Path) -> list[OutcomeJson]:
    """Read a results file, in CLAIMS' order.

    Results stand side by side if anything in their design differs: data, side, images, epochs, seeds, precision or the
    variants' settings. If a design has several results, the last line counts; `replaces` has the dates of the others.

    Raises:
        UserError: the file does not exist, or a line is not the result of a claim that this version knows.
    """
    require(path.is_file(), f"{path} does not exist",
            f"`alexnet reproduce CLAIM --data DATA --results {path}` writes it; the project's own results are in its "
            "repository: `alexnet results docs/results.jsonl`")
    latest: dict[str, OutcomeJson] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        outcome = _outcome(line, f"line {number} of {path}")
        if earlier := latest.get(key := _design_key(outcome)):
            outcome["replaces"] = [*earlier.get("replaces", []), earlier["date"]]
        latest[key] = outcome
    order = list(CLAIMS)
    return sorted(latest.values(), key=lambda outcome: (
        order.index(outcome["claim"]), outcome["data"], outcome["images"], outcome["epochs"], outcome["quick"]))


def _design_key(outcome: OutcomeJson) -> str:
    """Equal for results of which a later one replaces an earlier one."""
    return json.dumps([
        outcome["claim"], outcome["data"], outcome["fingerprint"], outcome["side"], outcome["images"],
        outcome["epochs"], outcome["seeds"], outcome["tuning_seeds"], outcome["precision"], outcome["quick"],
        outcome["design"],
        [[variant[key] for key in ("name", "settings", "images", "views", "averaged")]
         for variant in outcome["variants"]]])


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
    missing = _missing(tree, OutcomeJson.__required_keys__)
    for key, kind in () if missing else (("variants", VariantJson), ("comparisons", ComparisonJson)):
        parts = tree[key] if isinstance(tree[key], list) else [None]
        missing |= {name for part in parts for name in _missing(part, kind.__required_keys__)}
    require(not missing, f"{place} lacks {', '.join(sorted(missing))}", remedy)
    require(tree["claim"] in CLAIMS, f"{place} has the claim {tree['claim']}, which this version does not know", remedy)
    outcome: OutcomeJson = tree
    return outcome


def _missing(tree: object, required: frozenset[str]) -> set[str]:
    """Keys that a JSON object lacks; all of them if it is none."""
    return set(required) - (tree.keys() if isinstance(tree, dict) else set())
