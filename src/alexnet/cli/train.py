"""The `train` command: its options, grouped, and the call of `alexnet.train`."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.cpu_threads import set_openmp_defaults
from alexnet._runtime.notes import is_launched, is_rank0, launcher
from alexnet.cli.app import (
    ALLOCATOR_HELP,
    TRAIN_AND_EVALUATE,
    AllocatorName,
    ArchName,
    BatchSize,
    ConfigFile,
    Device,
    Freeze,
    GroupBy,
    Init,
    Json,
    Labels,
    LikeRun,
    OptionalInt,
    PrecisionName,
    RecipeName,
    Settings,
    app,
)
from alexnet.cli.render_training import repeats_table, result_lines
from alexnet.errors import require


@Parameter(name="*", group=Group("Network and recipe", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """What to train, and with which hyperparameters."""

    arch: ArchName = None
    recipe: RecipeName = None
    epochs: OptionalInt = None
    """Epochs to train. Default: the recipe's."""
    lr: float | None = None
    """Initial learning rate. Default: the recipe's."""
    batch_size: BatchSize = None
    weight_decay: float | None = None
    """Weight decay. Default: the recipe's."""
    settings: Settings = None
    config: ConfigFile = None
    like: LikeRun = None


@Parameter(name="*", group=Group("Run folder", sort_key=2))
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where the run is written, and whether it is resumed."""

    out: Path | None = None
    """Run folder. Default: runs/ARCH-DATA; with --init, runs/finetune-DATA."""
    resume: bool = False
    """Continue the run in that folder, if there is one. It ends where an uninterrupted run would have ended."""
    seed: OptionalInt = None
    """Seed of the initial weights, the order of the images and the augmentation. Default: 0, or the resumed run's."""
    fold: str | None = None
    """Train one run of --folds: 2/5 is validated on the second of five folds."""
    save_minutes: float = 10.0
    """Write the last checkpoint this often, besides after every epoch."""
    log: list[str] | None = None
    """Log to tensorboard, wandb, mlflow or csv as well: one, or several with commas. tensorboard and csv write into the
    run folder. Default: log.jsonl only."""


@Parameter(name="*", group=Group("Several runs", sort_key=3))
@dataclass(frozen=True, kw_only=True)
class RepeatOptions:
    """The same run with several seeds or on several folds. The runs are in sub-folders of --out."""

    seeds: OptionalInt = None
    """Train so many runs that differ in the seed; print each error, their mean and standard deviation."""
    folds: OptionalInt = None
    """Cross-validation: divide all training and validation images into so many folds, and train a run for each, which
    is validated on this fold and trained on the others. Images of a class are dealt out evenly, equal ones into one
    fold."""
    json_: Json = False


@Parameter(name="*", group=Group("Fine-tuning", sort_key=4))
@dataclass(frozen=True, kw_only=True)
class FineTuneOptions:
    """Start from trained weights."""

    init: Init = None
    freeze: Freeze = None
    head: bool = False
    """Train the output layer alone: compute the features below it in one pass over the images, and fit logistic
    regression to them. For a first result on few images."""


@Parameter(name="*", group=Group("Device", sort_key=5))
@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """What the run is computed on."""

    device: Device = "auto"
    precision: PrecisionName = "auto"
    """auto: bf16 if the device has instructions for it, else fp32. fp16 needs a GPU."""
    workers: OptionalInt = None
    """Threads that read images ahead. They do not change the result. Default: the cores that are reserved for this
    process (affinity, cgroup; divided by torchrun's processes on the host), 2 to 16."""
    micro_batch: OptionalInt = None
    """Process at most this many images at a time and add up their gradients, to save memory. Only batch normalization
    gives other results."""
    cuda_graph: bool = False
    """Record a training step as a CUDA graph and replay it, which saves the launches of its kernels. Not tried on a GPU
    yet; on a CPU it changes nothing. For one process, in fp32 or bf16, without micro-batches."""
    allocator: Annotated[AllocatorName, Parameter(help=ALLOCATOR_HELP)] = "keep"


@Parameter(name="*", group=Group("Several processes (torchrun)", sort_key=6))
@dataclass(frozen=True, kw_only=True)
class ParallelOptions:
    """How the processes that torchrun starts share the work."""

    parallel: Literal["data", "towers", "hybrid"] = "data"
    """data: each process trains on its part of every batch. towers: each process has one of the paper's two towers.
    hybrid: data-parallel convolutional layers and model-parallel fully connected layers ("One weird trick")."""
    timeout: float | None = None
    """Seconds to wait for another process within a step before it counts as lost. Default: 20 between CPUs, 120 between
    GPUs, and 320 for streamed data, as long as a shard is requested again."""


@app.command(group=TRAIN_AND_EVALUATE, sort_key=1)
def train(
    data: str, /, *, labels: Labels = None, group: GroupBy = None,
    network: NetworkOptions = NetworkOptions(), run: RunOptions = RunOptions(),
    repeat: RepeatOptions = RepeatOptions(), fine_tune: FineTuneOptions = FineTuneOptions(),
    computing: DeviceOptions = DeviceOptions(), processes: ParallelOptions = ParallelOptions(),
) -> None:
    """Train a network, and write its best and last checkpoints, a log and a report.

    Ctrl-C and SIGTERM save a checkpoint and stop; --resume continues from it. The exit code is 2 if a run diverges. To
    train on several GPUs or hosts, start the same command with torchrun:
    `torchrun --nproc-per-node 2 -m alexnet train ...`

    Args:
        data: A folder or archive (zip, tar) with one folder of images for each class or a table of labels; CIFAR,
            MNIST, ImageNet or Parquet files; a packed folder; the name cifar10, cifar100 or embedded; or the URL
            (http, https, s3, gs or file) of a folder that `alexnet pack SOURCE DEST --codec jpeg` wrote, which is
            streamed.
    """
    if not is_launched():  # else one of the processes says it for all
        from alexnet.data.sources.detect import require_source

        require_source(data)  # before torch is imported, which takes seconds
    allocator = set_allocator(computing.allocator)  # before it, too, as the next line
    set_openmp_defaults()

    from alexnet.api import training

    options: dict[str, Any] = {"labels": labels, "group": group}
    for chosen in (network, run, fine_tune, computing, processes):
        options |= vars(chosen)
    options["settings"] = network.settings or ()
    del options["allocator"]
    options["about"] = {"command": shlex.join([*launcher(), "alexnet", *sys.argv[1:]]), "allocator": allocator}
    if repeat.seeds is not None or repeat.folds is not None:
        repeats = training.train_repeatedly(data, seeds=repeat.seeds, folds=repeat.folds, **options)
        print(json.dumps(repeats.to_json(), indent=2) if repeat.json_ else repeats_table(repeats))
        if any(run.last_error is None for run in repeats.runs):
            sys.exit(2)  # as for a single run that diverges
        return
    require(not repeat.json_, "--json has no effect without --seeds or --folds", "leave it out; the run "
            "folder has the results in log.jsonl")
    done = training.train(data, **options)
    if is_rank0():
        print("\n".join(result_lines(done)))
