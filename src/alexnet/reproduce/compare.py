"""Networks side by side (`alexnet diagnose DATA`): activations before and after some training steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count, islice

import torch

from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.data.loader import batches
from alexnet.data.packed import PackedDataset
from alexnet.data.preprocessing import Preprocess
from alexnet.errors import Finding
from alexnet.interpret.activations import ActivationReport, inspect_activations, training_views
from alexnet.interpret.health import exploding_loss, findings
from alexnet.models.alexnet import AlexNet
from alexnet.reproduce.claim import Variant
from alexnet.reproduce.claim_networks import common_setup
from alexnet.training.optimizer import SGD
from alexnet.training.precision import MixedPrecision
from alexnet.training.step import train_step

BATCH_NORM = ("arch.norm=batch", "arch.dense_norm=true")
BATCH_NORM_BEFORE_ACTIVATION = (
    *BATCH_NORM, "arch.conv1.post_ops=norm act pool", "arch.conv2.post_ops=norm act pool")
RAW_PIXELS = ("arch.norm=none", "arch.input.mean=0,0,0", "arch.input.scale=1,1,1")

COMPARED = (
    Variant("ReLU, response norm"),
    Variant("ReLU", ("arch.norm=none",)),
    Variant("ReLU, batch norm", BATCH_NORM),
    Variant("tanh", ("arch.norm=none", "arch.activation=tanh")),
    Variant("sigmoid", ("arch.norm=none", "arch.activation=sigmoid")),
    Variant("sigmoid, batch norm", (*BATCH_NORM_BEFORE_ACTIVATION, "arch.activation=sigmoid")),
    Variant("tanh, pixels of 0 to 255", (*RAW_PIXELS, "arch.activation=tanh")),
    Variant("ReLU, pixels of 0 to 255", RAW_PIXELS),
)
"""The networks compared: they show why the paper uses ReLU, and why inputs are normalized."""

MEASURED_IMAGES = 512
"""Training images that activations are measured on."""


@dataclass(frozen=True)
class BeforeAfter:
    """One network of COMPARED, before its first training step and after its last."""

    name: str
    before: ActivationReport
    after: ActivationReport | None
    """None if the loss became infinite or NaN."""
    findings: tuple[Finding, ...]


def compare_networks(
    packed: PackedDataset, *, steps: int = 150, seed: int = 0, on_progress: Callable[[int, int], object] | None = None,
) -> list[BeforeAfter]:
    """Train each network of COMPARED for `steps` steps and measure its activations before and after.

    All start from the same common network and recipe, at its first learning rate and without color noise, and are
    measured on the same 512 training images.
    """
    compared = []
    for place, variant in enumerate(COMPARED):
        arch, recipe = variant.apply(*common_setup(packed.side, 1))

        def report_step(step: int, place: int = place) -> None:
            if on_progress:
                on_progress(place * steps + step, len(COMPARED) * steps)

        arch, recipe = replace(arch, classes=len(packed.classes)), replace(recipe, lighting=0.0)
        compared.append(_train_and_measure(variant.name, arch, recipe, packed, steps, seed, report_step))
    return compared


def _train_and_measure(
    name: str, arch: Arch, recipe: Recipe, packed: PackedDataset, steps: int, seed: int,
    report_step: Callable[[int], None],
) -> BeforeAfter:
    network, preprocess = AlexNet(arch, seed), Preprocess.from_data(arch.input, packed.mean_HWC)
    optimizer, precision = SGD(network, recipe), MixedPrecision("fp32", torch.device("cpu"))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    split = packed.split("train")

    def measure() -> ActivationReport:
        torch.manual_seed(seed)  # the same dropout masks each time
        return inspect_activations(network, training_views(split, preprocess, recipe, MEASURED_IMAGES, seed=seed),
                                   rate=recipe.learning_rate, decay=recipe.weight_decay,
                                   output_decay_factor=recipe.output_decay_factor)

    before = measure()
    network.train()
    endless = (batch for epoch in count() for batch in batches(split, recipe.batch_size, shuffle=(seed, epoch)))
    for step, batch in enumerate(islice(endless, steps)):
        torch.manual_seed(step)
        views_NCHW = preprocess.training_views(batch.pixels, batch.indices, recipe, seed, 0)
        loss, _ = train_step(network, optimizer, views_NCHW, batch.labels_N, recipe.learning_rate, precision)
        if not torch.isfinite(loss):
            exploded = exploding_loss(math.nan, arch.classes, step + 1)
            assert exploded is not None
            return BeforeAfter(name, before, None, (exploded,))
        report_step(step + 1)
    after = measure()
    return BeforeAfter(name, before, after, tuple(findings(after, arch, steps)))
