"""What `alexnet reproduce CLAIM` prints: the plan before anything is trained, and the outcome with its verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alexnet.errors import and_list

if TYPE_CHECKING:
    from rich.console import RenderableType

    from alexnet.data.packed import PackedDataset
    from alexnet.reproduce.design import Design
    from alexnet.reproduce.outcome import OutcomeJson, VariantJson
    from alexnet.reproduce.run_duration import RunDuration

_DIRECTIONS = {"epochs": ("fewer", "more"), "recolored_rise": ("a smaller", "a larger")}
"""How a lower and a higher quantity is called, where not less and more."""


def plan_text(design: Design, packed: PackedDataset, times: Sequence[RunDuration] = ()) -> str:
    """What is compared, which outcomes would contradict the claim, and how many runs that takes.

    Args:
        times: how long the runs take here, if that is to be told.
    """
    from alexnet.reproduce.quantities import quantity_names
    from alexnet.reproduce.results import departures, describe_design
    from alexnet.reproduce.results_text import format_expected
    from alexnet.reproduce.verdicts import expectation

    claim, names = design.claim, quantity_names(design.claim)
    lines = [f"{claim.name} ({claim.section}): {claim.statement}.", "",
             f"Would contradict it: {claim.against}.", f"Design: {describe_design(design, packed)}"]
    if changes := departures(design, packed):
        lines.append(f"Not the claim's own design: {', '.join(changes)}."
                     + " With fewer seeds, all verdicts are undecided." * (design.seeds < claim.seeds))
    lines.append("Networks:")
    for variant in claim.variants:
        lines.append(f"  {variant.name}: {', '.join(variant.differs) or 'the common network and recipe'}")
    lines.append(f"Common to all: {_common_text(design.common_settings(), claim.stops_at_target)}.")
    lines.append("Comparisons, paired by seed, with Holm's correction:")
    for comparison in claim.comparisons:
        low, high = _DIRECTIONS.get(comparison.quantity, ("less", "more"))
        expected = f"{low if comparison.sign < 0 else high} {names[comparison.quantity]}"
        lines.append(f"  {comparison.title}: expected {expected}; published: "
                     f"{format_expected(expectation(comparison))}")
    rates, limit = ", ".join(f"{rate:g}" for rate in design.rates), design.max_rates
    extended = (f", extended until the best is not the lowest or highest, to {limit} at most"
                if limit > len(rates.split()) else "")
    seeds = max(map(design.seeds_of, claim.variants), key=len)
    ended = "each until the target" if claim.stops_at_target else "measured after the last epoch"
    lines += [f"Learning rates of each network: {rates}{extended}; chosen by {design.tuned_by} "
              f"({', '.join(map(str, design.tuning))}).",
              f"Fresh seeds: {seeds[0]} to {seeds[-1]}, {ended}. Runs: {design.least_runs} or more."]
    if times:
        lines.append(_time_text(times))
    if claim.note:
        lines.append(f"Note: {design.note(packed)}.")
    return "\n".join(lines)


def _time_text(times: Sequence[RunDuration]) -> str:
    """How long the runs take; where some end at a target, at most."""
    from alexnet.reproduce.run_duration import STEPS
    from alexnet.training.progress_bar import describe_duration

    all_runs = describe_duration(sum(time.runs * time.seconds for time in times))
    one = ", ".join(f"{time.variant.name} {describe_duration(time.seconds)}" for time in times)
    limit = " at most" * any(time.variant.tuned_by == "epochs" for time in times)
    return (f"Time on this machine:{limit} {all_runs} for these runs one after another; those that are finished "
            f"already take none. A run takes{limit}: {one} (estimated from {STEPS} training steps of each, done now).")


def _common_text(common: Mapping[str, Any], is_limit: bool) -> str:
    """`Design.common_settings` in words. is_limit: runs end at a target, before their last epoch if they reach it."""
    words = {
        "batch_size": "batch size {}", "epochs": "at most {:,} epochs" if is_limit else "{:,} epochs",
        "schedule": "schedule {}", "momentum": "momentum {:g}", "weight_decay": "weight decay {:g}",
        "dropout": "dropout {:g}", "crop": "views of {0}x{0} pixels", "image_side": "of images of {0}x{0}"}
    said = [text.format(common[name]) for name, text in words.items() if name in common]
    if "augmentation" in common:
        said.append(f"augmentation: {and_list(tuple(common['augmentation'])) or 'none'}")
    return ", ".join(said).replace(" pixels, of images", " pixels of images")


def outcome_table(outcome: OutcomeJson) -> RenderableType:
    """The variants with their values, then a verdict for each comparison."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    from alexnet.reproduce.results_text import design_notes, format_expected, verdict_sentences

    table = Table(box=None, pad_edge=False, header_style="bold")
    titles = ["", "rate", outcome["value_name"], *outcome["variants"][0]["runs"][0].get("more", {})]
    with_training = "clean training error" not in titles
    for title in [*titles, "clean training error"] if with_training else titles:
        table.add_column(title, overflow="fold")
    for variant in outcome["variants"]:
        table.add_row(*map(escape, _row(variant, outcome, with_training)))
    lines = [escape(f"{comparison['verdict'].upper()}: {verdict_sentences(comparison, outcome['claim'])} "
                    f"Published: {format_expected(comparison)}.") for comparison in outcome["comparisons"]]
    stars = ["* an end of the rates that were tried"] * any(not one["interior"] for one in outcome["variants"])
    notes = [f"note: {escape(note)}" for note in design_notes(outcome) + outcome["notes"]]
    return Group(table, *stars, "", *lines, "", *notes)


def _row(variant: VariantJson, outcome: OutcomeJson, with_training: bool) -> list[str]:
    from alexnet.reproduce.results_text import format_values

    runs, fractions = variant["runs"], outcome["fractions"]
    names = outcome["variants"][0]["runs"][0].get("more", {})
    columns = [format_values([run["value"] for run in runs], percent=outcome["value_name"] in fractions),
               *(format_values([run.get("more", {}).get(name) for run in runs], percent=name in fractions)
                 for name in names)]
    if with_training:
        columns.append(format_values([run["train_error"] for run in runs], percent=True))
    return [variant["name"], f"{variant['rate']:g}{'' if variant['interior'] else '*'}", *columns]
