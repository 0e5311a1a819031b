"""`alexnet.evaluate`: measure one trained network or several on the images that none of them was trained on."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet._runtime.arguments import data_name, optional_text, weights_name, whole_number
from alexnet._runtime.notes import say, silent
from alexnet.api.opening import open_data
from alexnet.errors import UserError, require

if TYPE_CHECKING:  # these import torch
    from torch import device as Device

    from alexnet.api.measurement import Evaluation, EvaluationSet, MeasuredErrors
    from alexnet.data.packed import PackedDataset
    from alexnet.inference.predictor import Model

    Weights = str | PathLike[str] | Model
    """A trained network: its path, a name of weights, or loaded."""


def evaluate(
    models: Weights | Iterable[Weights] | None, data: str | PathLike[str], *,
    labels: str | PathLike[str] | None = None, group: str | PathLike[str] | None = None, views: int = 1,
    split: str | None = None, include_trained: bool = False, exclude_look_alikes: bool = False, batch_size: int = 128,
    device: str | Device = "auto", fast: bool = False, progress: bool = True,
) -> MeasuredErrors:
    """Measure loss, top-1 and top-5 error of a trained network, or of several as an ensemble.

    Images that one of the networks was trained on are recognized by their content and left out; a note says how many.
    The memory allocator and the threads of the process are left as they are; `alexnet evaluate` sets them.

    Args:
        models: A checkpoint, a run folder or what `train` returned, a name of weights, a loaded model, or several of
            them, whose outputs are averaged (§6). None: the pretrained network in the package.
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
        fast: Evaluate as `--fast` does: in int8 and, where the CPU has its instructions, bf16. A loaded model does so
            if it was loaded with `fast=True`.
        progress: Print notes and a progress bar on standard error.

    Returns:
        Sums and counts over all images, on every rank where torchrun started several. Its `measurement` has what
        `alexnet evaluate --json` prints beside them: the checkpoints with epoch and SHA-256, the data, which images
        were measured and left out, the temperatures, the errors of guessing, and those of look-alikes.

    Raises:
        UserError: The networks do not go together or lack a class of the data, or no image is left to measure. The
            message is that of the command line: `--include-trained` in it is the argument `include_trained`.
    """
    from alexnet.api.measurement import MeasuredErrors, measurement_of

    evaluation = evaluate_models(
        _listed(models), data, labels=labels, group=group, views=views, split=split, include_trained=include_trained,
        exclude_look_alikes=exclude_look_alikes, batch_size=batch_size, device=device, fast=fast, progress=progress)
    if progress:
        say(evaluation.measured.selection.describe())
    return MeasuredErrors(**vars(evaluation.errors), measurement=measurement_of(evaluation))


def _listed(models: Weights | Iterable[Weights] | None) -> list[Weights]:
    """The networks as a list. Raises UserError for none, and for an object that is neither weights nor several."""
    from alexnet.inference.predictor import Model
    from alexnet.models.packaged import default_weights

    if models is None:
        return [default_weights()]
    if isinstance(models, str | bytes | PathLike | Model) or not isinstance(models, Iterable):
        models = [models]
    listed: list[Weights] = [model if isinstance(model, Model) else weights_name(model) for model in models]
    require(bool(listed), "there is no network to evaluate", "give at least one")
    return listed


def evaluate_models(
    models: Sequence[Weights], data: str | PathLike[str], *, views: int, split: str | None, include_trained: bool,
    batch_size: int, device: str | Device, fast: bool, progress: bool, labels: str | PathLike[str] | None = None,
    collect: bool = False, classes: Sequence[str] | None = None, exclude_look_alikes: bool = False,
    group: str | PathLike[str] | None = None,
) -> Evaluation:
    """As `evaluate`, with the models that were loaded and the images that were measured.

    Args:
        collect: keep the probabilities of each image: 4 bytes for each image and class, in each process.
        classes: names of the networks' outputs; default: those that come with the weights.
    """
    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.api.measurement import Evaluation
    from alexnet.inference.evaluate import evaluate as measure
    from alexnet.inference.validation import PredictionCollector
    from alexnet.training.parallel.shared_job import require_same_job, shared_job

    batch_size, views = whole_number("batch_size", batch_size), whole_number("views", views, None)
    require(views in (1, 10), f"views {views} must be 1 or 10")
    data, split = data_name(data), optional_text("split", split)
    labels, group = optional_text("labels", labels), optional_text("group", group)
    loaded_before = [model for model in models if not isinstance(model, str | PathLike)]
    require(not fast or all(model.fast for model in loaded_before), "fast=True does not change a model that is loaded",
            "load it with alexnet.load(..., fast=True)")

    def open_all() -> tuple[list[Model], EvaluationSet]:
        loaded = load_ensemble(models, str(processes.device), fast, classes)
        return loaded, open_evaluation_set(loaded, data, split, include_trained, note=say if progress else silent,
                                           labels=labels, exclude_look_alikes=exclude_look_alikes, group=group)

    on_device = [str(model.preprocess.mean_HWC.device) for model in loaded_before]
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
    return Evaluation(errors, loaded, evaluation_set, views, split,
                      collector.predictions(evaluation_set.selection, evaluation_set.label_map) if collector else None,
                      look_alike_errors)


def load_ensemble(
    models: Sequence[Weights], device: str, fast: bool = False, classes: Sequence[str] | None = None,
) -> list[Model]:
    """The models, loaded. Raises UserError for models whose outputs cannot be averaged, with both values."""
    from alexnet.inference.predictor import Model, load_model

    loaded = [model if isinstance(model, Model) else load_model(model, device, fast, classes) for model in models]
    names = [str(model.path or "a model") if isinstance(model, Model) else str(model) for model in models]
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
    from alexnet.api.measurement import EvaluationSet
    from alexnet.inference.classes import map_labels
    from alexnet.inference.selection import evaluation_images, left_out_look_alikes

    require(not (include_trained and exclude_look_alikes), "--include-trained measures training images, and "
            "--exclude-look-alikes leaves out what only looks like one", "choose one of them")
    open_packed = partial(open_data, data, models[0].preprocess.spec.side, note=note, division=split is not None,
                          progress=note is not silent, labels=labels,
                          check=lambda dataset: map_labels(models[0], dataset.classes),
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
