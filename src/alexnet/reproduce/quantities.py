"""Quantities that claims compare, measured of finished runs: errors, overfitting, epochs to a target, and others."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from alexnet._runtime.atomic_files import replace_file
from alexnet.architecture.presets import recipe
from alexnet.data.augmentation import lighting_basis
from alexnet.data.loader import batches
from alexnet.data.packed import PackedDataset
from alexnet.inference.evaluate import ModelWithInput, evaluate
from alexnet.inference.metrics import Errors, count_errors
from alexnet.models import checkpoint as ckpt
from alexnet.models.response_norm import ResponseNorm
from alexnet.reproduce.claim import EPOCHS_TO, Claim, Quantity
from alexnet.reproduce.runs import FinishedRun

RECOLORING = 0.5
"""Standard deviation of the color noise on validation images, in principal standard deviations of the colors: five
times the training noise of §4.1, since noise as weak as that changes hardly any answer."""
RECOLORING_SEED = 0
MEASURED = "measured.json"
"""In a run's folder: what was measured of its weights afterwards."""
MEASURES_VERSION = 1
"""To be raised with every change of a measure: what `measured.json` holds of another version is measured again."""


def quantity_names(claim: Claim) -> dict[str, str]:
    """What each quantity is called on a page."""
    return {
        "top1": "top-1 error", "errors": "top-1 error", "train": "clean training error",
        "gap": "overfitting gap", "loss": "validation loss",
        "epochs": f"{EPOCHS_TO}{claim.target or 0:.0%} clean training error",
        "recolored_rise": "rise of the error by recoloring", "norm": "alpha x sum / k"}


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
    quantity = "top1" if quantity == "errors" else quantity
    error = run.validated["val_top1_error"]
    recorded = {"gap": error - run.curve[-1]["train_error"], "loss": run.validated["val_loss"]}
    if views == 1:
        recorded["top1"] = error
    if quantity in recorded:
        return recorded[quantity]
    measures: Mapping[str, Callable[[], float]] = {
        "top1": lambda: ensemble_errors([run], packed, views, device).top1_error,
        "recolored_rise": lambda: recolored_errors(load(run, device), packed, device).top1_error - error,
        "norm": lambda: norm_weight(load(run, device), packed, device)}
    key = f"{quantity}, {views} views" if quantity == "top1" else quantity
    return _cached(run.folder / MEASURED, key, measures[quantity])


def load(run: FinishedRun, device: str) -> ModelWithInput:
    """The network of a run after its last epoch."""
    saved = ckpt.load(run.folder / "last")
    return saved.network().to(device), saved.preprocess().to(device)


def ensemble_errors(runs: Sequence[FinishedRun], packed: PackedDataset, views: int, device: str) -> Errors:
    """Errors on the validation split of the average over networks and views."""
    return evaluate([load(run, device) for run in runs], packed.split("val"), views=views, device=torch.device(device))


@torch.inference_mode()
def recolored_errors(model: ModelWithInput, packed: PackedDataset, device: str) -> Errors:
    """Errors on the center crops of validation images with color noise along the principal components, always the same.

    They tell whether a network has learned what §4.1's noise is for: independence of the illumination's color.
    """
    network, preprocess = model
    noise = replace(recipe("paper"), crop="center", mirror=False, lighting=RECOLORING)
    basis_CC = lighting_basis(packed.rgb_covariance, noise.lighting_scale).to(device)
    split, errors = packed.split("val"), Errors()
    network.eval()
    for batch in batches(split, 128, device=torch.device(device)):
        views_NCHW = preprocess.training_views(batch.pixels, batch.indices, noise, RECOLORING_SEED, 0, basis_CC)
        probabilities_NK = network(views_NCHW).float().softmax(-1).cpu()
        errors += count_errors(probabilities_NK, torch.from_numpy(split.labels[batch.indices]))
    return errors


@torch.inference_mode()
def norm_weight(model: ModelWithInput, packed: PackedDataset, device: str) -> float:
    """alpha * sum / k of response normalization, mean over all maps and norms, on 512 validation images.

    It says how much §3.3's sum over neighboring maps counts beside its constant k. Near 0, response normalization is
    the constant factor k^-beta.
    """
    network, preprocess = model
    means: list[float] = []

    def record(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, ResponseNorm)
        means.append(float(norm.sums(inputs[0].float()).mean()) / norm.lrn.k - 1)

    hooks = [module.register_forward_pre_hook(record) for module in network.modules()
             if isinstance(module, ResponseNorm)]
    split = packed.split("val")
    network.eval()
    for batch in batches(split.subset(split.sample(512)), 128, device=torch.device(device)):
        network(preprocess(batch.pixels))
    for hook in hooks:
        hook.remove()
    return statistics.fmean(means) if means else 0.0


def _cached(path: Path, key: str, measure: Callable[[], float]) -> float:
    known: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if known.get("version") != MEASURES_VERSION:
        known = {"version": MEASURES_VERSION}
    if key not in known:
        known[key] = measure()
        replace_file(path, lambda new: new.write_text(json.dumps(known)))
    return known[key]
