"""`alexnet.evaluate`: measure one trained network or several on the images that none of them was trained on."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet._runtime.notes import say, silent
from alexnet.api.opening import open_data
from alexnet.errors import UserError, require

if TYPE_CHECKING:  # these import torch
    from torch import Tensor

    from alexnet.api.measurement import MeasuredErrors
    from alexnet.data.packed import PackedDataset, PackedSplit
    from alexnet.inference.metrics import Errors
    from alexnet.inference.predictor import Model
    from alexnet.inference.selection import Selection
    from alexnet.inference.validation import ValidationPredictions


@dataclass(frozen=True)
class EvaluationSet:
    """Images to evaluate networks on, and how their classes map to those of the networks."""

    packed: PackedDataset
    images: PackedSplit
    """Those to measure only."""
    label_map: Tensor
    """int64 [classes of the data] -> class of the networks."""
    selection: Selection
    """How the images were chosen: without those that a network was trained on, by default."""
    look_alikes: PackedSplit | None = None
    """The images that were left out because they look like training images, if that was asked for."""


@dataclass(frozen=True)
class Evaluation:
    """Errors of networks, averaged if they are several, and what they were measured on."""

    errors: Errors
    """Sums and counts over all images, on every rank."""
    models: list[Model]
    measured: EvaluationSet
    predictions: ValidationPredictions | None
    """For each image, if they were collected."""
    look_alike_errors: Errors | None = None
    """Those of `EvaluationSet.look_alikes`, which `errors` does not contain."""


def evaluate(
    models: str | Path | Model | Sequence[str | Path | Model], data: str | Path, *, labels: str | Path | None = None,
    group: str | None = None, views: int = 1, split: str | None = None, include_trained: bool = False,
    exclude_look_alikes: bool = False, batch_size: int = 128, device: str = "auto", fast: bool = False,
    progress: bool = True,
) -> MeasuredErrors:
    """Measure loss, top-1 and top-5 error of a trained network, or of several as an ensemble.

    Images that one of the networks was trained on are recognized by their content and left out; a note says how many.

    Args:
        models: A checkpoint, a run folder, a loaded model, or several of them, whose outputs are averaged (§6).
        data: A folder or archive of images, a packed folder, `cifar10`, `cifar100`, `embedded`, or the URL of a
            packed folder.
        labels: As for `train`.
        group: As for `train`: which images belong together. Intervals are then over groups. Default: the groups of the
            run, if they fit the data; a packed folder has its own.
        views: 1: the center crop. 10: the average over four corners and the center, and their mirror images (§4.1).
        split: Default: `val`, or all images of data without a validation split of its own. `train` includes the
            images that were trained on.
        include_trained: Measure the images that a network was trained on as well, which is no test error.
        exclude_look_alikes: Leave out images that look like a training image, too: saved again, resized, mirrored.
        batch_size: Images that go through the network at a time. It does not change the result.
        device: `auto`, `cpu`, `cuda` or `cuda:1`. A loaded model stays on its device, and the others join it.
        fast: Evaluate in bf16 and int8.
        progress: Print notes and a progress bar on standard error.

    Returns:
        Sums and counts over all images, on every rank where torchrun started several; its `measurement` names the
        checkpoints with epoch and SHA-256, the data, the splits and the version.
    """
    from alexnet.api.measurement import MeasuredErrors, measurement_of

    paths = [models] if isinstance(models, str | Path) or not isinstance(models, Sequence) else list(models)
    evaluation = evaluate_models(
        paths, data, labels=labels, group=group, views=views, split=split, include_trained=include_trained,
        exclude_look_alikes=exclude_look_alikes, batch_size=batch_size, device=device, fast=fast, progress=progress)
    if progress:
        say(evaluation.measured.selection.describe())
    return MeasuredErrors(**vars(evaluation.errors), measurement=measurement_of(
        evaluation.models, evaluation.measured.packed, split))


def evaluate_models(
    models: Sequence[str | Path | Model], data: str | Path, *, views: int, split: str | None, include_trained: bool,
    batch_size: int, device: str, fast: bool, progress: bool, labels: str | Path | None = None, collect: bool = False,
    classes: Sequence[str] | None = None, exclude_look_alikes: bool = False, group: str | None = None,
) -> Evaluation:
    """As `evaluate`, with the models that were loaded and the images that were measured.

    Args:
        collect: keep the probabilities of each image: 4 bytes for each image and class, in each process.
        classes: names of the networks' outputs; default: those that come with the weights.
    """
    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.inference.evaluate import evaluate as measure
    from alexnet.inference.validation import PredictionCollector
    from alexnet.training.parallel.shared_job import require_same_job, shared_job

    def open_all() -> tuple[list[Model], EvaluationSet]:
        loaded = load_ensemble(models, str(processes.device), fast, classes)
        return loaded, open_evaluation_set(loaded, data, split, include_trained, note=say if progress else silent,
                                           labels=labels, exclude_look_alikes=exclude_look_alikes, group=group)

    on_device = [str(model.preprocess.mean_HWC.device) for model in models if not isinstance(model, str | Path)]
    with shared_job(on_device[0] if on_device else choose_device(device)) as processes:
        loaded, evaluation_set = processes.local_rank0_first(open_all)
        require_same_job(processes, loaded, {"data": evaluation_set.packed.fingerprint,
                                         "options": [views, split, include_trained, exclude_look_alikes, batch_size,
                                                     fast]})
        collector = PredictionCollector(evaluation_set.images, loaded[0].classes) if collect else None
        bar = Bar(f"evaluating, {views} view{'s' * (views != 1)}", "images") if progress and processes.first else None
        measured = partial(
            measure, [(model.inference_network, model.preprocess) for model in loaded], views=views,
            batch_size=batch_size, device=processes.device, total=processes.sum_errors, over_ranks=processes.sum_counts,
            label_map=evaluation_set.label_map, share=(processes.rank, processes.size))
        with bar or nullcontext():
            errors = measured(evaluation_set.images, on_progress=bar, on_outputs=collector)
        left_out = evaluation_set.look_alikes
        look_alike_errors = measured(left_out) if left_out is not None and len(left_out) else None
        if collector and processes.size > 1:
            collector.add_up(lambda outputs: processes.all_reduce_sum(outputs.to(processes.device)).cpu())
    return Evaluation(errors, loaded, evaluation_set,
                      collector.predictions(evaluation_set.selection, evaluation_set.label_map) if collector else None,
                      look_alike_errors)


def load_ensemble(
    models: Sequence[str | Path | Model], device: str, fast: bool = False, classes: Sequence[str] | None = None,
) -> list[Model]:
    """The models, loaded. Raises UserError for models whose outputs cannot be averaged, with both values."""
    from alexnet.inference.predictor import Model, load_model

    loaded = [model if isinstance(model, Model) else load_model(model, device, fast, classes) for model in models]
    names = [str(model.path) if isinstance(model, Model) else str(model) for model in models]
    first = loaded[0]
    for model, name in zip(loaded, names, strict=True):
        require(len(model.classes) == len(first.classes), f"{name} has {len(model.classes)} classes and {names[0]} has "
                f"{len(first.classes)}", "average only networks with the same classes")
        for ours, theirs in zip(model.classes, first.classes, strict=True):
            require(ours == theirs, f"{name} has the class {ours!r} where {names[0]} has {theirs!r}",
                    "average only networks with the same classes")
        side, first_side = model.preprocess.spec.side, first.preprocess.spec.side
        require(side == first_side, f"{name} takes images of {side} pixels and {names[0]} of {first_side}",
                "average only networks with the same image side")
    return loaded


def open_evaluation_set(
    models: Sequence[Model], data: str | Path, split: str | None = None, include_trained: bool = False,
    note: Callable[[str], None] = say, labels: str | Path | None = None, exclude_look_alikes: bool = False,
    group: str | None = None,
) -> EvaluationSet:
    """The images of DATA that none of the models was trained on, as `selection.evaluation_images` chooses them.

    Raises:
        UserError: the models lack a class of the data, or have no class names; nothing has been packed.
    """
    from alexnet.inference.classes import map_labels
    from alexnet.inference.selection import evaluation_images, left_out_look_alikes

    require(not (include_trained and exclude_look_alikes), "--include-trained measures training images, and "
            "--exclude-look-alikes leaves out what only looks like one", "choose one of them")
    open_packed = partial(open_data, data, models[0].preprocess.spec.side, note=note, division=split is not None,
                          progress=note is not silent, labels=labels, check_classes=partial(map_labels, models[0]),
                          splits=(split,) if split else ())
    packed = open_packed(group=group) if group else _open_by_groups_of_run(models, data, open_packed, note)
    label_map = map_labels(models[0], packed.classes)
    for line in dict.fromkeys(line for model in models for line in model.notes):
        note(f"note: {line}")
    images, selection = evaluation_images(packed, [model.seen for model in models], split, include_trained,
                                          exclude_look_alikes)
    return EvaluationSet(packed, images, label_map, selection,
                         left_out_look_alikes(packed, selection, split) if exclude_look_alikes else None)


def _open_by_groups_of_run(
    models: Sequence[Model], data: str | Path, open_packed: Callable[..., PackedDataset], note: Callable[[str], None],
) -> PackedDataset:
    """DATA by the groups of the first model that was trained with --group; without groups, where these do not fit it.

    Args:
        models: loaded.
        data: what the user calls it.
        open_packed: opens it; takes `group`.
        note: called with a line on the groups.
    """
    from alexnet.training.run_folder import group_of, read_config

    run, group = None, None
    for model in models:
        with suppress(UserError):  # the checkpoint is not in a run folder
            if model.path is not None and group is None:
                run, group = model.path.parent, group_of(read_config(model.path.parent), data)
    if group is None:
        return open_packed()
    try:
        packed = open_packed(group=group)
    except UserError as error:
        packed = open_packed()
        note(f"note: the groups of {run} are not used, so the intervals take the images as independent: "
             f"{error.problem}")
    else:
        note(f"note: images are in the groups of {run} (--group {shlex.quote(group)})")
    return packed
