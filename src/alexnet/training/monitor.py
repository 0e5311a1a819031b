"""What is wrong with a run while it trains: findings from the loss and from units and weights, for the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.data.packed import PackedDataset
from alexnet.data.quarantine import QUARANTINE
from alexnet.data.remarks import remark_findings
from alexnet.errors import Finding, such_as
from alexnet.inference.grouped import GroupedSample
from alexnet.interpret.activations import Signals
from alexnet.interpret.health import (
    WARM_UP_STEPS,
    exploding_loss,
    layer_findings,
    loss_finding,
    result_findings,
    useless_remedy,
)
from alexnet.training.events import EpochEvent, Event
from alexnet.training.overfitting import risen_loss_finding
from alexnet.training.state import RECENT_LOSSES, State

PROBE_STEPS = 100
"""Steps from one measurement of units and weights (`ActivationProbe`) to the next."""


class Monitor:
    """Findings of one run.

    Args:
        arch: its network.
        is_pretrained: whether it starts from trained weights.
        recipe: its recipe, if known, so that nothing is recommended that it has.
        validation_images: how many it has, if known, as `calibrate` needs some.
    """

    def __init__(self, arch: Arch, is_pretrained: bool = False, recipe: Recipe | None = None,
                 validation_images: int | None = None) -> None:
        self.arch, self.is_pretrained, self.recipe = arch, is_pretrained, recipe
        self.validation_images = validation_images
        self.is_head = recipe is not None and recipe.optimizer == "lbfgs"
        self._reported: set[str] = set()
        self.epochs: list[EpochEvent] = []
        """All epochs of the run so far."""

    def recall(self, events: Iterable[Event]) -> None:
        """Take over what a resumed run has logged before: its epochs, and the kinds of its warnings."""
        for event in events:
            if event["event"] == "epoch":
                self.epochs.append(event)
            elif event["event"] == "warning":
                self._reported.add(event["kind"])

    def loss_findings(self, step: int, losses: Sequence[float]) -> list[Finding]:
        """Report every `RECENT_LOSSES` steps a loss that explodes or does not fall.

        Args:
            losses: `State.recent_losses`.
        """
        if step % RECENT_LOSSES:
            return []
        finding = loss_finding(sum(losses) / len(losses), self.arch.classes, step, self.arch.norm)
        return [finding] if finding else []

    def epoch_findings(self, epoch: EpochEvent) -> list[Finding]:
        """Record an epoch; report once that the loss has risen. `result_findings` reports how far it has come."""
        self.epochs.append(epoch)
        finding = self._risen_loss()
        if finding is None or finding.kind in self._reported:
            return []
        self._reported.add(finding.kind)
        return [finding]

    def _risen_loss(self) -> Finding | None:
        if self.is_head:
            return None
        return risen_loss_finding(self.epochs, self.arch.classes, self.is_pretrained, self.recipe,
                                  self.validation_images)

    def result_findings(self, state: State, labels_N: NDArray[np.int64]) -> list[Finding]:
        """Report a finished run that has learned nothing of use, or whose validation loss has risen.

        Args:
            state: after the last epoch.
            labels_N: of the validation images.
        """
        # A short run may end before `loss_findings` is due.
        losses = state.recent_losses[len(state.recent_losses) // 2 :]
        if losses and (exploded := exploding_loss(sum(losses) / len(losses), self.arch.classes, None)):
            return [exploded]
        best = min(self.epochs, key=lambda epoch: epoch["val_top1_error"])
        found = result_findings(round(state.best_error * len(labels_N)), self.epochs[-1]["val_loss"],
                                np.bincount(labels_N).tolist(),
                                self.arch.classes, useless_remedy(self.arch.name, self.is_pretrained, self.is_head),
                                self.is_pretrained, GroupedSample.from_json(best.get("val_groups", {})))
        if risen := self._risen_loss():  # it says more than that the loss is above ln(classes)
            found = [risen, *(finding for finding in found if finding.kind != "loss_above_uniform")]
        return found

    def unit_findings(self, step: int, signals: Signals) -> list[Finding]:
        """Report saturated and dead units, each kind once, and none before the weights have settled.

        Args:
            signals: `ActivationProbe.signals()`.
        """
        if step <= WARM_UP_STEPS:
            return []
        found = [finding for finding in layer_findings(
            self.arch.activation, signals["saturated"], signals["dead"], {}, self.arch.norm)
            if finding.kind not in self._reported]
        self._reported |= {finding.kind for finding in found}
        return found


def image_findings(data: PackedDataset) -> list[Finding]:
    """Report the images that could not be decoded, and those of which something should be known."""
    return [*_left_out_findings(data), *remark_findings(data.remarks)]


def _left_out_findings(data: PackedDataset) -> list[Finding]:
    """Report the images that could not be decoded."""
    images = [image for split in data.quarantined.values() for image in split]
    if not images:
        return []
    count = f"{len(images):,} images could not be decoded and were" if len(images) > 1 else (
        "1 image could not be decoded and was")
    problem = f"{count} left out{such_as(len(images), images[0].name)}"
    return [Finding("images_left_out", "", problem, f"{data.path / QUARANTINE} lists them with the reasons")]
