"""Report sections on training: the data, learning curves, diagnosis, warnings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from alexnet.errors import Finding, plural
from alexnet.inference.validation import printable
from alexnet.interpret.health import HEALTHY, WARM_UP_STEPS, chance_finding, layer_findings, loss_finding
from alexnet.reproduce.figures.learning_curves import PANELS, CurveKey, learning_curves
from alexnet.reproduce.figures.svg import svg
from alexnet.reproduce.report.result_section import result
from alexnet.reproduce.report.run_data import RunData, finding_of
from alexnet.training.events import EpochEvent


@dataclass(frozen=True)
class DataNotes:
    """What the data was understood to be, and what of it is not used."""

    source: str
    notes: Sequence[str]


def data(run: RunData) -> DataNotes | None:
    """The notes in the log of the last start; None for a log without."""
    notes = next((event.get("notes") for event in reversed(run.events) if event["event"] == "start"), None)
    return DataNotes(printable(run.config["data"]["source"]), list(map(printable, notes))) if notes else None


@dataclass(frozen=True)
class CurvePanel:
    """A figure and its text alternative."""

    alt: str
    svg: Markup


@dataclass(frozen=True)
class Curves:
    """Learning curves, and the numbers that they draw."""

    error: CurvePanel | None
    """None if there are no curves: `train --head` fits the output layer in one pass."""
    panels: Sequence[CurvePanel]
    """Loss and learning rate."""
    uniform_loss: float
    """The loss of the same probability for every class, in nats."""
    epochs: Sequence[EpochEvent]
    label_smoothing: float
    is_mirrored: bool
    """The training images were mirrored, too."""
    mixes_images: bool
    """Whether the training images were mixed with others, by mixup or CutMix."""


def curves(run: RunData) -> Curves:
    """One figure for each panel, so that narrow screens show them one below the other."""
    epochs, recipe = run.epochs, run.config["recipe"]

    def ends(key: CurveKey) -> str:
        return f"from {epochs[0][key]:.3g} to {epochs[-1][key]:.3g}"

    def draw(name: str) -> CurvePanel:
        panel = PANELS[name]
        values = (f"training {ends(panel.training)}, validation {ends(panel.validation)}" if panel.validation
                  else ends(panel.training))
        return CurvePanel(f"{panel.title} over {plural(len(epochs), 'epoch')}: {values}",
                          Markup(svg(learning_curves(epochs, [name]))))

    return Curves(
        None if run.is_head else draw("error"), [] if run.is_head else [draw("loss"), draw("learning_rate")],
        math.log(run.checkpoint.arch.classes), epochs, recipe.get("label_smoothing", 0),
        bool(recipe.get("mirror", True)), run.mixes_images)


@dataclass(frozen=True)
class Diagnosis:
    """What the latest measurement of activations and updates says of the network's health."""

    findings: Sequence[Finding]
    too_short: bool
    """The measurement was made while the weights had not settled, so layers are not judged."""
    warm_up_steps: int
    healthy: str
    """The sentence to show without findings."""
    step: int
    activation: str
    layers: Sequence[tuple[str, float, float]]
    """Layer, share of saturated values (of ReLUs: zeros), share of dead units."""
    update_ratios: dict[str, float]
    """Layer -> mean absolute update over mean absolute weight."""


def diagnosis(run: RunData) -> Diagnosis | None:
    """Judge the latest `signals` event of the log; None if there is none."""
    if not (signals := run.signals):
        return None
    arch, last, epoch = run.checkpoint.arch, signals[-1], run.epochs[-1]
    loss = loss_finding(epoch["train_loss"], arch.classes, epoch["step"], arch.norm)
    too_short = last["step"] <= WARM_UP_STEPS
    layers = [] if too_short else layer_findings(
        arch.activation, last["saturated"], last["dead"], last["ratio"], arch.norm)
    shown = result(run)
    top1 = shown.errors[0][1][0]
    chance = None if loss and loss.kind == "exploding" else chance_finding(
        f"{shown.measured_images:,} validation images", top1.error, top1.interval, shown.guessing_error,
        epoch["train_loss"], arch, epoch["step"])
    return Diagnosis(
        [*(finding for finding in [chance or loss] if finding), *layers], too_short, WARM_UP_STEPS, HEALTHY,
        last["step"], arch.activation,
        [(name, share, last["dead"][name]) for name, share in last["saturated"].items()], last["ratio"])


@dataclass(frozen=True)
class Warnings:
    """Warnings of the log, and how far the run came."""

    findings: Sequence[tuple[int, Finding]]
    """Step and finding."""
    epoch: int
    epochs: int
    stopped_early: int
    """Epochs without a lower validation error after which the run ended; 0 if it did not end in this way."""


def warnings(run: RunData) -> Warnings:
    """Every warning in the log."""
    recipe = run.config["recipe"]
    return Warnings([(event["step"], finding_of(event)) for event in run.warnings], run.epochs[-1]["epoch"],
                    recipe["epochs"], recipe.get("early_stop_epochs", 0) if run.stopped_early else 0)
