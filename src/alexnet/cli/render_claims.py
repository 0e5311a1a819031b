"""What `alexnet reproduce CLAIM` prints: the plan before anything is trained, and the outcome with its verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from alexnet.data.packed import PackedDataset
    from alexnet.reproduce.measures import Design
    from alexnet.reproduce.outcome import ComparisonJson, OutcomeJson, VariantJson


def plan_text(design: Design, packed: PackedDataset) -> str:
    """What is compared, which outcome speaks against the claim, and how many runs that takes."""
    from alexnet.reproduce.claims import RATIOS
    from alexnet.reproduce.results import describe_design

    claim = design.claim
    lines = [f"{claim.name} ({claim.section}): {claim.statement}.", "",
             f"Speaks against it: {claim.against}.", f"Design: {describe_design(design, packed)}", "Variants:"]
    for variant in claim.variants:
        lines.append(f"  {variant.name}: {', '.join(variant.differs) or 'the common network and recipe'}")
    lines.append("Comparisons, paired by seed, with Holm's correction:")
    for comparison in claim.comparisons:
        paper = _paper(comparison.paper, "times" if comparison.quantity in RATIOS else "points")
        direction = "lower" if comparison.sign < 0 else "higher"
        lines.append(f"  {comparison.title}: expected {direction}; the paper: {paper}")
    rates, limit = ", ".join(f"{rate:g}" for rate in design.rates), design.max_rates
    extended = f", extended until the best is interior, to {limit} at most" if limit > len(rates.split()) else ""
    seeds = max(map(design.seeds_of, claim.variants), key=len)
    lines += [f"Learning rates of each variant: {rates}{extended}; chosen by {design.tuned_by} "
              f"({', '.join(map(str, design.tuning))}).",
              f"Fresh seeds: {seeds[0]} to {seeds[-1]}, measured after the last epoch. "
              f"Runs: {design.least_runs} or more."]
    return "\n".join(lines)


def outcome_table(outcome: OutcomeJson) -> RenderableType:
    """The variants with their values, then a verdict for each comparison."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    titles = ["", "rate", outcome["value_name"], *outcome["variants"][0]["runs"][0].get("more", {})]
    for title in [*titles, "clean training error"] if "clean training error" not in titles else titles:
        table.add_column(title, overflow="fold")
    for variant in outcome["variants"]:
        table.add_row(*map(escape, _row(variant, outcome, "clean training error" not in titles)))
    lines = [escape(_sentence(comparison)) for comparison in outcome["comparisons"]]
    return Group(table, "", *lines, "", *(f"note: {escape(note)}" for note in outcome["notes"]))


def _row(variant: VariantJson, outcome: OutcomeJson, with_training: bool) -> list[str]:
    is_epochs = outcome["value_unit"] == "epochs"
    runs = variant["runs"]
    columns = [_values([run["value"] for run in runs], is_epochs, "not reached" if is_epochs else "diverged")]
    for name in outcome["variants"][0]["runs"][0].get("more", {}):
        values = [run.get("more", {}).get(name) for run in runs]
        columns.append(_values(values, name.startswith("epochs") or name.endswith("loss"), "not reached"))
    if with_training:
        columns.append(_values([run["train_error"] for run in runs], False, "-"))
    return [variant["name"], f"{variant['rate']:g}{'' if variant['interior'] else '*'}", *columns]


def _values(values: list[float | None], is_number: bool, missing: str) -> str:
    return ", ".join(missing if value is None else f"{value:.2f}" if is_number else f"{value:.1%}" for value in values)


def _sentence(comparison: ComparisonJson) -> str:
    unit, mean = comparison["unit"], comparison["mean"]
    measured = "no number" if mean is None else _number(mean, unit)
    if comparison["low"] is not None and comparison["high"] is not None:
        measured += f" (95% {_number(comparison['low'], unit, False)} to {_number(comparison['high'], unit, False)})"
    return (f"{comparison['verdict'].upper()}: {comparison['name']}, {comparison['quantity']}: {measured}; the paper: "
            f"{_paper(comparison['paper'], unit)}. {comparison['reason'][0].upper()}{comparison['reason'][1:]}.")


def _number(value: float, unit: str, named: bool = True) -> str:
    return (f"{value:.2f}" if unit == "times" else f"{value:+.1f}") + (f" {unit}" if named else "")


def _paper(value: float | None, unit: str) -> str:
    return "no number" if value is None else f"{value:g} times" if unit == "times" else f"{value:+g} points"
