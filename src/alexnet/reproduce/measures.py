"""Test a claim: tune each variant's learning rate, train fresh seeds, measure, compare (`reproduce`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.data.overlap import Overlap
from alexnet.data.packed import PackedDataset
from alexnet.reproduce.claim import FRACTIONS, Claim, Comparison, TuningQuantity, Variant
from alexnet.reproduce.design import Design
from alexnet.reproduce.finished_run import FinishedRun
from alexnet.reproduce.outcome import MeasuredJson, RunJson, VariantJson
from alexnet.reproduce.quantities import measure_quantity, quantity_names, weight_measures
from alexnet.reproduce.runs import Job, RunStore
from alexnet.reproduce.tuning import Trial, Tuned, search
from alexnet.reproduce.verdicts import Pairs, judge
from alexnet.reproduce.weight_measures import TOWER_COLOR, ensemble_errors, measured

QUICK_REASON = "--quick decides nothing"
MOST_KNOWN_IMAGES = 0.002
"""Fraction of the validation images that may be known from training. With more, nothing is judged: the effects that are
compared may be as small as 1% of the errors."""


@dataclass(frozen=True)
class _Measured:
    """A variant with its runs."""

    variant: Variant
    tuned: Tuned
    runs: list[FinishedRun]
    json: VariantJson


def data_refusal(overlap: Overlap) -> str:
    """Why nothing is judged on data whose validation images are known from training; "" if few are, or none."""
    known = overlap.copies + (0 if overlap.is_usual else overlap.look_alikes)
    if known <= MOST_KNOWN_IMAGES * overlap.images:
        return ""
    return f"{overlap.describe()}, more than {MOST_KNOWN_IMAGES:.1%}; `alexnet check` lists them"


def reproduce(design: Design, runs: RunStore, no_verdict: str = "") -> MeasuredJson:
    """Train the networks that a claim compares, if they are not trained yet, and measure and compare them.

    Args:
        no_verdict: why nothing is judged on these data; "" where there is no such reason.
    """
    claim = design.claim
    measured = {variant.name: _measure(variant, design, runs) for variant in claim.variants}
    names, main = quantity_names(claim), claim.quantities[0]
    notes = [*_machine_notes(measured), *(note for one in measured.values() for note in _notes(one, design))]
    refusal = _norm_refusal(claim, measured)
    pairs = [_pairs(design, measured[comparison.variant], measured[comparison.reference], names[comparison.quantity])
             for comparison in claim.comparisons]
    unfinished = [_unfinished_epochs(design, comparison, measured[comparison.variant], measured[comparison.reference])
                  for comparison in claim.comparisons]
    no_verdict = QUICK_REASON if design.quick else no_verdict or refusal
    return {
        "tuning_seeds": list(design.tuning), "tuned_by": design.tuned_by, "value_name": names[main],
        "fractions": list(dict.fromkeys(name for quantity, name in names.items() if quantity in FRACTIONS)),
        "variants": [one.json for one in measured.values()],
        "comparisons": judge(claim, pairs, names, no_verdict,
                             {name for name, one in measured.items() if not one.tuned.interior}, unfinished),
        "notes": [note for note in (design.note(runs.packed), *notes, refusal) if note]}


def _measure(variant: Variant, design: Design, runs: RunStore) -> _Measured:
    tuned = _tune(variant, design, runs)
    arch, recipe = design.setup(variant)
    recipe = replace(recipe, learning_rate=tuned.rate)
    images = design.images_of(variant)
    # Each seed draws images of its own, so that the interval covers their choice, too.
    jobs = [_job(design, variant, runs.subset(images, draw=seed), arch, recipe, seed)
            for seed in design.seeds_of(variant)]
    finished = runs.train_all(jobs)
    size = variant.averaged
    groups = [finished[begin : begin + size] for begin in range(0, len(finished), size)]
    measured: VariantJson = {
        "name": variant.name, "settings": list(variant.differs), "images": len(jobs[0].data.split("train")),
        "views": variant.views, "averaged": variant.averaged,
        "tuned_by": quantity_names(design.claim)[variant.tuned_by],
        "rate": tuned.rate, "interior": tuned.interior,
        "tuning": [{"rate": rate, "errors": [trial.value for trial in trials]} for rate, trials in tuned.grid.items()],
        "runs": [_run_json(seed * size, group, variant, design, runs) for seed, group in enumerate(groups)]}
    return _Measured(variant, tuned, finished, measured)


def _tune(variant: Variant, design: Design, runs: RunStore) -> Tuned:
    """Search the learning rate with the tuning seeds."""
    (arch, recipe), claim = design.setup(variant), design.claim
    def jobs(rate: float) -> list[Job]:
        data = {seed: runs.subset(design.images_of(variant), draw=seed, tuning=variant.tuned_by != "epochs")
                for seed in design.tuning}
        return [replace(_job(design, variant, data[seed], arch, replace(recipe, learning_rate=rate), seed),
                        keep_weights=False, measures=frozenset(), needs_weights=False, shared=False)
                for seed in design.tuning]

    def trials(rate: float) -> list[Trial]:
        return [_trial(run, variant.tuned_by, claim.target) for run in runs.train_all(jobs(rate))]

    runs.train_all([job for rate in design.rates for job in jobs(rate)])  # so that several commands share these runs
    return search(trials, design.rates, design.max_rates)


def _trial(run: FinishedRun, tuned_by: TuningQuantity, target: float | None) -> Trial:
    if run.diverged:
        return Trial(None)
    clean = run.curve[-1]["train_error"]
    if tuned_by == "epochs":
        assert target is not None
        return Trial(run.epochs_to(target), clean)
    if tuned_by == "train":
        return Trial(clean)
    assert run.validated is not None
    return Trial(run.validated["val_loss" if tuned_by == "loss" else "val_top1_error"])


def _job(design: Design, variant: Variant, data: PackedDataset, arch: Arch, recipe: Recipe, seed: int) -> Job:
    claim = design.claim
    return Job(data, arch, recipe, seed, f"{claim.name}, {variant.name}, rate {recipe.learning_rate:g}, seed {seed}",
               claim.curve_epochs(variant, design.epochs_of(variant)),
               claim.target if variant.tuned_by == "epochs" else None,
               measures=weight_measures(claim.quantities, variant.views),
               needs_weights=any(other.averaged > 1 for other in claim.variants),
               shared=not claim.images_per_class and not variant.settings and not variant.removed_layer)


def _run_json(seed: int, group: Sequence[FinishedRun], variant: Variant, design: Design, runs: RunStore) -> RunJson:
    """What was measured of a run, or of an ensemble, which has no training error of its own."""
    claim, names = design.claim, quantity_names(design.claim)
    if len(group) > 1 and any(run.diverged for run in group):
        return {"seed": seed, "top1_error": None, "top5_error": None, "loss": None, "train_error": None,
                "train_loss": None, "value": None}
    if len(group) > 1:
        errors = ensemble_errors(group, runs.packed, variant.views, runs.device)
        return {"seed": seed, "top1_error": errors.top1_error, "top5_error": errors.top5_error, "loss": errors.loss,
                "train_error": None, "train_loss": None, "value": errors.top1_error}
    (run,) = group
    main, *others = [measure_quantity(quantity, run, runs.packed, target=claim.target, views=variant.views,
                                      device=runs.device) for quantity in claim.quantities]
    last, clean = run.validated, run.curve[-1] if run.curve and not run.diverged else None
    made: RunJson = {
        "seed": seed, "top1_error": last and last["val_top1_error"], "top5_error": last and last["val_top5_error"],
        "loss": last and last["val_loss"], "train_error": clean and clean["train_error"],
        "train_loss": clean and clean["train_loss"], "value": main}
    if (epochs := _epochs_without_target(run, variant, design)) is not None:
        made["epochs_without_target"] = epochs
    known = measured(run.folder)
    if design.setup(variant)[0].towers > 1 and known.keys() >= {*TOWER_COLOR}:
        made["tower_color"] = [known[what] for what in TOWER_COLOR]
    if others:
        made["more"] = {names[quantity]: value for quantity, value in zip(claim.quantities[1:], others, strict=True)}
    return made


def _epochs_without_target(run: FinishedRun, variant: Variant, design: Design) -> int | None:
    """Epochs after which a run ended without the target: it needs more. A diverged run would not have got there either.

    None: it reached the target, or its variant is not trained to it.
    """
    if variant.tuned_by != "epochs" or design.claim.target is None:
        return None
    if run.diverged:
        return design.epochs_of(variant)
    return None if run.epochs_to(design.claim.target) is not None else run.curve[-1]["epoch"]


def _pairs(design: Design, variant: _Measured, reference: _Measured, quantity: str) -> Pairs:
    """Values seed by seed; single networks that stand beside an ensemble: the mean of its members."""
    is_main = quantity == quantity_names(design.claim)[design.claim.quantities[0]]

    def values(one: _Measured) -> list[float | None]:
        found = [run["value"] if is_main else run["more"][quantity] for run in one.json["runs"]]
        size = len(found) // design.seeds
        groups = [found[begin : begin + size] for begin in range(0, len(found), size)]
        return [fmean(whole) if len(whole := [value for value in group if value is not None]) == size else None
                for group in groups]

    return list(zip(values(variant), values(reference), strict=True))


def _unfinished_epochs(design: Design, comparison: Comparison, variant: _Measured, reference: _Measured) -> Pairs:
    """Seed by seed the epochs of runs that ended without having reached the target; None for all others."""
    if comparison.quantity != "epochs":
        return [(None, None)] * design.seeds
    return [(one.get("epochs_without_target"), other.get("epochs_without_target"))
            for one, other in zip(variant.json["runs"], reference.json["runs"], strict=True)]


def _notes(one: _Measured, design: Design) -> list[str]:
    """What a reader must know of a variant's runs."""
    name, notes = one.variant.name, []
    if not one.tuned.interior:
        notes.append(f"{name}: the best learning rate, {one.tuned.rate:g}, is the "
                     f"{'highest' if one.tuned.rate == max(one.tuned.grid) else 'lowest'} of the "
                     f"{len(one.tuned.grid)} that were tried, so a better one may exist")
    if lost := sum(run.diverged for run in one.runs):
        notes.append(f"{name}: {lost} of {len(one.runs)} runs with fresh seeds diverged")
    if late := [epochs for run in one.json["runs"] if (epochs := run.get("epochs_without_target"))]:
        tried = " or ".join(map(str, sorted({*late})))
        notes.append(f"{name}: {len(late)} of {len(one.runs)} runs with fresh seeds did not reach "
                     f"{design.claim.target:.0%} clean training error in {tried} epochs")
    return notes


def _machine_notes(measured: dict[str, _Measured]) -> list[str]:
    """Which variants were trained where, if it is not the same machine for all."""
    machines = {name: {f"{run.machine}, {run.precision}" for run in one.runs if run.machine}
                for name, one in measured.items()}
    if len(set.union(*machines.values())) < 2:
        return []
    trained = "; ".join(f"{name}: {' and '.join(sorted(where))}" for name, where in machines.items() if where)
    return ["the runs with fresh seeds were trained on different machines or in different precisions, which may change "
            f"results: {trained}"]


def _norm_refusal(claim: Claim, measured: dict[str, _Measured]) -> str:
    """Why response normalization is not judged; "" if it is."""
    if claim.least_norm is None:
        return ""
    key = quantity_names(claim)["norm"]
    weights = [weight for run in measured["response normalization"].json["runs"]
               if (weight := run["more"][key]) is not None]
    weight = fmean(weights) if weights else 0.0
    if weight >= claim.least_norm:
        return ""
    return (f"{key} is {weight:.2%} on average, under {claim.least_norm:.0%}: response normalization is nearly a "
            "constant factor here, so no verdict is given")
