"""Events of a run (the lines of log.jsonl, one TypedDict a kind) and the content of config.json, with units."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from alexnet.architecture.overrides import Json
from alexnet.interpret.activations import Signals
from alexnet.models.checkpoint_json import ErrorsJson, GroupsJson
from alexnet.models.provenance import HeadFit
from alexnet.training.parallel.step_clock import SlowestRank


class RunTitle(TypedDict):
    """What an event of any kind may also have."""

    run: NotRequired[str]
    """Title and seed of the run, in the events of `reproduce.runs.Runs`. It is not logged."""


class StartEvent(RunTitle):
    """Training starts or resumes."""

    event: Literal["start"]
    step: int
    """Steps taken so far."""
    epoch: int
    """Epochs finished so far."""
    steps_per_epoch: int
    images: int
    """Training images."""
    classes: int
    epochs: int
    """The epoch that training ends with."""
    class_weights: NotRequired[list[float]]
    """What the losses of the classes are multiplied by, in their order; only if they differ."""
    notes: NotRequired[list[str]]
    """What the data was understood to be, and what of it is not used: `PackedDataset.all_notes`."""


class StepTiming(SlowestRank):
    """What a clock decides of a step. It is different in each run, also where every bit of the weights is the same."""

    images_per_second: float
    """In all processes together, with the time to read the images."""
    waiting: float
    """Fraction of the step's time that was spent waiting for the images."""


class StepEvent(RunTitle, StepTiming):
    """A step is done. Every tenth is logged, with several processes with the slowest of them."""

    event: Literal["step"]
    step: int
    """Counts from 1 over all epochs."""
    epoch: int
    """The epoch that the step belongs to, from 1."""
    loss: float
    """Mean loss of the batch, in nats."""
    learning_rate: float
    """Of the weights."""
    bias_learning_rate: NotRequired[float]
    """Of the biases, if the recipe keeps it constant (`bias_lr_schedule`)."""
    train_error: float
    """Top-1 error of the batch, a fraction. An image mixed from two counts with the label of larger weight."""


class SignalsEvent(RunTitle, Signals):
    """Activation layers and weights were measured during a step (fractions of 1; see `Signals`)."""

    event: Literal["signals"]
    step: int


class EpochEvent(RunTitle):
    """An epoch is trained and evaluated on the validation images."""

    event: Literal["epoch"]
    step: int
    """Steps taken so far."""
    epoch: int
    """Counts from 1."""
    train_loss: float
    """Mean over the epoch's training images, in nats, with class weights where the recipe has them."""
    train_error: float
    """Top-1 error on the epoch's random views, a fraction. A mixed image counts with the label of larger weight."""
    val_loss: float
    """In nats."""
    val_top1_error: float
    """A fraction."""
    val_top5_error: float
    """A fraction."""
    val_groups: NotRequired[GroupsJson]
    """Groups of the validation images, if they have groups, and the design effects of the two errors."""
    learning_rate: float
    """Of the weights in the epoch's last step."""
    bias_learning_rate: NotRequired[float]
    """Of the biases, if the recipe keeps it constant (`bias_lr_schedule`)."""


class TrainedEvent(RunTitle):
    """An epoch is trained and not validated (`RunSpec.validate_every`)."""

    event: Literal["trained"]
    step: int
    """Steps taken so far."""
    epoch: int
    """Counts from 1."""
    train_loss: float
    """As in `EpochEvent`."""
    train_error: float
    """As in `EpochEvent`."""
    learning_rate: float
    """Of the weights in the epoch's last step."""
    bias_learning_rate: NotRequired[float]
    """As in `EpochEvent`."""


class ValidatingEvent(RunTitle):
    """Progress of the evaluation at the end of an epoch. It is not logged."""

    event: Literal["validating"]
    done: int
    """Images."""
    total: int
    """Images."""


class FeaturesEvent(RunTitle):
    """Progress of the feature computation of `train --head`. It is not logged."""

    event: Literal["features"]
    done: int
    """Images."""
    total: int
    """Images."""


class HeadEvent(RunTitle, HeadFit):
    """`train --head` has fitted the output layer."""

    event: Literal["head"]
    step: int
    images: int
    """Training images."""


class WarningEvent(RunTitle):
    """A finding (`errors.Finding`)."""

    event: Literal["warning"]
    step: int
    kind: str
    subject: str
    problem: str
    remedy: str
    images: NotRequired[list[str]]
    """Where training diverged: names of the images of the step."""


class EvaluationEvent(RunTitle, ErrorsJson):
    """A checkpoint was evaluated after training."""

    event: Literal["evaluation"]
    step: int
    """Steps that the checkpoint was trained for."""
    checkpoint: str
    """"last" or "best"."""
    views: int
    """Views of each image: 1 or 10."""


class EndEvent(RunTitle):
    """Training has reached its last epoch, or has stopped early."""

    event: Literal["end"]
    step: int
    epoch: int
    best_top1_error: float
    """The lowest validation error after an epoch, a fraction."""
    stopped_early: NotRequired[bool]
    """Before the last epoch, by `Recipe.early_stop_epochs`."""


Event = (StartEvent | StepEvent | SignalsEvent | EpochEvent | TrainedEvent | ValidatingEvent | FeaturesEvent
         | HeadEvent | WarningEvent | EvaluationEvent | EndEvent)
"""`event` is the kind."""


class DataConfig(TypedDict):
    """The data that a run was trained on."""

    source: str
    """What the user named, or its absolute path."""
    packed: NotRequired[str]
    """Absolute path of the packed folder."""
    fingerprint: NotRequired[str]
    """`PackedDataset.fingerprint`."""
    side: int
    """Pixels per side of a stored image."""
    classes: list[str]
    images: dict[str, int]
    """Split ("train", "val") -> number of images."""
    fold: NotRequired[tuple[int, int]]
    """The fold that is the validation set, from 1, and how many there are (`data.folds`)."""
    group: NotRequired[str]
    """The value of --group; only if it was given."""
    subset: NotRequired[tuple[int | None, int, bool]]
    """Training images of each class, the number of their draw, and whether the tuning split is the validation set
    (`data.subset`)."""
    left_out: NotRequired[int]
    """Validation images that the initial weights were trained on, which are not in `images`; only where there are
    any."""
    validation_copies: NotRequired[int]
    """Validation images that are copies of training images; only where there are any."""
    validation_look_alikes: NotRequired[int]
    """Other validation images that look like a training image; only where there are any."""
    training_look_alikes: NotRequired[float]
    """The fraction of the training images that look like another one; only where validation images do."""
    undecodable: NotRequired[dict[str, int]]
    """Split -> images that could not be decoded, and are not in `images`."""


class ArchConfig(TypedDict):
    """All fields of `architecture.spec.Arch` as JSON values; these are the ones that a report reads."""

    name: str
    activation: str
    input: dict[str, Json]


class RecipeConfig(TypedDict):
    """All fields of `architecture.recipe.Recipe` as JSON values; these are the ones that a report reads."""

    name: str
    epochs: int
    label_smoothing: NotRequired[float]
    early_stop_epochs: NotRequired[int]
    optimizer: NotRequired[str]


class Config(TypedDict):
    """config.json: everything that a run was started with."""

    arch: ArchConfig
    recipe: RecipeConfig
    data: DataConfig
    seed: NotRequired[int]
    precision: NotRequired[str]
    """The one that training uses: fp32, bf16 or fp16."""
    transform: NotRequired[str]
    """Qualified name of the user's own augmentation; only with one."""
    device: NotRequired[str]
    """Name of the processor or GPU."""
    kernels: NotRequired[str]
    """Instruction set of the native kernels; "" without them."""
    threads: NotRequired[int]
    cuda_graph: NotRequired[bool]
    """Whether training steps were replayed as CUDA graphs; only if it was asked for."""
    versions: NotRequired[dict[str, str]]
    """Of alexnet, with its commit if that is known (`alexnet_commit`), Python and torch."""
    log: NotRequired[list[str]]
    """The trackers of `--log`; only with some."""
    processes: NotRequired[int]
    """How many train together."""
    unknown_training_images: NotRequired[list[str]]
    """Names of initial weights whose training images are not recorded; only where there are any."""
    parallel: NotRequired[str]
    """How they share the network; only with several processes."""
    command: NotRequired[str]
    """The command line that began the run."""
    init: NotRequired[str]
    """What the user named as initial weights."""
    resumed: NotRequired[list[str]]
    """The command lines that resumed it for another number of epochs, in order."""
    title: NotRequired[str]
    note: NotRequired[str]
    allocator: NotRequired[str]
