"""How long the runs of a claim take on this machine, by some steps of each of its networks (`reproduce --plan`)."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import count, islice
from statistics import median

import torch

from alexnet._runtime.devices import Precision
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.data.loader import batches
from alexnet.data.packed import PackedDataset
from alexnet.data.preprocessing import Preprocess
from alexnet.inference.evaluate import probabilities
from alexnet.models.alexnet import AlexNet
from alexnet.reproduce.claim import Variant
from alexnet.reproduce.design import Design
from alexnet.reproduce.runs import validation_interval
from alexnet.training.optimizer import SGD
from alexnet.training.precision import MixedPrecision
from alexnet.training.step import train_step

STEPS = 3
"""Steps of each network that are timed, after one that is not: it allocates the memory."""


@dataclass(frozen=True)
class RunDuration:
    """The runs of a variant, and how long one takes."""

    variant: Variant
    runs: int
    """With the first learning rates alone."""
    seconds: float
    """Of one run: all its training steps and evaluations. If it ends at a target, at most."""


def measure_durations(design: Design, packed: PackedDataset, device: str, precision: Precision) -> list[RunDuration]:
    """Time some steps of each network that a claim trains, in a few seconds. Nothing of it is kept.

    Saving, and images that are read from a slow disk, are not in the times.
    """
    return [RunDuration(variant, runs, _run_seconds(design, variant, packed, torch.device(device), precision))
            for variant, runs in design.trainings]


def _run_seconds(
    design: Design, variant: Variant, packed: PackedDataset, device: torch.device, precision: Precision,
) -> float:
    """Of one run: the images that it trains on and that it evaluates, times the seconds of one."""
    arch, recipe = design.setup(variant)
    arch = replace(arch, classes=len(packed.classes))
    per_class = design.images_of(variant)
    images = per_class * len(packed.classes) if per_class else packed.counts["train"]
    training, evaluation = _seconds_of_an_image(arch, recipe, packed, device, precision)
    epochs = recipe.epochs
    measured = len(range(0, epochs, design.claim.curve_epochs(variant, epochs) or epochs))
    validated = len(range(0, epochs, validation_interval(epochs)))
    return epochs * images * training + (measured * images + validated * packed.counts["val"]) * evaluation


def _seconds_of_an_image(
    arch: Arch, recipe: Recipe, packed: PackedDataset, device: torch.device, precision: Precision,
) -> tuple[float, float]:
    """Of its part in a training step, and of its evaluation with one view."""
    network, preprocess = AlexNet(arch, 0).to(device), Preprocess.from_data(arch.input, packed.mean_HWC).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer, mixed_precision = SGD(network, recipe), MixedPrecision(precision, device)
    training, evaluation = list[float](), list[float]()
    endless = (batch for epoch in count()
               for batch in batches(packed.split("train"), recipe.batch_size, shuffle=(0, epoch), device=device))
    for batch in islice(endless, 1 + STEPS):
        began = _now(device)
        views_NCHW = preprocess.training_views(batch.pixels, batch.indices, recipe, 0, 0)
        train_step(network, optimizer, views_NCHW, batch.labels_N, recipe.learning_rate, mixed_precision)
        training.append((_now(device) - began) / len(batch.labels_N))
        network.eval()
        began = _now(device)
        with torch.inference_mode():
            probabilities([(network, preprocess)], batch.pixels)
        evaluation.append((_now(device) - began) / len(batch.labels_N))
        network.train()
    return median(training[1:]), median(evaluation[1:])


def _now(device: torch.device) -> float:
    """Seconds, once the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
