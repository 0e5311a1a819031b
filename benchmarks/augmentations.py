"""What the recipe's options that are off by default do to the error: mixup, CutMix, weight averaging, and others.

    python benchmarks/augmentations.py IMAGES --runs FILE [--seeds 5] [--epochs 16] [--arch small] [--side 64]
        [--variant 'mixup_alpha=0.4'] [--folds 5] [--keep 1] [--device cuda]

IMAGES is what `alexnet train` takes, such as Imagenette or CIFAR-10. Its validation and test images are not used: one
fold of the training images is held out, and the error on it after the last epoch is compared. Each seed trains the
plain recipe and every variant before the next seed begins. FILE (JSON) gets each finished run, and a benchmark that is
started again trains only what is missing in it.

Printed is, for each variant, the mean over the seeds of its error less that of the plain recipe, with a 95% interval by
the paired t-test. Of the default variants one in 20 intervals leaves out 0 by chance. With `early_stop_epochs` the
held-out images also decide when training stops. `class_weights` can only help where the classes differ in size: with
`--keep 0.1` every second class keeps a tenth of its training images. The held-out images stay balanced, so their top-1
error is the balanced error.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from alexnet._runtime.atomic_files import replace_durably
from alexnet._runtime.devices import describe_machine
from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import default_recipe
from alexnet.architecture.spec import Arch
from alexnet.data.folds import FoldedDataset, folded
from alexnet.data.packed import PackedSplit
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.errors import UserError
from alexnet.training.build import build
from alexnet.training.spec import RunSpec
from alexnet.training.state import Diverged

VARIANTS = (
    "trivial_augment=true", "erase_probability=0.5", "mixup_alpha=0.2", "cutmix_alpha=1",
    "mixup_alpha=0.2 cutmix_alpha=1", "class_weights=balanced", "ema_decay=0.999", "clip_norm=1", "early_stop_epochs=5")
"""Settings that are compared with none: the values of the papers, where they state one."""


class RunResult(TypedDict):
    """A finished run, as it stands in the file."""

    data: str
    """Fingerprint of the images and of their division."""
    arch: str
    epochs: int
    settings: str
    """What differs from the plain recipe; empty: nothing."""
    seed: int
    top1_error: float | None
    """On the held-out images; None if the run has diverged."""
    loss: float | None
    seconds: float
    machine: str
    torch: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--runs", type=Path, required=True, help="JSON file of the finished runs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--arch", default="small")
    parser.add_argument("--side", type=int, default=64, help="pixels per side of the stored images")
    parser.add_argument("--variant", action="append", help="settings of the recipe; may be given several times")
    parser.add_argument("--folds", type=int, default=5, help="one fold in so many is held out")
    parser.add_argument("--keep", type=float, default=1.0, help="fraction of every second class's training images")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    try:
        network = override(arch(options.arch), [f"input.side={options.side}", f"input.crop={options.side * 7 // 8}"])
        plain = replace(default_recipe(network), epochs=options.epochs)
        recipes = {"": plain}
        for settings in options.variant or VARIANTS:
            recipes[settings] = override(plain, settings.split(), "recipe.")
        with tempfile.TemporaryDirectory() as folder:
            data = training_images(options.images, Path(folder) / "data", options.side, options.folds, options.keep)
            print(f"{data.division}; {options.arch}, {options.epochs} epochs")
            results = run_missing(data, network, recipes, range(options.seeds), options.runs, options.device)
    except UserError as error:
        parser.error(str(error))
    print(table(results, list(recipes)[1:]))


@dataclass(frozen=True)
class Unbalanced(FoldedDataset):
    """A fold whose second, fourth, ... classes keep a part of their training images."""

    keep: float = 1.0

    def split(self, *names: str) -> PackedSplit:
        split = super().split(*names)
        if names != ("train",):
            return split
        kept = [rows[: math.ceil(self.keep * len(rows))] if label % 2 else rows
                for label in np.unique(split.labels) for rows in [np.flatnonzero(split.labels == label)]]
        return split.subset(np.sort(np.concatenate(kept)))

    @property
    def counts(self) -> dict[str, int]:
        return super().counts | {"train": len(self.split("train"))}

    @property
    def fingerprint(self) -> str:
        return super().fingerprint + (f" keep {self.keep:g}" if self.keep < 1 else "")


def training_images(source: Path, dest: Path, side: int, folds: int, keep: float) -> FoldedDataset:
    """The training images alone, of which the first fold is the validation set."""
    dataset = open_dataset(source)
    fold = folded(pack(replace(dataset, splits={"train": dataset.splits["train"]}, held_out=0.0), dest, side=side), 1,
                  folds)
    return Unbalanced(**{field.name: getattr(fold, field.name) for field in fields(fold)}, keep=keep)


def run_missing(
    data: FoldedDataset, network: Arch, recipes: dict[str, Recipe], seeds: Sequence[int], file: Path, device: str,
) -> list[RunResult]:
    """Train what is not yet in the file, which gets each run when it ends. Returns the runs that were asked for."""
    runs: list[RunResult] = json.loads(file.read_text()) if file.exists() else []
    asked = []
    for seed in seeds:
        for settings, recipe in recipes.items():
            found = next((run for run in runs if (run["data"], run["arch"], run["epochs"], run["settings"], run["seed"])
                          == (data.fingerprint, network.name, recipe.epochs, settings, seed)), None)
            if found is None:
                found = train(data, network, recipe, settings, seed, device)
                runs.append(found)
                replace_durably(file, (json.dumps(runs, indent=1) + "\n").encode())
            asked.append(found)
            error = "diverged" if found["top1_error"] is None else f"{found['top1_error']:.2%} top-1 error"
            print(f"seed {seed}, {settings or 'plain'}: {error}, {found['seconds']:.0f} s", flush=True)
    return asked


def train(data: FoldedDataset, network: Arch, recipe: Recipe, settings: str, seed: int, device: str) -> RunResult:
    """One run, whose folder is deleted."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        spec = RunSpec(data, network, recipe, Path(folder) / "run", seed=seed, device=device, precision="auto")
        try:
            errors = build(spec).fit()
            error, loss = errors.top1_error, errors.loss
        except Diverged:
            error = loss = None
    return {"data": data.fingerprint, "arch": network.name, "epochs": recipe.epochs, "settings": settings,
            "seed": seed, "top1_error": error, "loss": loss, "seconds": time.perf_counter() - began,
            "machine": describe_machine(device), "torch": torch.__version__}


def paired_interval(differences: Sequence[float]) -> tuple[float, float]:
    """The 95% interval of the mean of paired differences, by Student's t; infinite for less than two."""
    from scipy import stats

    if len(differences) < 2:
        return -math.inf, math.inf
    mean = statistics.mean(differences)
    half = stats.t.ppf(0.975, len(differences) - 1) * statistics.stdev(differences) / math.sqrt(len(differences))
    return mean - half, mean + half


def table(runs: Sequence[RunResult], variants: Sequence[str]) -> str:
    """One line for the plain recipe, and one for each variant: its mean difference, and the interval, in points."""
    errors = {(run["settings"], run["seed"]): run["top1_error"] for run in runs if run["top1_error"] is not None}
    diverged = [f"{run['settings'] or 'plain'} (seed {run['seed']})" for run in runs if run["top1_error"] is None]
    plain = {seed: error for (settings, seed), error in errors.items() if not settings}
    lines = [f"plain: {100 * statistics.mean(plain.values()):.2f}% mean top-1 error over {len(plain)} seeds"
             if plain else "plain: no run ended"]
    for variant in variants:
        differences = [100 * (error - plain[seed]) for (settings, seed), error in errors.items()
                       if settings == variant and seed in plain]
        if not differences:
            lines.append(f"{variant}: no pair of runs ended")
            continue
        low, high = paired_interval(differences)
        interval = (f"95% {low:+.2f} to {high:+.2f}, {len(differences)} seeds" if math.isfinite(low)
                    else "one seed, so no interval")
        lines.append(f"{variant}: {statistics.mean(differences):+.2f} points, {interval}")
    return "\n".join([*lines, *([f"diverged, and left out: {', '.join(diverged)}"] if diverged else [])])


if __name__ == "__main__":
    main()
