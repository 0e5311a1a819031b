"""`RunSpec`: everything that a training run is made from: data, network, recipe, seed, device, output folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from alexnet._runtime.devices import Precision
from alexnet.architecture.arithmetic import check_size
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.data.packed import PackedDataset
from alexnet.errors import FieldError, require
from alexnet.models.checkpoint import Checkpoint
from alexnet.training.parallel.plan import Parallel
from alexnet.training.transform import Transform


@dataclass(frozen=True)
class RunSpec:
    """A training run before it is built: `build(RunSpec(data, arch, recipe, out)).fit()`.

    Raises:
        UserError: for values that do not go together. Nothing has been written.
    """

    data: PackedDataset
    arch: Arch
    """The network. The number of its classes is taken from the data."""
    recipe: Recipe
    out: Path
    """The run's folder. It will hold best/, last/, log.jsonl and config.json."""
    seed: int = 0
    """Determines initial weights, order of the images, random views and dropout."""
    device: str = "cpu"
    precision: Precision | Literal["auto"] = "fp32"
    resume: bool = False
    """Continue from out/last if it exists; else start."""
    workers: int = 2
    """Threads that read batches ahead. They do not change the result."""
    save_minutes: float = 10.0
    """Minutes between two writes of out/last within an epoch. It is also written after every epoch."""
    validate_every: int = 1
    """Epochs between two validations, each with a save; the last epoch is always validated. More than 1 where the
    training images are few, so that validation would take most of the time."""
    init: Checkpoint | None = None
    """Fine-tuning: the checkpoint whose weights training starts from."""
    about: Mapping[str, str] = field(default_factory=dict)
    """More entries for config.json, which the report shows: `command`, `title`, `note`."""
    log: tuple[str, ...] = ()
    """Trackers that get the numbers of log.jsonl as well: names of `training.trackers.TRACKERS`."""
    parallel: Parallel = "data"
    """How several processes share the network; see `alexnet.training.parallel`."""
    micro_batch: int | None = None
    """Images that a process trains on at a time, if its memory does not hold its part of a batch. Gradients add up over
    the micro-batches; only the statistics of batch normalization differ. Default: the whole part at once."""

    cuda_graph: bool = False
    """Record a step for each batch size as a CUDA graph, and replay it (training/step_graph.py). On a CPU the same code
    calls the step."""

    transform: Transform | None = None
    """The user's own augmentation of the training views (training/transform.py)."""

    def __post_init__(self) -> None:
        side = self.arch.input.side
        packed = self.data.side
        require(packed == side, f"the data is packed at {packed} pixels and {self.arch.name} takes {side}",
                f"pack it again with --side {side}, or add --set arch.input.side={packed} (and arch.input.crop below "
                "it)")
        check_options(self.arch, self.recipe, seed=self.seed, workers=self.workers, save_minutes=self.save_minutes,
                      parallel=self.parallel, micro_batch=self.micro_batch, validate_every=self.validate_every)


def check_options(
    arch: Arch, recipe: Recipe, *, seed: int, workers: int, save_minutes: float, parallel: Parallel,
    micro_batch: int | None, validate_every: int = 1,
) -> None:
    """Raise UserError for values of a `RunSpec` that do not go together. It needs no data."""
    train_crop, side = recipe.train_crop, arch.input.side
    require(not train_crop or bool(arch.average_pool),
            f"{arch.name} has no average pooling, so it cannot train on views of {train_crop} pixels and be "
            f"evaluated on {arch.input.crop}", "set recipe.train_crop=0, or choose the network medium")
    require(not train_crop or parallel == "data", "recipe.train_crop works with --parallel data only",
            "give --parallel data, or set recipe.train_crop=0")
    if train_crop:
        check_size(arch, train_crop)
        require(train_crop <= side or arch.input.mean_crop == "own",
                f"a mean of {side} pixels has no center crop of {train_crop} pixels, the side of training views",
                f"set recipe.train_crop to {side} or less, or arch.input.mean_crop=own")
    for name, value, holds, rule in (
        ("seed", seed, seed >= 0, "must be 0 or more"),
        ("workers", workers, workers >= 0, "must be 0 or more"),
        ("save_minutes", save_minutes, save_minutes >= 0, "must be 0 or more"),
        ("validate_every", validate_every, validate_every == 1 or (
            validate_every > 1 and recipe.schedule != "plateau" and not recipe.early_stop_epochs),
         "must be 1 for the schedule plateau and for early stopping, and at least 1 otherwise"),
        ("micro_batch", micro_batch, micro_batch is None or micro_batch >= 2, "must be at least 2 images"),
    ):
        if not holds:
            raise FieldError(name, value, rule)
