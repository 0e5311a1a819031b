"""`build`: a RunSpec -> a Trainer with its data, network, optimizer and state, restored if the run is resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch

from alexnet._runtime.devices import choose_precision
from alexnet._runtime.software import own_version
from alexnet.architecture.overrides import to_json
from alexnet.data.content import contained, distinct_hashes
from alexnet.data.order import smallest_batch
from alexnet.data.overlap import find_overlap
from alexnet.data.packed import PackedSplit
from alexnet.data.preprocessing import Preprocess
from alexnet.errors import Finding, plural, require
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.provenance import Provenance
from alexnet.models.seen import SeenImages
from alexnet.models.transfer import transfer_weights
from alexnet.training.advice import look_alikes_finding, start_findings, trained_validation_finding
from alexnet.training.bf16_weights import bf16_weights
from alexnet.training.class_weights import class_weights
from alexnet.training.events import Event
from alexnet.training.head import HeadTrainer
from alexnet.training.optimizer import SGD
from alexnet.training.parallel.process_group import ProcessGroup, single_process
from alexnet.training.parallel.strategies import parallelize
from alexnet.training.parallel.strategy import Strategy
from alexnet.training.precision import MixedPrecision
from alexnet.training.preflight import readers_of, require_whole_batches
from alexnet.training.resume import checkpoint_to_resume
from alexnet.training.spec import RunSpec
from alexnet.training.state import State
from alexnet.training.step_graph import check_recordable
from alexnet.training.trainer import Trainer
from alexnet.training.transform import check_transform, transform_name
from alexnet.training.weight_average import WeightAverage


def build(
    spec: RunSpec, processes: ProcessGroup | None = None, on_event: Callable[[Event], None] = lambda event: None,
    advice: Iterable[Finding] = (),
) -> Trainer:
    """Make everything that a run needs. Writes nothing.

    Args:
        spec: the run.
        processes: those that train together (`init_distributed`). Default: this process alone.
        on_event: called in rank 0 with every event: what log.jsonl gets, every step, and progress of validation.
        advice: findings that are reported with the run's own when training starts.

    Raises:
        UserError: if data, network, recipe, processes and the run in `spec.out` do not go together.
    """
    processes = processes or single_process(spec.device)
    device = torch.device(spec.device)
    spec = replace(spec, arch=replace(spec.arch, classes=len(spec.data.classes)))
    training, validation = _split(spec, "train"), _split(spec, "val")
    precision_name = choose_precision(spec.precision, device)
    if spec.cuda_graph:
        check_recordable(precision_name, spec.micro_batch, processes.size, device)
    state = State(spec.seed, spec.data.fingerprint, precision_name, transform_name(spec.transform))
    _require_same_spec(spec, state, processes)
    readers = readers_of(spec.parallel, processes.size)
    require_whole_batches(spec.recipe, readers)
    saved = processes.from_rank0(lambda: checkpoint_to_resume(spec, state))
    before = saved.seen if saved else spec.init.seen if spec.init else SeenImages()
    whole, validation = validation, _not_trained_on(validation, training, before)

    network, preprocess, provenance = _first_network(spec, saved)
    state = State.from_json(saved.training) if saved else state
    seen = SeenImages.of(training.content_hashes, np.empty(0, np.uint64), training.perceptual_hashes, before)
    strategy = parallelize(
        network, spec.parallel, processes, device, freeze=spec.recipe.freeze, micro_batch=spec.micro_batch,
        seed=state.seed)
    _require_batches(spec, readers, strategy, training)
    new_layers = [network.named_layer(name) for name in (provenance["init"]["drawn"] if "init" in provenance else [])]
    precision = MixedPrecision(precision_name, device, processes.all_true)
    split = strategy.split_network
    optimizer = SGD(network, spec.recipe, new_layers, split.sum_squares, bf16_weights(network, precision))
    average = WeightAverage(network, spec.recipe.ema_decay) if spec.recipe.ema_decay else None
    if saved and average:
        average.load(split.take(saved.weights))
    if saved:
        optimizer.load_velocity(split.take(saved.velocity))
        precision.load_state(state.loss_scale, state.steps_since_overflow)
    check_transform(spec.transform, spec.recipe.train_crop or spec.arch.input.crop, device)
    overlap = find_overlap(validation, training, seen.trained_perceptual)
    kind = HeadTrainer if spec.recipe.optimizer == "lbfgs" else Trainer
    findings = [*advice, *start_findings(spec, saved), *look_alikes_finding(overlap),
                *trained_validation_finding(len(whole), len(validation))]
    return kind(spec, processes, on_event, training, validation, preprocess.to(device), network, strategy, optimizer,
                precision, state, provenance, seen, overlap, average,
                class_weights(spec.recipe, training.labels, spec.arch.classes, device), findings)


def _first_network(spec: RunSpec, saved: Checkpoint | None) -> tuple[AlexNet, Preprocess, Provenance]:
    """The network before the first step, its preprocessing, and where its weights are from."""
    network = AlexNet(spec.arch, spec.seed)
    preprocess, provenance = Preprocess.from_data(spec.arch.input, spec.data.mean_HWC), Provenance()
    if saved:
        network.load_state_dict(saved.raw_weights or saved.weights)
        preprocess, provenance = saved.preprocess(), saved.provenance
    elif spec.init:
        taken, drawn = transfer_weights(network, spec.init, spec.data.classes)
        provenance = {"init": {**spec.init.describe(), "taken": taken, "drawn": drawn}}
        if spec.init.arch.input == spec.arch.input:  # the weights were trained on images minus that mean
            preprocess = spec.init.preprocess()
    return network, preprocess, provenance


def _split(spec: RunSpec, name: str) -> PackedSplit:
    split = spec.data.split(name)
    kind = {"train": "training", "val": "validation"}[name]
    require(len(split) > 0, f"the data has no {kind} images",
            "pack images with a train/ and a val/ folder, or pack them with --held-out 0.1")
    return split


def _not_trained_on(validation: PackedSplit, training: PackedSplit, before: SeenImages) -> PackedSplit:
    """The validation images without those that the initial weights were trained on, whose error would be too low.

    Copies of this run's own training images stay, and are reported as faults of the data.

    Args:
        validation: all of them.
        training: this run's training images, which a resumed run's checkpoint counts as trained on, too.
        before: of the initial weights, or of the checkpoint to resume.

    Raises:
        UserError: none is left.
    """
    hashes_N = validation.content_hashes
    is_left_out_N = contained(hashes_N, before.trained) & ~contained(hashes_N, distinct_hashes(training.content_hashes))
    require(not is_left_out_N.all(), f"the weights of --init were trained on all {len(validation):,} validation images",
            "start from other weights, or add validation images that these have not seen")
    return validation.subset(np.flatnonzero(~is_left_out_N)) if is_left_out_N.any() else validation


def _require_same_spec(spec: RunSpec, state: State, processes: ProcessGroup) -> None:
    """All processes must have been started on the same run."""
    processes.require_same_on_all_ranks({
        "version": [own_version(), torch.__version__], "network": to_json(spec.arch),
        "recipe": to_json(spec.recipe), "data": state.data, "seed": state.seed, "precision": state.precision,
        "transform": state.transform,
        "--parallel or --micro-batch": [spec.parallel, spec.micro_batch]})


def _require_batches(spec: RunSpec, readers: int, strategy: Strategy, training: PackedSplit) -> None:
    """Every training batch must have an image for each of the processes that read their own, and two where they mix."""
    smallest = smallest_batch(len(training), spec.recipe.batch_size)
    require(smallest >= 2 or not spec.recipe.mixes_images,
            "mixup and CutMix mix two images of a batch, and there are batches of 1 image",
            "take larger batches (--batch-size 16), or set recipe.mixup_alpha=0 and recipe.cutmix_alpha=0")
    require(smallest >= readers,
            f"batches of {plural(smallest, 'image')} cannot be shared by {readers} processes",
            f"start at most {plural(smallest, 'process', 'processes')}, or give a larger --batch-size")
    # Batch normalization of a fully connected layer would set the values of a single image to 0.
    together = smallest // strategy.micro_batch_count(smallest)
    require(together >= 2 or not spec.arch.dense_norm,
            f"batches of 1 image are too small for the batch normalization of {spec.arch.name}",
            "take larger batches (--batch-size 16), or a network without it (--arch paper)")
