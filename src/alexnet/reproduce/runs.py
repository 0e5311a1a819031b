"""The paper's claims as runs: networks that differ in one thing, trained on one set over seeds, and what came of it.

`reproduce` trains what a claim compares, takes its measure of each run, and returns an `Outcome`: the paper's number,
ours with its spread, and a verdict. A run has a folder of its own, named by everything that decides it, so that claims
share their runs, a finished one is never trained again, and one that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from alexnet.architecture.overrides import to_json
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.data.loader import batches
from alexnet.data.packed import PackedDataset, PackedSplit
from alexnet.data.preprocessing import Preprocess
from alexnet.errors import Finding
from alexnet.inference.evaluate import ModelWithInput, evaluate
from alexnet.interpret.activations import ActivationReport, inspect_activations, training_views
from alexnet.interpret.health import exploding_loss, findings
from alexnet.models import checkpoint as ckpt
from alexnet.models.alexnet import AlexNet
from alexnet.training.build import build
from alexnet.training.optimizer import SGD
from alexnet.training.precision import MixedPrecision
from alexnet.training.run_folder import logged
from alexnet.training.spec import RunSpec
from alexnet.training.step import train_step

if TYPE_CHECKING:
    pass
from alexnet.reproduce.claims import _PAPERS, CLAIMS, COMPARED, TARGET, Claim, ground

Event = dict[str, Any]


# --- Runs, kept -------------------------------------------------------------------------------------------------------


class _Reached(Exception):
    """The training error that was asked for, or the certainty that it will not be: the run has told what it can."""


LOST = 5
"""Epochs after which a run to a training error is given up, if it is still at blind guessing: its rate is too large."""


@dataclass
class Runs:
    """Runs on one set in one folder, trained when they are asked for and not there yet."""

    packed: PackedDataset
    folder: Path
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "cpu"
    on_event: Callable[[Event], None] = lambda event: None
    used: set[Path] = field(default_factory=set)
    """The folders that were asked for, trained now or long ago."""

    @property
    def seconds(self) -> float:
        """Of training, that all of `used` took, whenever that was; evaluation is not in it."""
        return sum(_seconds(folder, len(self.packed.split("train"))) for folder in self.used)

    def trained(self, arch: Arch, way: Recipe, seed: int, title: str) -> Path:
        """The folder of a run to its last epoch. title: what `on_event` is told as each event's `run`."""
        return self._done(arch, way, seed, title, None)

    def until(self, arch: Arch, way: Recipe, seed: int, title: str, error: float,
              most: float = math.inf) -> dict[str, float]:
        """Epochs and seconds of training that a run takes to a training error, and whether it got there.

        Between two epochs by a straight line. A run that does not get there has the recipe's epochs, and no fewer, also
        where it is not waited for beyond `most` epochs.
        """
        folder = self._done(arch, way, seed, title, error, most)
        events = logged(folder)
        curve = [(0.0, 1 - 1 / arch.classes)] + [(one["epoch"], one["train_error"]) for one in events
                                                 if one["event"] == "epoch"]
        # The log has every tenth step, so a run of fewer tells no speed.
        seconds = _seconds(folder, len(self.packed.split("train"))) / max(1, len(curve) - 1) or math.nan
        for (before, high), (after, low) in pairwise(curve):
            if low <= error:
                epochs = before + (after - before) * (high - error) / (high - low)
                return {"epochs": epochs, "seconds": epochs * seconds, "reached": True, "error": low}
        return {"epochs": way.epochs, "seconds": way.epochs * seconds, "reached": False, "error": curve[-1][1]}

    def _done(self, arch: Arch, way: Recipe, seed: int, title: str, error: float | None,
              most: float = math.inf) -> Path:
        """Train what is missing, to the last epoch, to a training error, or to the first epoch from `most` on."""
        folder = self.folder / self.name(arch, way, seed)
        self.used.add(folder)
        if _is_done(folder, arch, way, error, most):
            return folder

        def watch(event: Event) -> None:
            self.on_event(event | {"run": f"{title}, seed {seed}"})
            if error is not None and event["event"] == "epoch" and (
                    event["train_error"] <= error or event["epoch"] >= most
                    or _is_lost(logged(folder), arch.classes)):
                raise _Reached

        with suppress(_Reached):
            build(RunSpec(self.packed, arch, way, folder, seed=seed, device=self.device,
                precision=self.precision, resume=True), on_event=watch).fit()
        return folder

    def name(self, arch: Arch, way: Recipe, seed: int) -> str:
        """Of a run's folder: the same for the same run, and no other."""
        what = json.dumps([to_json(arch), to_json(way), seed, self.packed.fingerprint, self.precision])
        return f"{arch.name.replace(' ', '-')}-{hashlib.sha256(what.encode()).hexdigest()[:12]}-{seed}"


def _is_done(folder: Path, arch: Arch, way: Recipe, error: float | None, most: float) -> bool:
    epochs = [event for event in logged(folder) if event["event"] == "epoch"]
    if error is not None and (any(event["train_error"] <= error or event["epoch"] >= most for event in epochs)
                              or _is_lost(epochs, arch.classes)):
        return True
    return bool(epochs) and epochs[-1]["epoch"] >= way.epochs and (folder / "last" / ckpt.HEAD).exists()


def _is_lost(events: Sequence[Event], classes: int) -> bool:
    """Whether LOST epochs and more have not left blind guessing."""
    errors = [event["train_error"] for event in events if event["event"] == "epoch"]
    return len(errors) >= LOST and min(errors) > 0.95 * (1 - 1 / classes)


def _seconds(folder: Path, images: int) -> float:
    """Of a run's training, by its median speed; 0 where it was too short to tell one."""
    events = logged(folder)
    rates = [event["images_per_second"] for event in events if event["event"] == "step"]
    epochs = max((event["epoch"] for event in events if event["event"] == "epoch"), default=0)
    return epochs * images / statistics.median(rates) if rates else 0.0


# --- What came out ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """One side: a value for each seed, or one where seeds are averaged."""

    name: str
    values: tuple[float, ...]
    """Top-1 errors as fractions, or epochs."""
    note: str = ""
    runs: tuple[str, ...] = ()
    """Folders of the runs that it was measured on, seed by seed."""


@dataclass(frozen=True)
class Difference:
    """Of a side from the first, seed by seed: points of error, or how many times as many epochs."""

    name: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def half_width(self) -> float:
        """Of Student's 95% interval of the mean; infinite for one seed."""
        count = len(self.values)
        return _T[min(count, len(_T) - 1)] * statistics.stdev(self.values) / math.sqrt(count) if count > 1 else math.inf


_T = (math.inf, math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t for 95%, by the number of values."""


@dataclass(frozen=True)
class Outcome:
    """A claim, measured on one set."""

    claim: str
    data: str
    side: int
    images: tuple[int, int]
    """For training and for measuring."""
    epochs: int
    seeds: tuple[int, ...]
    precision: str
    measured: tuple[Measured, ...]

    @property
    def unit(self) -> str:
        return "times" if CLAIMS[self.claim].measure == "epochs" else "points"

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Each other side's from the first."""
        first, *others = self.measured
        return tuple(Difference(other.name, tuple(
            b / a if self.unit == "times" else 100 * (b - a)
            for a, b in zip(first.values, _each(other.values, len(first.values)), strict=True))) for other in others)

    @property
    def verdict(self) -> str:
        """In words: the sign against the paper's, and whether the seeds can tell it from nothing."""
        claim, ours = CLAIMS[self.claim], self.differences[0]
        nothing = 1.0 if self.unit == "times" else 0.0
        away = ours.mean - nothing
        sign = "the paper's sign" if away * claim.sign > 0 else "the other sign" if away else "no difference"
        if len(ours.values) < 2:
            return f"{sign}; one seed shows no spread"
        if abs(away) <= ours.half_width:
            spread = f"{sign}, but no larger than {len(ours.values)} seeds' spread can hide"
        else:
            spread = f"{sign}, beyond the seeds' spread"
        return spread + self._size(ours)

    def _size(self, ours: Difference) -> str:
        """Whether our interval holds the paper's number; nothing where it has none."""
        paper = CLAIMS[self.claim].paper
        if paper is None:
            return ""
        if abs(paper - ours.mean) <= ours.half_width:
            return "; the interval holds the paper's number"
        toward = (ours.mean - paper) * CLAIMS[self.claim].sign
        return f"; {'larger' if toward > 0 else 'smaller'} than the paper's"

    def to_json(self) -> dict[str, Any]:
        claim = CLAIMS[self.claim]
        return {
            "claim": self.claim, "where": claim.where, "says": claim.says, "data": self.data, "side": self.side,
            "images": list(self.images), "epochs": self.epochs, "seeds": list(self.seeds),
            "precision": self.precision, "paper": claim.paper, "unit": self.unit,
            "measured": [{"name": one.name, "values": list(one.values), "note": one.note, "runs": list(one.runs)}
                         for one in self.measured],
            "differences": [{"name": one.name, "mean": one.mean,
                             "half_width": one.half_width if math.isfinite(one.half_width) else None}
                            for one in self.differences],
            "verdict": self.verdict}

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Outcome:
        return cls(tree["claim"], tree["data"], tree["side"], tuple(tree["images"]), tree["epochs"],
                   tuple(tree["seeds"]), tree["precision"],
                   tuple(Measured(one["name"], tuple(one["values"]), one["note"], tuple(one.get("runs", ())))
                         for one in tree["measured"]))


def _each(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    """A value for each seed, where one was measured of all of them together."""
    return values if len(values) == count else values * count


def reproduce(claim: Claim, runs: Runs, *, seeds: Sequence[int] = (0, 1, 2), epochs: int = 12) -> Outcome:
    """Train what the claim compares, where it is not there yet, and measure it.

    Raises ValueError for an ensemble of one.
    """
    packed = runs.packed
    arch, way = ground(claim, packed.side, epochs)
    measure = {"error": _errors, "saturation": _saturation, "views": _views, "ensemble": _ensemble,
               "epochs": _epochs}[claim.measure]
    return Outcome(
        claim.name, Path(packed.source).name, packed.side, (len(packed.split("train")), len(packed.split("val"))),
        epochs, tuple(seeds), runs.precision, tuple(measure(claim, runs, arch, way, seeds)))


def _errors(claim: Claim, runs: Runs, arch: Arch, way: Recipe, seeds: Sequence[int]) -> list[Measured]:
    """Top-1 error of the last epoch, one view."""
    measured = []
    for variant in claim.variants:
        folders = [runs.trained(*variant.of(arch, way), seed, variant.name) for seed in seeds]
        last = [[event for event in logged(folder) if event["event"] == "epoch"][-1] for folder in folders]
        training = statistics.fmean(event["train_error"] for event in last)
        top5 = statistics.fmean(event["val_top5_error"] for event in last)
        measured.append(Measured(variant.name, tuple(event["val_top1_error"] for event in last),
                                 f"training error {training:.1%}, top-5 {top5:.1%}",
                                 tuple(folder.name for folder in folders)))
    return measured


def _saturation(claim: Claim, runs: Runs, arch: Arch, way: Recipe, seeds: Sequence[int]) -> list[Measured]:
    """The same, and what training's last look saw: the share of each layer's values that pass no gradient."""
    measured = []
    for one in _errors(claim, runs, arch, way, seeds):
        looks = [[event["saturated"] for event in logged(runs.folder / run) if event["event"] == "signals"][-1]
                 for run in one.runs]
        shares = ", ".join(f"{name} {statistics.fmean(seen[name] for seen in looks):.0%}" for name in looks[0])
        what = "zero" if any(name.startswith("relu") for name in looks[0]) else "saturated"
        measured.append(replace(one, note=f"{one.note}; {what} at the end: {shares}"))
    return measured


def _views(claim: Claim, runs: Runs, arch: Arch, way: Recipe, seeds: Sequence[int]) -> list[Measured]:
    """The same networks at one view and at ten."""
    members = [_member(runs, arch, way, seed) for seed in seeds]
    names = tuple(runs.name(arch, way, seed) for seed in seeds)
    return [Measured(name, tuple(_top1(runs, [member], views) for member in members), "", names)
            for name, views in (("one view", 1), ("ten views", 10))]


def _ensemble(claim: Claim, runs: Runs, arch: Arch, way: Recipe, seeds: Sequence[int]) -> list[Measured]:
    """Each network at ten views, and all of them averaged."""
    if len(seeds) < 2:
        raise ValueError("an ensemble takes at least two networks; give --seeds 2 or more")
    members = [_member(runs, arch, way, seed) for seed in seeds]
    names = tuple(runs.name(arch, way, seed) for seed in seeds)
    return [Measured("one network", tuple(_top1(runs, [member], 10) for member in members), "", names),
            Measured(f"{len(seeds)} averaged", (_top1(runs, members, 10),), "", names)]


RATES = (0.001, 0.003, 0.0003, 0.01)
"""Figure 1's search, the likeliest first: each side's rate is the one of these that reaches TARGET in the fewest epochs
with seed 0. A rate that has taken as many as the best before it is not waited for any longer."""


def _epochs(claim: Claim, runs: Runs, arch: Arch, way: Recipe, seeds: Sequence[int]) -> list[Measured]:
    """Epochs to a training error of TARGET, each side with its own best rate."""
    measured = []
    for variant in claim.variants:
        network, recipe_ = variant.of(arch, way)

        def at(rate: float, seed: int, most: float = math.inf, network: Arch = network, way: Recipe = recipe_,
               name: str = variant.name) -> dict[str, float]:
            return runs.until(network, replace(way, learning_rate=rate), seed, f"{name}, rate {rate:g}", TARGET, most)

        tried: dict[float, dict[str, float]] = {}
        for rate in RATES:
            fewest = min((one["epochs"] for one in tried.values() if one["reached"]), default=math.inf)
            tried[rate] = at(rate, seeds[0], fewest)
        best = min(tried, key=lambda rate: (tried[rate]["epochs"], tried[rate]["error"]))
        reached = [at(best, seed) for seed in seeds]
        missed = sum(not one["reached"] for one in reached)
        seconds = statistics.fmean(one["seconds"] for one in reached)
        measured.append(Measured(variant.name, tuple(one["epochs"] for one in reached), (
            f"rate {best:g} of {', '.join(f'{rate:g}' for rate in sorted(RATES))}"
            + (f"; {seconds:.0f} s of training" if math.isfinite(seconds) else "")
            + (f"; {missed} of {len(reached)} did not get there" if missed else "")),
            tuple(runs.name(network, replace(recipe_, learning_rate=best), seed) for seed in seeds)))
    return measured


def _member(runs: Runs, arch: Arch, way: Recipe, seed: int) -> ModelWithInput:
    saved = ckpt.load(runs.trained(arch, way, seed, _PAPERS.name) / "last")
    return saved.network(), saved.preprocess()


def _top1(runs: Runs, members: Sequence[ModelWithInput], views: int) -> float:
    device = torch.device(runs.device)
    there = [(network.to(device), preprocess.to(device)) for network, preprocess in members]
    return evaluate(there, runs.packed.split("val"), views=views, device=device).top1_error


# --- Side by side -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BeforeAfter:
    """One network of COMPARED, before its first step and after some."""

    name: str
    before: ActivationReport
    after: ActivationReport | None
    """None where a step gave no number."""
    findings: tuple[Finding, ...]


def compare_networks(
    packed: PackedDataset, *, steps: int = 150, seed: int = 0, on_progress: Callable[[int, int], object] | None = None,
) -> list[BeforeAfter]:
    """Each network of COMPARED, on `ground`'s recipe at its first rate, for a number of steps, looked at before and
    after on the same 512 images."""
    asides = []
    for place, variant in enumerate(COMPARED):
        arch, way = variant.of(*ground(CLAIMS["lrn"], packed.side, 1))
        arch = replace(arch, classes=len(packed.classes))
        network, preprocess = AlexNet(arch, seed), Preprocess.from_data(arch.input, packed.mean_HWC)
        optimizer, arithmetic = SGD(network, way), MixedPrecision("fp32", torch.device("cpu"))
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        split, plain = packed.split("train"), replace(way, lighting=0.0)

        def seen(network: AlexNet = network, way: Recipe = plain, preprocess: Preprocess = preprocess,
                 split: PackedSplit = split) -> ActivationReport:
            torch.manual_seed(seed)
            return inspect_activations(network, training_views(split, preprocess, way, 512, seed=seed), rate=way.learning_rate, decay=way.weight_decay)

        before = seen()
        source = (batch for epoch in count() for batch in batches(split, way.batch_size, shuffle=(seed, epoch)))
        network.train()
        finite, step = True, 0
        for step, batch in enumerate(islice(source, steps)):
            torch.manual_seed(step)
            views_NCHW = preprocess.training_views(batch.pixels, batch.indices, plain, seed, 0)
            loss, _ = train_step(network, optimizer, views_NCHW, batch.labels_N, way.learning_rate, arithmetic)
            if not (finite := bool(torch.isfinite(loss))):
                break
            if on_progress:
                on_progress(place * steps + step + 1, len(COMPARED) * steps)
        after = seen() if finite else None
        exploded = exploding_loss(math.nan, arch.classes, step + 1)
        found = findings(after, arch, steps) if after else [exploded] if exploded else []
        asides.append(BeforeAfter(variant.name, before, after, tuple(found)))
    return asides
