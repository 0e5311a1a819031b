"""What claims measure of a run's weights: errors with ten views or recolored images, LRN's weight, color of the towers.

Each value is stored in the run's folder, so that a run without its weights (`run_archive`) still has it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from alexnet._runtime.atomic_files import replace_file
from alexnet.architecture.recipe_presets import recipe
from alexnet.data.augmentation import lighting_basis
from alexnet.data.loader import batches
from alexnet.data.packed import PackedDataset
from alexnet.inference.evaluate import ModelWithInput, evaluate
from alexnet.inference.metrics import Errors, count_errors
from alexnet.models import checkpoint as ckpt
from alexnet.models.response_norm import ResponseNorm
from alexnet.reproduce.figures.figure3 import colorfulness, conv1_in_rgb
from alexnet.reproduce.finished_run import FinishedRun

WeightMeasure = Literal["ten_views", "recolored_rise", "norm", "least_color", "most_color"]
"""A value that needs the weights of the last epoch:

ten_views: top-1 error on the validation split, averaged over ten views
recolored_rise, norm: see `claim.Quantity`
least_color, most_color: share of color in the kernels of conv1 (`figure3.colorfulness`), in the tower that has the
    least of it and in the one that has the most
"""
TOWER_COLOR: tuple[WeightMeasure, WeightMeasure] = ("least_color", "most_color")
"""Measured of every run of a network with towers whose weights are there (§6.1), and not needed of any."""
RECOLORING = 0.5
"""Standard deviation of the color noise on validation images, in principal standard deviations of the colors: five
times the training noise of §4.1, since noise as weak as that changes hardly any answer."""
RECOLORING_SEED = 0
MEASURED = "measured.json"
"""In a run's folder: what was measured of its weights."""
MEASURES_VERSION = 2
"""To be raised with every change of a measure: what `measured.json` holds of another version is measured again."""


def measured(folder: Path) -> dict[str, float]:
    """What has been measured of a run's weights by this version, by `WeightMeasure`."""
    path = folder / MEASURED
    known: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return known if known.pop("version", None) == MEASURES_VERSION else {}


def write_measured(folder: Path, values: Mapping[str, float]) -> None:
    """Store what was measured of a run's weights."""
    text = json.dumps({"version": MEASURES_VERSION, **values})
    replace_file(folder / MEASURED, lambda path: path.write_text(text))


def measure_weights(what: WeightMeasure, run: FinishedRun, packed: PackedDataset, device: str) -> float:
    """Measure a value, or read it where it has been measured. The run was validated after its last epoch."""
    assert run.validated is not None
    error = run.validated["val_top1_error"]
    measures: Mapping[WeightMeasure, Callable[[], float]] = {
        "ten_views": lambda: ensemble_errors([run], packed, 10, device).top1_error,
        "recolored_rise": lambda: recolored_errors(load(run, device), packed, device).top1_error - error,
        "norm": lambda: norm_weight(load(run, device), packed, device),
        "least_color": lambda: min(tower_colors(run)), "most_color": lambda: max(tower_colors(run))}
    known = measured(run.folder)
    if what not in known:
        write_measured(run.folder, known := {**known, what: measures[what]()})
    return known[what]


def load(run: FinishedRun, device: str) -> ModelWithInput:
    """The network of a run after its last epoch."""
    saved = ckpt.load(run.folder / "last")
    return saved.network().to(device), saved.preprocess().to(device)


def tower_colors(run: FinishedRun) -> list[float]:
    """The share of color in conv1's kernels in each tower, after the last epoch: fractions."""
    saved = ckpt.load(run.folder / "last")
    return colorfulness(conv1_in_rgb(saved), saved.arch.towers)


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
