"""What `alexnet.train` was asked for -> network, recipe and trainer, with notes on what is about to be trained."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import NotRequired, TypedDict
from urllib.parse import urlsplit

import torch

from alexnet._runtime.atomic_files import require_text_name
from alexnet._runtime.devices import choose_precision
from alexnet._runtime.native import level
from alexnet.architecture import network_presets, recipe_presets
from alexnet.architecture.config_file import ConfigFile, read_config_file
from alexnet.architecture.overrides import Json, configure, from_json
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.architecture.unused_settings import unused_notes
from alexnet.data.archives import archive_stem
from alexnet.data.dataset import Dataset
from alexnet.data.packed import PackedDataset, is_packed
from alexnet.data.url_images import is_url
from alexnet.errors import FieldError, UserError, plural, reason_of, require
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.provenance import license_note
from alexnet.models.transfer import require_transferable
from alexnet.training import preflight
from alexnet.training.class_weights import IMBALANCE
from alexnet.training.parallel.plan import Parallel
from alexnet.training.resume import restart_note
from alexnet.training.run_folder import group_of, logged_to, read_config
from alexnet.training.spec import RunSpec, check_options
from alexnet.training.state import State
from alexnet.training.step_graph import check_recordable
from alexnet.training.trainer import Trainer
from alexnet.training.transform import Transform, transform_name

SHORT_OPTIONS = {"epochs": "epochs", "lr": "learning_rate", "batch_size": "batch_size", "weight_decay": "weight_decay"}
"""Options of `train` that set a field of the recipe, and that field."""

OpenData = Callable[[int, Callable[[Dataset], object]], PackedDataset]
"""Side of the images in pixels, and a check of the listed data that comes before packing -> the data set that the user
named."""


class SpecOptions(TypedDict):
    """Fields of `RunSpec` that `train` passes on as they are."""

    workers: int
    save_minutes: float
    micro_batch: int | None
    cuda_graph: NotRequired[bool]
    parallel: Parallel
    log: tuple[str, ...]
    about: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What the caller of `train` asked for."""

    data: str
    labels: str | Path | None = None
    """Where the labels are, if not in folders: as for `open_dataset`."""
    group: str | None = None
    """Which images belong together: as for `open_dataset`."""
    arch: str | Arch | None = None
    recipe: str | Recipe | None = None
    short: Mapping[str, float | None] = field(default_factory=dict)
    """Values of `SHORT_OPTIONS`."""
    settings: Sequence[str] = ()
    config: Path | None = None
    like: Path | None = None
    out: Path
    resume: bool = False
    seed: int | None = None
    init: str | None = None
    freeze: str | None = None
    head: bool = False
    fold: str | None = None
    """As for `parse_fold`."""
    precision: str = "auto"
    timeout: float | None = None
    """Seconds that a process waits for another within a step; None: by device and data."""
    transform: Transform | None = None
    """The user's own augmentation of the training views."""
    options: SpecOptions

    @property
    def is_streamed(self) -> bool:
        """Whether the data comes over a network while training."""
        return is_url(self.data)

    def __post_init__(self) -> None:
        if self.timeout is not None:
            require(self.timeout > 0, f"--timeout {self.timeout:g} must be more than 0 seconds")


def default_folder(data: str, arch: str | Arch | None, init: object) -> Path:
    """runs/ARCH-DATA, or runs/finetune-DATA; of an archive, DATA is the name without .zip or .tar.gz."""
    name = arch.name if isinstance(arch, Arch) else arch or ("finetune" if init else "paper")
    path = Path(data).resolve() if Path(data).exists() else PurePosixPath(urlsplit(data).path)
    return Path("runs") / f"{name}-{archive_stem(path) if Path(data).is_file() else path.name}"


def group_by(request: TrainRequest, resumed: bool) -> str | None:
    """The value of --group: that of the request, else of the run that is resumed; packed data have their own."""
    return request.group or (group_of(read_config(request.out), request.data) if resumed else None)


def require_same_division(request: TrainRequest) -> None:
    """Raise UserError if a resumed run would divide its images in another way. Only rank 0 has the run's folder."""
    preflight.check_division(request.out, request.fold, request.group,
                             is_url(request.data) or is_packed(request.data))


def require_outside(out: Path, data: str) -> None:
    """Raise UserError for a run folder within a folder of images, whose later listings would hold it.

    Also for a name that TensorBoard cannot write.
    """
    require_text_name(out)
    folder, written = Path(os.path.realpath(data)), Path(os.path.realpath(out))
    require(not (folder.is_dir() and folder in (written, *written.parents)),
            f"the run folder {out} is inside the data {data}, among the images",
            "choose a folder outside it with --out")


def make_spec(
    request: TrainRequest, saved: tuple[Arch, Recipe, State] | None, init: Checkpoint | None, open_data: OpenData,
    device: str, resume: bool, processes: int = 1,
) -> RunSpec:
    """The run that was asked for. Opens the data after all that can be checked without it.

    Args:
        saved: network, recipe and state of the run to resume, if there is one.
        init: the checkpoint that `request.init` names.
        device: `cpu`, `cuda` or `cuda:N`.
        resume: whether the run may continue one.
        processes: how many train together.

    Raises:
        UserError: network, recipe and data do not fit together.
    """
    with options_named(request):
        arch, recipe = network_and_recipe(request, saved, init.arch if init else None)
        if init and not saved:
            _require_transferable(request, arch, init.arch)
        state, options = saved[2] if saved else None, request.options
        seed = request.seed if request.seed is not None else state.seed if state else 0
        precision = state.precision if state and request.precision == "auto" else request.precision
        if recipe.optimizer == "lbfgs":
            require(precision in ("auto", "fp32"), f"--precision {precision} has no effect with --head, which computes "
                    "in fp32 as evaluation does", "leave it out")
            precision = "fp32"
        chosen, transform = choose_precision(precision, device), transform_name(request.transform)
        check_options(arch, recipe, seed=seed, workers=options["workers"], save_minutes=options["save_minutes"],
                      parallel=options["parallel"], micro_batch=options["micro_batch"])
        if options.get("cuda_graph"):
            check_recordable(chosen, options["micro_batch"], processes, torch.device(device))
        preflight.check_network(arch, recipe, options["parallel"], processes)
        preflight.check_resumed(request.out, saved, arch, recipe, State(seed, "", chosen, transform))
        data = open_data(arch.input.side, lambda dataset: preflight.check_classes(
            dataset.classes, recipe, request.out, saved))
        return RunSpec(data, arch, recipe, request.out, seed=seed, device=device, resume=resume, init=init,
                       precision=chosen, transform=request.transform, **options)


def require_init_fits(request: TrainRequest, init: Arch) -> None:
    """Raise UserError if the requested network cannot take weights of `init`, before these are downloaded."""
    with options_named(request):
        _require_transferable(request, network_and_recipe(request, None, init)[0], init)


def _require_transferable(request: TrainRequest, arch: Arch, init: Arch) -> None:
    try:
        require_transferable(arch, init)
    except UserError as error:
        named = network_option(request) or "the settings of the network"
        raise UserError(error.problem, f"leave out {named}, to take the network of --init") from error


def network_option(request: TrainRequest) -> str:
    """The option that names the network, such as "--arch small"; "" without one."""
    if request.arch:
        return f"--arch {request.arch if isinstance(request.arch, str) else request.arch.name}"
    if request.like:
        return f"--like {request.like}"
    return f"--config {request.config}" if request.config and read_config_file(request.config).arch else ""


def network_and_recipe(
    request: TrainRequest, saved: tuple[Arch, Recipe, State] | None, init: Arch | None,
) -> tuple[Arch, Recipe]:
    """What to train, and how: as requested, else as in the resumed run, else the defaults.

    In rising order of precedence: `--like`, the file of `--config`, `--arch` and `--recipe`, `--set` and short options.
    """
    file = read_config_file(request.config) if request.config else ConfigFile(None, None, ())
    like = _like(request)
    wanted_arch, wanted_recipe = request.arch or file.arch, request.recipe or file.recipe
    require(not (like and (wanted_arch or wanted_recipe)), "--like already names the network and the recipe",
            "leave out --arch and --recipe, and change single fields with --set")
    if wanted_arch:
        arch = network_presets.arch(wanted_arch) if isinstance(wanted_arch, str) else wanted_arch
    else:
        arch = like[0] if like else saved[0] if saved else init or network_presets.arch("paper")
    recipe = recipe_presets.recipe(wanted_recipe) if isinstance(wanted_recipe, str) else wanted_recipe
    if not recipe and like:
        recipe = like[1]
    elif not recipe and saved:
        recipe = saved[1]
    elif not recipe and init:
        recipe = recipe_presets.head_recipe(arch) if request.head else recipe_presets.finetune_recipe(arch)
    arch, recipe = configure(arch, recipe, [*file.settings, *request.settings, *_short_settings(request)])
    require(recipe.optimizer == "sgd" or bool(request.head or recipe.freeze),
            f"the recipe {recipe.name} trains the output layer alone", "give --head in place of --recipe head")
    if request.head:
        _check_head(request, recipe, has_weights=bool(init or saved))
    if request.freeze is not None:
        recipe = replace(recipe, freeze=request.freeze.replace(",", " "))
    require(not recipe.freeze or bool(init or saved),
            f"{'--freeze' if request.freeze else 'recipe.freeze'} {recipe.freeze} without --init would keep random "
            "weights", "add --init CHECKPOINT, or leave it out")
    return arch, recipe


def _check_head(request: TrainRequest, recipe: Recipe, has_weights: bool) -> None:
    require(has_weights, "--head trains the output layer on a trained network's features",
            "name the network with --init CHECKPOINT, or --init torchvision")
    require(recipe.optimizer == "lbfgs", f"--head has a recipe of its own, and {recipe.name} was named",
            "leave out --recipe, --like or --config")
    given = [_option(name) for name in ("epochs", "lr", "batch_size") if request.short.get(name) is not None]
    given += ["--freeze"] * (request.freeze is not None)
    given += ["--micro-batch"] * (request.options["micro_batch"] is not None)
    given += ["--cuda-graph"] * request.options.get("cuda_graph", False)
    given += ["transform"] * (request.transform is not None)
    require(not given, f"{', '.join(given)} has no effect with --head, which fits the output layer in one pass",
            "leave it out, or leave out --head to fine-tune")


def _like(request: TrainRequest) -> tuple[Arch, Recipe] | None:
    """Network and recipe of the run that `--like` names."""
    if not request.like:
        return None
    tree: Mapping[str, Json] = read_config(request.like)  # type: ignore[assignment]
    try:
        return from_json(Arch, tree["arch"]), from_json(Recipe, tree["recipe"])
    except TypeError as error:  # a field without a default is missing
        raise UserError(f"{request.like / 'config.json'} does not describe a run ({reason_of(error)})",
                        "name another run with --like") from error


def _short_settings(request: TrainRequest) -> list[str]:
    """--epochs, --lr, --batch-size and --weight-decay as settings. Raises UserError where --set sets the same."""
    set_by = {setting.partition("=")[0].strip(): setting for setting in request.settings}
    made = []
    for name, value in request.short.items():
        if value is None:
            continue
        path = f"recipe.{SHORT_OPTIONS[name]}"
        require(path not in set_by, f"{_option(name)} {value} and --set {set_by.get(path)} set the same field",
                "give only one of them")
        made.append(f"{path}={json.dumps(value)}")
    return made


@contextmanager
def options_named(request: TrainRequest) -> Iterator[None]:
    """Inside, an impossible value is reported under the name of the option that set it."""
    try:
        yield
    except FieldError as error:
        short = next((name for name, value in request.short.items()
                      if value is not None and SHORT_OPTIONS[name] == error.field), None)
        if short or error.field in {each.name for each in fields(RunSpec)}:
            error.raise_as(_option(short or error.field))
        error.raise_as(f"recipe.{error.field}")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def describe(trainer: Trainer, request: TrainRequest, former: Recipe | None) -> Iterator[str]:
    """What is about to be trained, in lines.

    Args:
        trainer: the run.
        request: what was asked for.
        former: the recipe of the run that is resumed; None for a new run.
    """
    spec, recipe, state, processes = trainer.spec, trainer.spec.recipe, trainer.state, trainer.processes
    if spec.resume and (note := restart_note(request.out)):
        yield note
    if spec.init:
        origin = trainer.provenance["init"]
        yield (f"fine-tuning {request.init}: weights of {', '.join(origin['taken'])}; "
               f"new weights: {', '.join(origin['drawn']) or 'none'}; frozen: {recipe.freeze or 'none'}")
        if note := license_note(trainer.provenance):
            yield f"license note of {request.init}, which holds for the trained network as well: {note}"
    in_file = read_config_file(request.config).settings if request.config else ()
    yield from unused_notes([*in_file, *request.settings], spec.arch, recipe)
    parameters = trainer.strategy.split_network.parameter_count
    yield (f"network {spec.arch.name}, {parameters:,} parameters; recipe {recipe.name}; "
           f"{len(trainer.training):,} training images of {spec.arch.classes} classes; run folder {request.out}")
    yield (f"device {trainer.device.type}, precision {state.precision}, native kernels: {level() or 'none'}"
           + (f", allocator: {spec.about['allocator']}" if "allocator" in spec.about else "")
           + (f"; {processes.size} processes, {spec.parallel}" if processes.size > 1 else ""))
    if state.transform:
        yield (f"transform {state.transform}: changes the views of every training batch"
               + (f"; each of {processes.size} processes calls it on its own part of a batch with other random "
                  "numbers, so the views are not those of another number of processes" if processes.size > 1 else ""))
    elif request.like and (before := read_config(request.like).get("transform")):
        yield (f"note: {request.like} was trained with the transform {before}, which --like does not copy; in Python, "
               "give it with transform=")
    if request.like and not spec.data.manifest.grouped_by and (
            grouped := group_of(read_config(request.like), request.data)):
        yield (f"note: {request.like} was trained with --group {shlex.quote(grouped)}, which --like does not copy; "
               "add it if the images of this data belong together in the same way")
    if processes.size == 1 and spec.device == "cuda" and (count := torch.cuda.device_count()) > 1:
        command = spec.about.get("command", "alexnet train ...")
        yield (f"note: this host has {count} GPUs, of which one is used; to use all: torchrun --standalone "
               f"--nproc-per-node gpu -m {command}")
    if (weights_K := trainer.class_weights_K) is not None:
        kind = recipe.class_weights if isinstance(recipe.class_weights, str) else "given"
        order = weights_K.argsort().tolist()
        yield (f"class weights ({kind}): an image's loss is multiplied by {weights_K[order[0]]:.2g} "
               f"({spec.data.classes[order[0]]}) to {weights_K[order[-1]]:.2g} ({spec.data.classes[order[-1]]})")
    elif recipe.class_weights == "auto":
        yield (f"class weights (auto): none, as no class has more than {IMBALANCE:g} times the training images of "
               "another")
    if former and (left := [name for name in logged_to(request.out) if name not in spec.log]):
        yield f"note: this run was logged to {' and '.join(left)} as well; to continue that, add --log {','.join(left)}"
    if former and state.stops_early(recipe):
        yield (f"the run has stopped early, after {plural(state.epoch, 'epoch')}; to train longer, start again with "
               "another --out and --set recipe.early_stop_epochs=0")
    elif former and state.epoch >= recipe.epochs:
        yield (f"the run has already trained {plural(state.epoch, 'epoch')}; give --epochs more than that to train "
               "longer")
    elif former:
        before = f" (formerly --epochs {former.epochs})" if former.epochs != recipe.epochs else ""
        yield f"resuming after {state.epoch} of {recipe.epochs} epochs{before}, {state.step:,} steps done"
