"""Measures of a claim: top-1 error, saturation, ten views, ensembles, epochs to a training error.

`reproduce` trains what a claim compares and returns an `Outcome`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from alexnet.architecture.arithmetic import has_top5
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.errors import require
from alexnet.inference.evaluate import ModelWithInput, evaluate
from alexnet.models import checkpoint as ckpt
from alexnet.reproduce.claims import PAPER_VARIANT, TARGET_ERROR, Claim, Variant, common_setup
from alexnet.reproduce.former_outcome import Outcome, VariantResult
from alexnet.reproduce.runs import Runs, TimeToError
from alexnet.training.run_folder import logged

LEARNING_RATES = (0.001, 0.003, 0.0003, 0.01)
"""Learning rates that Figure 1 searches with the first seed, the likeliest best one first."""


@dataclass(frozen=True)
class Setup:
    """What every measure needs: the runs, the network and recipe common to all variants, and the seeds."""

    runs: Runs
    arch: Arch
    recipe: Recipe
    seeds: Sequence[int]


def reproduce(claim: Claim, runs: Runs, *, seeds: Sequence[int] = (0, 1, 2), epochs: int = 12) -> Outcome:
    """Train the networks that a claim compares, if they are not trained yet, and measure them.

    Raises:
        UserError: for an ensemble of one seed.
    """
    packed = runs.packed
    arch, recipe = common_setup(claim, packed.side, epochs)
    measure = {"error": _errors, "saturation": _saturation, "views": _views, "ensemble": _ensemble,
               "epochs": _epochs_to_error}[claim.measure]
    return Outcome(
        claim.name, Path(packed.source).name, packed.side, (len(packed.split("train")), len(packed.split("val"))),
        epochs, tuple(seeds), runs.precision, tuple(measure(claim, Setup(runs, arch, recipe, seeds))))


def _errors(claim: Claim, setup: Setup) -> list[VariantResult]:
    """Top-1 error of one view after the last epoch."""
    results = []
    for variant in claim.variants:
        folders = [setup.runs.trained(*variant.apply(setup.arch, setup.recipe), seed, variant.name)
                   for seed in setup.seeds]
        last = [[event for event in logged(folder) if event["event"] == "epoch"][-1] for folder in folders]
        training = statistics.fmean(event["train_error"] for event in last)
        note = f"training error {training:.1%}"
        if has_top5(len(setup.runs.packed.classes)):
            note += f", top-5 error {statistics.fmean(event['val_top5_error'] for event in last):.1%}"
        results.append(VariantResult(variant.name, tuple(event["val_top1_error"] for event in last),
                                     note, tuple(folder.name for folder in folders)))
    return results


def _saturation(claim: Claim, setup: Setup) -> list[VariantResult]:
    """`_errors`, and the share of each layer's values that pass no gradient, as last logged in training."""
    results = []
    for result in _errors(claim, setup):
        signals = [[event["saturated"] for event in logged(setup.runs.folder / run) if event["event"] == "signals"][-1]
                   for run in result.runs]
        shares = ", ".join(f"{layer} {statistics.fmean(shares[layer] for shares in signals):.0%}"
                           for layer in signals[0])
        word = "zero" if any(layer.startswith("relu") for layer in signals[0]) else "saturated"
        results.append(replace(result, note=f"{result.note}; {word} at the end: {shares}"))
    return results


def _views(claim: Claim, setup: Setup) -> list[VariantResult]:
    """Top-1 error of the same networks with one view and with ten."""
    networks = [_load_trained(setup, seed) for seed in setup.seeds]
    return [VariantResult(name, tuple(_top1_error(setup.runs, [network], views) for network in networks), "",
                          _run_names(setup))
            for name, views in (("one view", 1), ("ten views", 10))]


def _ensemble(claim: Claim, setup: Setup) -> list[VariantResult]:
    """Top-1 error of each network with ten views, and of all of them averaged."""
    require(len(setup.seeds) >= 2, "an ensemble takes at least two networks", "give --seeds 2 or more")
    networks = [_load_trained(setup, seed) for seed in setup.seeds]
    return [VariantResult("one network", tuple(_top1_error(setup.runs, [network], 10) for network in networks), "",
                          _run_names(setup)),
            VariantResult(f"{len(networks)} averaged", (_top1_error(setup.runs, networks, 10),), "",
                          _run_names(setup))]


def _epochs_to_error(claim: Claim, setup: Setup) -> list[VariantResult]:
    """Epochs to a training error of TARGET_ERROR, each variant with its best learning rate."""
    return [_epochs_with_best_rate(variant, setup) for variant in claim.variants]


def _epochs_with_best_rate(variant: Variant, setup: Setup) -> VariantResult:
    """Search the learning rate with the first seed, then measure every seed.

    The best rate takes the fewest epochs. A rate is abandoned when it has taken as many as the best before it.
    """
    runs, (arch, recipe) = setup.runs, variant.apply(setup.arch, setup.recipe)

    def train_at(rate: float, seed: int, max_epochs: float = math.inf) -> TimeToError:
        return runs.train_until(arch, replace(recipe, learning_rate=rate), seed,
                                f"{variant.name}, learning rate {rate:g}", TARGET_ERROR, max_epochs)

    tried: dict[float, TimeToError] = {}
    for rate in LEARNING_RATES:
        fewest = min((result.epochs for result in tried.values() if result.reached), default=math.inf)
        tried[rate] = train_at(rate, setup.seeds[0], fewest)
    best = min(tried, key=lambda rate: (tried[rate].epochs, tried[rate].error))
    results = [train_at(best, seed) for seed in setup.seeds]
    missed = sum(not result.reached for result in results)
    seconds = statistics.fmean(result.seconds for result in results)
    note = f"best learning rate {best:g} of {', '.join(f'{rate:g}' for rate in sorted(LEARNING_RATES))}"
    if math.isfinite(seconds):
        note += f"; {seconds:.0f} s of training"
    if missed:
        note += f"; {missed} of {len(results)} did not reach it"
    return VariantResult(
        variant.name, tuple(result.epochs for result in results), note,
        tuple(runs.name(arch, replace(recipe, learning_rate=best), seed) for seed in setup.seeds))


def _load_trained(setup: Setup, seed: int) -> ModelWithInput:
    """The network of the paper's own variant after its last epoch, trained if necessary."""
    saved = ckpt.load(setup.runs.trained(setup.arch, setup.recipe, seed, PAPER_VARIANT.name) / "last")
    return saved.network(), saved.preprocess()


def _run_names(setup: Setup) -> tuple[str, ...]:
    return tuple(setup.runs.name(setup.arch, setup.recipe, seed) for seed in setup.seeds)


def _top1_error(runs: Runs, networks: Sequence[ModelWithInput], views: int) -> float:
    device = torch.device(runs.device)
    on_device = [(network.to(device), preprocess.to(device)) for network, preprocess in networks]
    return evaluate(on_device, runs.packed.split("val"), views=views, device=device).top1_error
