"""Several runs of one kind, over seeds (`train --seeds`) or folds (`train --folds`): their errors, mean and spread."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from alexnet.data.overlap import Overlap
from alexnet.inference.grouped import GroupedSample, pooled_effect
from alexnet.inference.metrics import sample_interval
from alexnet.inference.statistics import Interval
from alexnet.training.run_folder import logged, read_config, read_overlap


@dataclass(frozen=True)
class Repeat:
    """One of the runs."""

    name: str
    """"seed 0" or "fold 1"."""
    path: Path
    training_images: int
    validation_images: int
    last_error: float | None
    """Top-1 error on the validation images after the last epoch; None if the run has diverged."""
    best_error: float | None
    """The lowest after an epoch. The epoch was selected on these images, so it is slightly optimistic."""
    epochs: int = 1
    """Epochs that were trained."""
    left_out: int = 0
    """Validation images that are not counted, because the initial weights were trained on them."""
    unknown: tuple[str, ...] = ()
    """Names of initial weights whose training images are not recorded."""
    overlap: Overlap = field(default_factory=lambda: Overlap(0))
    """Validation images that are copies of training images, or look like one."""
    sample: GroupedSample | None = None
    """Groups of the validation images, if they have groups, with the design effects after the last epoch."""


@dataclass(frozen=True)
class Repeats:
    """Runs that differ in their seed, or in the fold that they are validated on."""

    kind: Literal["seed", "fold"]
    runs: tuple[Repeat, ...]

    @property
    def last_errors(self) -> list[float]:
        """Of the runs that have one."""
        return [run.last_error for run in self.runs if run.last_error is not None]

    @property
    def mean(self) -> float | None:
        """Of `last_errors`; None without any."""
        return statistics.mean(self.last_errors) if self.last_errors else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of `last_errors`, with n - 1; None for less than two."""
        return statistics.stdev(self.last_errors) if len(self.last_errors) > 1 else None

    @property
    def pooled(self) -> tuple[int, int] | None:
        """Wrong and all measured images, over all folds: each once, by a run that did not train on it.

        None for seeds, which measure the same images again, and where a fold is missing.
        """
        if self.kind == "seed" or len(self.last_errors) < len(self.runs):
            return None
        wrong = sum(round((run.last_error or 0.0) * run.validation_images) for run in self.runs)
        return wrong, sum(run.validation_images for run in self.runs)

    @property
    def pooled_groups(self) -> int | None:
        """Groups of all folds, each of which is in one fold; None for images without groups."""
        samples = [run.sample for run in self.runs if run.sample]
        return sum(sample.groups for sample in samples) if samples else None

    @property
    def pooled_interval(self) -> Interval | None:
        """95%, of the error of `pooled`."""
        if not self.pooled:
            return None
        effect = pooled_effect([(run.validation_images, run.sample.top1_design_effect if run.sample else 1.0)
                                for run in self.runs])
        groups = self.pooled_groups
        return sample_interval(*self.pooled, None if groups is None else (groups, effect))

    def to_json(self) -> dict[str, object]:
        """The runs, `mean`, `standard_deviation`, and of folds `pooled` with its 95% interval."""
        pooled, groups = self.pooled, self.pooled_groups
        measured = pooled and {"images": pooled[1], "top1_error": pooled[0] / pooled[1],
                               "interval": self.pooled_interval, **({"groups": groups} if groups else {})}
        return {
            "kind": self.kind,
            "runs": [{"name": run.name, "path": str(run.path), "training_images": run.training_images,
                      "validation_images": run.validation_images, "left_out": run.left_out,
                      **run.overlap.to_json(), "unknown_training_images": list(run.unknown),
                      "last_top1_error": run.last_error, "best_top1_error": run.best_error} for run in self.runs],
            "mean_top1_error": self.mean, "standard_deviation": self.deviation,
            "pooled": measured}


def single_run(about: Mapping[str, str] | None, options: Mapping[str, object]) -> dict[str, str]:
    """Entries for config.json in which `command` trains one of the runs, instead of all.

    Args:
        about: the entries of all runs, whose `command` has --seeds or --folds.
        options: those of the one run, by name: its seed or fold, and its folder.
    """
    entries, words, kept = dict(about or {}), shlex.split((about or {}).get("command", "")), []
    replaced = {"--seeds", "--folds", *(f"--{name}" for name in options)}
    while words:
        word = words.pop(0)
        if word in replaced:
            words = words[1:]  # its value
        elif word.partition("=")[0] not in replaced and word != "--json":
            kept.append(word)
    if kept:
        added = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        entries["command"] = shlex.join([*kept, *added])
    return entries


def read_repeats(kind: Literal["seed", "fold"], folders: Sequence[tuple[int, Path]]) -> Repeats:
    """Read the results of runs from their folders.

    Args:
        kind: what differs.
        folders: the number of each seed or fold, and the run's folder.
    """
    runs = []
    for number, folder in folders:
        config, events = read_config(folder), logged(folder)
        images = config["data"]["images"]
        epochs = [event for event in events if event["event"] == "epoch"]
        errors = [event["val_top1_error"] for event in epochs]
        is_finished = any(event["event"] == "end" for event in events)
        runs.append(Repeat(f"{kind} {number}", folder, images["train"], images["val"],
                           errors[-1] if is_finished else None, min(errors) if is_finished else None, len(errors),
                           config["data"].get("left_out", 0),
                           tuple(config.get("unknown_training_images", ())), read_overlap(config),
                           GroupedSample.from_json(epochs[-1].get("val_groups", {}) if epochs else {})))
    return Repeats(kind, tuple(runs))
