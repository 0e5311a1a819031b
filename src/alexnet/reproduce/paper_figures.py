"""Runs, networks, checkpoints and images -> the paper's four figures, from what those hold and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from alexnet.architecture.spec import Arch
from alexnet.data.packed import PackedDataset, PackedSplit
from alexnet.inference.neighbors import Neighbor, find_neighbors, split_features
from alexnet.inference.predictor import Model, model_from_checkpoint
from alexnet.inference.validation import EXAMPLES, predict_validation, printable
from alexnet.models import checkpoint as ckpt
from alexnet.reproduce import plots
from alexnet.training.run_folder import read_config, read_log

NEAR = 6
"""Images beside each in Figure 4."""

BESIDE = 5
"""Images of Figure 4 that have others beside them."""


def figure1(runs: Sequence[Path], names: Sequence[str] = ()) -> Figure:
    """Training error over epochs, the first run solid, the second dashed. names: unless given, the runs' folders and
    activations."""
    if twice := [run for place, run in enumerate(runs) if run.resolve() in {other.resolve() for other in runs[:place]}]:
        raise ValueError(f"{twice[0]} stands twice; name each run once")
    logs = [_epochs(run) for run in runs]
    folders = [run.resolve().name for run in runs]
    folders = folders if len(set(folders)) == len(runs) else [str(run) for run in runs]
    own = [read_config(run)["arch"]["activation"] for run in runs]
    names = names or [f"{folder}, {'ReLU' if unit == 'relu' else unit}"
                      for folder, unit in zip(folders, own, strict=True)]
    return plots.training_errors(dict(zip(names, logs, strict=True)))


def _epochs(run: Path) -> list[tuple[float, float]]:
    """(epoch, training error) of a run's log, and blind guessing's at 0."""
    events = read_log(run)
    epochs = {event["epoch"]: event["train_error"] for event in events if event["event"] == "epoch"}
    classes = next((event["classes"] for event in events if event["event"] == "start"), 0)
    if not epochs:
        raise ValueError(f"{run} has no finished epoch to draw; let it train one to its end")
    return [*([(0.0, 1 - 1 / classes)] if classes else []), *sorted(epochs.items())]


def figure3(saved: ckpt.Checkpoint) -> Figure:
    """conv1's kernels, tower by tower, with the share of them that is color."""
    return plots.kernel_plate(conv1_in_rgb(saved), towers_of_conv1(saved.arch))


def conv1_in_rgb(saved: ckpt.Checkpoint) -> NDArray[np.float32]:
    """The first convolution's weights [O, 3, H, W], red first whatever the network takes first."""
    arch = saved.arch
    weight_OIHW = saved.weights[f"features.{0 if arch.state_keys == 'torchvision' else 'conv1'}.weight"].numpy()
    return weight_OIHW[:, ::-1] if arch.input.channels == "BGR" else weight_OIHW


def towers_of_conv1(arch: Arch) -> int:
    return math.gcd(arch.conv[0].width, arch.towers)


def figure4(
    saved: ckpt.Checkpoint, packed: PackedDataset, on_progress: Callable[[int, int], object] | None = None,
) -> Figure:
    """Eight validation images with their likeliest classes, and the training images nearest to five of them.

    Evenly spaced, not picked. Raises ValueError where the data has no validation images.
    """
    answers = predict_validation(saved, packed, EXAMPLES)
    if answers is None:
        raise ValueError("the data has no validation images to show; give data with a val/ folder")
    rows = answers.examples
    pixels_NHWC = answers.split.read(answers.indices_M[rows])
    near = nearest_in_training(model_from_checkpoint(saved), packed, list(pixels_NHWC[:BESIDE]), on_progress=on_progress)
    train = packed.split("train")
    return plots.figure4(
        (pixels_NHWC, answers.probabilities_MK[rows], answers.labels_M[rows].tolist(), answers.classes),
        rows_beside(list(pixels_NHWC[:BESIDE]), [answers.classes[answers.labels_M[row]] for row in rows[:BESIDE]],
                    near, train))


def rows_beside(
    asked: Sequence[NDArray[np.uint8]], truths: Sequence[str], near: Sequence[Sequence[Neighbor]], split: PackedSplit,
    files: Sequence[str] = (),
) -> list[plots.Row]:
    """What `figures.beside` draws: each image under its true class, and those nearest to it with their distances.

    truths: "" where the class is not known; then its file stands there.
    """
    distances = iter(plots.alike([one.distance for found in near for one in found]))
    rows: list[plots.Row] = []
    for pixels_HWC, truth, file, found in zip(asked, truths, files or [""] * len(asked), near, strict=True):
        shown = plots.Shown(pixels_HWC, truth or file, file if truth else "")
        rows.append((shown, [plots.Shown(split.read_one(one.index), printable(one.label), next(distances),
                                           printable(one.label) == truth) for one in found]))
    return rows


def nearest_in_training(
    model: Model, packed: PackedDataset, images: Sequence[NDArray[np.uint8]], *, reference_set: int | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> list[list[Neighbor]]:
    """The NEAR training images nearest to each in the last hidden layer, of all or of a `sample` of `among`.

    Without `among` the features are kept in the cache; with it, as a report looks at them once, they are not.
    """
    split = packed.split("train")
    indices = split.sample(reference_set or len(split))
    kept = "" if reference_set else f"{packed.fingerprint} train"
    features_ND = split_features(model, split, cache_key=kept, indices=indices, on_progress=on_progress)
    return find_neighbors(model.features(list(images)), features_ND, split, packed.classes, NEAR, indices)


def save(figure: Figure, stem: Path) -> list[Path]:
    """STEM.png and STEM.svg; returns both. A stem that ends in .png or .svg gives that file alone."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    files: dict[str, Any] = {
        ".png": lambda: plots.png(figure),
        ".svg": lambda: plots.svg(figure, stem.stem, standalone=True).encode(),
    }
    if stem.suffix in files:
        files, stem = {stem.suffix: files[stem.suffix]}, stem.with_suffix("")
    paths = []
    for suffix, made in files.items():
        paths.append(stem.with_name(stem.name + suffix))
        paths[-1].write_bytes(made())
    return paths
