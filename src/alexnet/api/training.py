"""`alexnet.train` and `TrainedRun`: train a network on a data set, once or several times, and write run folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from alexnet._runtime.arguments import data_name, optional_text, plain, real_number, weights_name, whole_number
from alexnet._runtime.cpu_threads import loader_threads
from alexnet._runtime.notes import say, silent
from alexnet.api.opening import open_data
from alexnet.architecture.network_presets import TORCHVISION
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.errors import UserError, require

if TYPE_CHECKING:  # these import torch
    from torch import device as Device

    from alexnet.data.dataset import Dataset
    from alexnet.data.overlap import Overlap
    from alexnet.data.packed import PackedDataset
    from alexnet.inference.metrics import Errors
    from alexnet.inference.predictor import Model
    from alexnet.models.alexnet import AlexNet
    from alexnet.models.checkpoint import Checkpoint
    from alexnet.training.events import EpochEvent, WarningEvent
    from alexnet.training.parallel.plan import Parallel
    from alexnet.training.parallel.process_group import ProcessGroup
    from alexnet.training.progress_bar import TrainingBar
    from alexnet.training.repeats import Repeats
    from alexnet.training.request import TrainRequest
    from alexnet.training.trainer import Trainer
    from alexnet.training.transform import Transform


@dataclass(frozen=True)
class TrainedRun:
    """A finished training run. Its folder holds `best/`, `last/`, `log.jsonl`, `config.json` and `report.html`.

    It stands for this folder: `alexnet.evaluate(run, data)`, `alexnet.load(run)`, `alexnet.train(data, init=run)`.
    """

    path: Path
    """The run folder."""

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def report(self) -> Path:
        """The HTML report: results, curves, filters of conv1, the most confident mistakes."""
        return self.path / "report.html"

    @cached_property
    def metrics(self) -> Errors:
        """Validation loss, top-1 and top-5 error of the best epoch, whose weights `model` has."""
        from alexnet.inference.metrics import Errors

        return Errors.from_json(self._best.errors)

    @property
    def best_epoch(self) -> int:
        """Number of the epoch with the lowest validation error, from 1."""
        return self._best.training["epoch"]

    @cached_property
    def history(self) -> list[EpochEvent]:
        """What log.jsonl says of each validated epoch: `epoch`, `train_loss`, `val_loss`, `val_top1_error`, ..."""
        from alexnet.training.run_folder import read_log

        return [event for event in read_log(self.path) if event["event"] == "epoch"]

    @cached_property
    def warnings(self) -> list[WarningEvent]:
        """What log.jsonl warns of, each with `problem` and `remedy`: of the data, and of the training."""
        from alexnet.training.run_folder import read_log

        return [event for event in read_log(self.path) if event["event"] == "warning"]

    @cached_property
    def overlap(self) -> Overlap:
        """Validation images that are copies of training images, or look like one: `describe()` says it in words."""
        from alexnet.training.run_folder import read_config, read_overlap

        return read_overlap(read_config(self.path))

    @cached_property
    def model(self) -> Model:
        """The network of the best epoch with its preprocessing and classes, as `alexnet.load` gives it."""
        from alexnet.inference.predictor import load

        return load(self.path)

    @property
    def network(self) -> AlexNet:
        """The network of the best epoch, a plain `torch.nn.Module` in evaluation mode. Its input: `model.views`."""
        return self.model.network

    @cached_property
    def _best(self) -> Checkpoint:
        from alexnet.models import checkpoint

        return checkpoint.load(self.path)

    def __repr__(self) -> str:
        errors = self.metrics
        return (f"TrainedRun({str(self.path)!r}, best_epoch={self.best_epoch}, top1_error={errors.top1_error:.4f}, "
                f"top5_error={errors.top5_error:.4f}, images={errors.images})")


def train(
    data: str | PathLike[str], *, labels: str | PathLike[str] | None = None, group: str | PathLike[str] | None = None,
    arch: str | Arch | None = None, recipe: str | Recipe | None = None, epochs: int | None = None,
    lr: float | None = None, batch_size: int | None = None, weight_decay: float | None = None,
    settings: str | Sequence[str] | None = None, config: str | PathLike[str] | None = None,
    like: str | PathLike[str] | None = None, out: str | PathLike[str] | None = None, resume: bool = False,
    seed: int | None = None, save_minutes: float = 10.0, init: str | PathLike[str] | None = None,
    freeze: str | None = None, head: bool = False, fold: str | None = None, device: str | Device = "auto",
    precision: str = "auto", workers: int | None = None, micro_batch: int | None = None, cuda_graph: bool = False,
    parallel: Parallel = "data", timeout: float | None = None, transform: Transform | None = None,
    log: str | Sequence[str] | None = None, about: Mapping[str, str] | None = None, progress: bool = True,
) -> TrainedRun:
    """Train a network on a data set, and write a run folder with checkpoints, a log and a report.

    The memory allocator and the threads of the process are left as they are; `alexnet train` sets them, for speed.

    Args:
        data: A folder or archive of images, a packed folder, `cifar10`, `cifar100`, `embedded`, or the URL of a
            packed folder.
        labels: A table of files and labels, or a pattern of the file names such as `{label}.{n}.jpg`, if the labels are
            not the names of folders; `folders` if they are, and a table beside them says otherwise.
        group: Which images belong together, such as those of one animal, and stay on one side of the split into
            training and validation images: a pattern of the file names such as `{animal}_{n}.jpg`, `folder` for the
            folders below the class folders, or a table with columns file_name and group.
        arch: A network, or the name of a preset. Default: that of `init` or of the resumed run, else `paper`.
        recipe: A recipe, or the name of a preset. Default: the network's own; with `init`, `finetune`.
        epochs: Epochs of the recipe.
        lr: Learning rate of the recipe.
        batch_size: Batch size of the recipe.
        weight_decay: Weight decay of the recipe.
        settings: Set other fields, such as `arch.dropout=0.3` or `recipe.schedule=cosine`.
        config: A TOML file with network, recipe and their fields; `settings` precede it.
        like: A run whose network and recipe are taken. Its weights are not: that is `init`.
        out: The run folder. Default: `runs/ARCH-DATA`.
        resume: Continue the run in `out`, if there is one.
        seed: Seed of the initial weights, the order of the images and the augmentation. Default: 0.
        save_minutes: Write `last/` this often, besides after every epoch.
        init: Fine-tune the weights of this checkpoint or run, of `pretrained` (in this package) or `torchvision`.
        freeze: With `init`: layers to leave untrained, `conv` or names such as `conv1,conv2`.
        head: With `init`: train the output layer alone, by logistic regression on the features below it.
        fold: Divide all training and validation images into folds, and validate on one: `2/5`, the second of five.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        precision: `auto`, `fp32`, `bf16` or `fp16`.
        workers: Threads that read images ahead. They do not change the result. Default: by the cores of this process.
        micro_batch: Process at most this many images at a time, and add up their gradients.
        cuda_graph: Record a training step as a CUDA graph and replay it. On a CPU it changes nothing.
        parallel, timeout: See `alexnet train --help`; they need torchrun.
        transform: Your own augmentation: a function that takes the views of a training batch and returns them changed.
            It is called after the recipe's crops, mirror images and color noise, and before mixup and CutMix. The views
            are the network's inputs: float32 [N, 3, rows, columns] on the run's device, RGB unless
            `arch.input.channels` is BGR, with the mean subtracted, so that 0 is the mean color, and divided by
            `arch.input.scale`. The result must have the same shape, type and device. Random numbers of torch, NumPy
            and Python in it are seeded by the run's seed and the step, so a resumed run equals an uninterrupted one. A
            run stores its name only.
        log: Also log to `tensorboard`, `wandb`, `mlflow` or `csv`, or to several. Default: log.jsonl only.
        about: Entries to add to `config.json`.
        progress: Print notes and a progress bar on standard error.

    Raises:
        UserError: Data, network, recipe and transform do not fit together, and nothing has been written. The message is
            that of the command line: `--micro-batch` in it is the argument `micro_batch`.
        Diverged: The loss or a weight is not finite any more. It is a UserError too.
        alexnet.training.state.Interrupted: Ctrl-C or SIGTERM came, and `last/` has been written: call it again with
            `resume=True`. It is no KeyboardInterrupt; a second Ctrl-C, which does not wait for the step, is one.
    """
    from alexnet.training.request import TrainRequest, default_folder
    from alexnet.training.trackers import tracker_names

    data, init = data_name(data), weights_name(init) if init else None
    _require_kind("arch", arch, Arch)
    _require_kind("recipe", recipe, Recipe)
    config, like, out, freeze, fold = (optional_text(name, value) for name, value in (
        ("config", config), ("like", like), ("out", out), ("freeze", freeze), ("fold", fold)))
    seed, workers, micro_batch = (value if value is None else whole_number(name, value, None) for name, value in (
        ("seed", seed), ("workers", workers), ("micro_batch", micro_batch)))
    short = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "weight_decay": weight_decay}
    request = TrainRequest(
        data=data, labels=optional_text("labels", labels), group=optional_text("group", group), arch=arch,
        recipe=recipe, settings=_settings(settings), short={name: plain(value) for name, value in short.items()},
        config=Path(config) if config else None, like=Path(like) if like else None,
        out=Path(out) if out else default_folder(data, arch, init), resume=resume, seed=seed, init=init, freeze=freeze,
        head=head, fold=fold, precision=precision, timeout=None if timeout is None else real_number("timeout", timeout),
        transform=transform,
        options={"workers": loader_threads() if workers is None else workers,
                 "save_minutes": real_number("save_minutes", save_minutes), "micro_batch": micro_batch,
                 "cuda_graph": cuda_graph, "parallel": parallel, "log": tracker_names(log),
                 "about": _entries(about) | ({"init": init} if init else {})})
    _run(request, device, progress)
    return TrainedRun(request.out)


def _require_kind(name: str, value: object, kind: type) -> None:
    """Raise UserError for a network or recipe that is neither a preset's name nor of its class."""
    require(value is None or isinstance(value, str | kind), f"{name} is the name of a preset or an "
            f"alexnet.{kind.__name__}, and not of {type(value)}", f"alexnet.{name}(NAME) is that of a preset")


def _settings(settings: str | Sequence[str] | None) -> list[str]:
    """One setting or several. Raises UserError for a dictionary, whose keys alone would be read."""
    require(not isinstance(settings, Mapping), "settings is a list of texts, and not a dictionary",
            'write settings=["recipe.schedule=cosine"]')
    return [settings] if isinstance(settings, str) else list(settings or ())


def _entries(about: Mapping[str, str] | None) -> dict[str, str]:
    """Entries for config.json. Raises UserError for what JSON cannot hold, before anything is written."""
    try:
        json.dumps(entries := dict(about or {}))
    except (TypeError, ValueError) as error:
        raise UserError(f"about is stored as JSON, which cannot hold it ({error})", "give texts and numbers") from None
    return entries


def train_repeatedly(
    data: str | PathLike[str], *, seeds: int | None = None, folds: int | None = None,
    out: str | PathLike[str] | None = None, seed: int | None = None, about: Mapping[str, str] | None = None,
    progress: bool = True, **options: Any,
) -> Repeats:
    """Train the same network several times, with other seeds or on other folds, one run after the other.

    The runs are in `out`/seed-0, seed-1, ... or fold-1, fold-2, ... With `resume`, runs that are finished are kept. A
    run that diverges does not stop the others.

    Args:
        data: As for `train`.
        seeds: How many runs that differ in the seed.
        folds: How many folds to divide all training and validation images into. Each is the validation set of one run.
        out: Folder of the runs. Default: as for `train`, with -3-seeds or -5-folds at the end.
        seed: The first seed, or the seed of all folds. Default: 0.
        about, progress: As for `train`.
        options: All other arguments of `train`.

    Raises:
        UserError: As `train`.
    """
    from alexnet._runtime.notes import is_launched
    from alexnet.training.repeats import read_repeats, single_run
    from alexnet.training.request import default_folder
    from alexnet.training.state import Diverged

    require((seeds is None) != (folds is None), "--seeds and --folds are two kinds of repetition", "give one of them")
    require(options.get("fold") is None, "--fold is one run of --folds", "give one of them")
    require(not is_launched(), "the runs of --seeds and --folds are trained one after the other by one process",
            "start it without torchrun")
    kind: Literal["seed", "fold"] = "fold" if seeds is None else "seed"
    count = seeds or folds or 0
    require(count >= 2, f"--{kind}s {count} must be at least 2")
    default = default_folder(str(data), options.get("arch"), options.get("init"))
    parent = Path(out) if out else default.with_name(f"{default.name}-{count}-{kind}s")
    first = 1 if seeds is None else seed or 0
    folders = [(number, parent / f"{kind}-{number}") for number in range(first, first + count)]
    for number, folder in folders:
        if progress:
            say(f"{kind} {number} ({number - first + 1} of {count}): {folder}")
        its = {"seed": number} if seeds else {"seed": seed, "fold": f"{number}/{count}"}
        named = {kind: its[kind], "out": str(folder)}
        try:
            train(data, **options | its, out=folder, about=single_run(about, named), progress=progress)
        except Diverged as error:
            say(f"{kind} {number} has diverged: {error}")
    return read_repeats(kind, folders)


def _run(request: TrainRequest, device: str | Device, progress: bool) -> None:
    import torch

    from alexnet._runtime.devices import choose_device
    from alexnet.training.parallel.process_group import init_distributed

    require(torch.get_default_dtype() == torch.float32, f"torch's default type is {torch.get_default_dtype()}, and a "
            "run would draw other weights with it", "call torch.set_default_dtype(torch.float32) first")
    with init_distributed(choose_device(device), request.timeout, is_streamed=request.is_streamed) as group:
        with group.error_barrier():
            trainer, bar, notes = _prepare(request, group, progress)
        for line in notes if progress else ():
            say(line)
        # A notebook may have switched gradients off for all that it computes.
        with torch.enable_grad(), bar if progress and group.first else nullcontext():
            trainer.fit()
    if group.first:
        from alexnet.reproduce.report.page import write_report  # training should not wait for its imports

        write_report(request.out, trainer.spec.data)


def _prepare(request: TrainRequest, group: ProcessGroup, progress: bool) -> tuple[Trainer, TrainingBar, list[str]]:
    """The trainer with its progress bar, and notes on what it is about to do."""
    from alexnet.data.folds import folded, parse_fold
    from alexnet.models.formats.open_weights import open_weights
    from alexnet.models.known_weights import official_name
    from alexnet.training.advice import few_images_finding
    from alexnet.training.build import build
    from alexnet.training.progress_bar import TrainingBar
    from alexnet.training.request import (
        describe,
        group_by,
        make_spec,
        require_init_fits,
        require_outside,
        require_same_division,
    )
    from alexnet.training.resume import require_usable, resumable

    require_outside(request.out, request.data)
    resume = request.resume or group.restarted
    group.from_rank0(lambda: require_usable(request.out, resume))  # before the images are packed
    fold = parse_fold(request.fold) if request.fold else None
    saved = group.from_rank0(lambda: resumable(request.out) if resume else None)
    if saved:
        group.from_rank0(lambda: require_same_division(request))
    grouping = group.from_rank0(lambda: group_by(request, bool(saved)))  # only rank 0 has the run's folder
    if request.init and not saved and not Path(request.init).exists() and official_name(request.init):
        require_init_fits(request, TORCHVISION)  # before the weights are downloaded
    init = open_weights(request.init) if request.init and not saved else None

    def open_packed(side: int, check: Callable[[Dataset], object]) -> PackedDataset:
        packed = group.local_rank0_first(lambda: open_data(
            request.data, side, note=say if progress else silent, notes="long", division=not fold,
            progress=progress, labels=request.labels, group=grouping, check=check))
        packed = folded(packed, *fold) if fold else packed
        if fold and progress:
            say(f"note: {packed.division}")
        return packed

    spec = make_spec(request, saved, init, open_packed, str(group.device), resume, group.size)
    bar = TrainingBar(spec.recipe.epochs)
    advice = few_images_finding(spec, request.data, request.labels, request.group) if saved is None else None
    trainer = build(spec, group, bar.show if progress else silent, [advice] if advice else [])
    assumed = [f"note: {line}" for line in init.provenance.get("assumed", ())] if init else []
    return trainer, bar, [*assumed, *describe(trainer, request, saved[1] if saved else None)]
