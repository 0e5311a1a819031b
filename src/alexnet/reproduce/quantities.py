"""Quantities that claims compare, measured of finished runs: errors, overfitting, epochs to a target, and others."""

from __future__ import annotations

from collections.abc import Iterable

from alexnet.data.packed import PackedDataset
from alexnet.reproduce.claim import EPOCHS_TO, Claim, Quantity
from alexnet.reproduce.finished_run import FinishedRun
from alexnet.reproduce.weight_measures import WeightMeasure, measure_weights


def quantity_names(claim: Claim) -> dict[str, str]:
    """What each quantity is called on a page."""
    return {
        "top1": "top-1 error", "errors": "top-1 error", "train": "clean training error",
        "gap": "overfitting gap", "loss": "validation loss",
        "epochs": f"{EPOCHS_TO}{claim.target or 0:.0%} clean training error",
        "recolored_rise": "rise of the error by recoloring", "norm": "alpha x sum / k"}


def weight_measures(quantities: Iterable[Quantity], views: int) -> frozenset[WeightMeasure]:
    """What must be measured of the weights for these quantities. views: of each validation image, 1 or 10."""
    return frozenset(measure for quantity in quantities if (measure := _weight_measure(quantity, views)))


def _weight_measure(quantity: Quantity, views: int) -> WeightMeasure | None:
    if quantity in ("top1", "errors"):
        return "ten_views" if views == 10 else None
    return quantity if quantity in ("recolored_rise", "norm") else None


def measure_quantity(
    quantity: Quantity, run: FinishedRun, packed: PackedDataset, *, target: float | None, views: int, device: str,
) -> float | None:
    """A quantity of a run; None: the run diverged, did not reach the target, or ended at it without validation."""
    if run.diverged:
        return None
    if quantity == "epochs":
        assert target is not None
        return run.epochs_to(target)
    if quantity == "train":
        return run.curve[-1]["train_error"]
    if run.validated is None:
        return None
    if measure := _weight_measure(quantity, views):
        return measure_weights(measure, run, packed, device)
    error = run.validated["val_top1_error"]
    recorded = {"top1": error, "errors": error, "gap": error - run.curve[-1]["train_error"],
                "loss": run.validated["val_loss"]}
    return recorded[quantity]
