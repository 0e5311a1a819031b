"""`Trainer`: the training loop around `train_step`: epochs, validation, checkpoints, log, and stopping on a signal."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import cast

import torch
from torch import Tensor

from alexnet._runtime.readback import Readback
from alexnet.data.augmentation import lighting_basis
from alexnet.data.findings import pack_findings
from alexnet.data.loader import Batch, batches, timed
from alexnet.data.order import batches_per_epoch
from alexnet.data.overlap import Overlap
from alexnet.data.packed import PackedSplit
from alexnet.data.preprocessing import Preprocess
from alexnet.errors import Finding
from alexnet.inference.evaluate import BATCH_SIZE, CUDA_BATCH_SIZE, evaluate
from alexnet.inference.metrics import Errors
from alexnet.interpret.activations import ActivationProbe
from alexnet.interpret.health import input_finding, loss_finding
from alexnet.models import checkpoint as ckpt
from alexnet.models import saver
from alexnet.models.alexnet import AlexNet
from alexnet.models.provenance import Provenance
from alexnet.models.seen import SeenImages
from alexnet.training.batch_norm_fit import fit_batch_norm
from alexnet.training.events import EpochEvent, Event, ValidatingEvent, WarningEvent
from alexnet.training.monitor import PROBE_STEPS, Monitor, image_findings
from alexnet.training.optimizer import SGD
from alexnet.training.parallel.process_group import ProcessGroup
from alexnet.training.parallel.step_clock import slowest_rank
from alexnet.training.parallel.strategy import Strategy
from alexnet.training.parallel.text_exchange import SilentExit
from alexnet.training.precision import MixedPrecision
from alexnet.training.queued_step import QueuedStep, Requests, step_results, steps_behind
from alexnet.training.run_folder import RunLog, record_selection, seen_by, write_config
from alexnet.training.schedule import conv1_learning_rate, learning_rate, logged_rates
from alexnet.training.spec import RunSpec
from alexnet.training.state import Diverged, Interrupted, State
from alexnet.training.step import train_step
from alexnet.training.step_graph import StepGraph, recorder_on
from alexnet.training.stop_signal import SIGNALS, SignalPoll, StopSignal
from alexnet.training.training_views import TrainingViews
from alexnet.training.weight_average import WeightAverage


@dataclass
class Trainer:
    """A run that `build` has made: `build(RunSpec(data, arch, recipe, out)).fit()`."""

    spec: RunSpec
    processes: ProcessGroup
    on_event: Callable[[Event], None]
    training: PackedSplit
    validation: PackedSplit
    preprocess: Preprocess
    network: AlexNet
    strategy: Strategy
    optimizer: SGD
    precision: MixedPrecision
    state: State
    provenance: Provenance
    seen: SeenImages
    overlap: Overlap
    """Validation images that are copies of training images, or look like one."""
    average: WeightAverage | None = None
    """With `Recipe.ema_decay`: what is evaluated and saved."""
    class_weights_K: Tensor | None = None
    findings: list[Finding] = field(default_factory=list)
    """On the whole run, such as that another start would be better: reported first when training starts."""

    def __post_init__(self) -> None:
        self.device = torch.device(self.spec.device)
        self.steps_per_epoch = batches_per_epoch(len(self.training), self.spec.recipe.batch_size)
        self.monitor = Monitor(self.spec.arch, "init" in self.provenance, self.spec.recipe, len(self.validation))
        self.signals = StopSignal()
        lighting_CC = lighting_basis(self.spec.data.rgb_covariance, self.spec.recipe.lighting_scale).to(self.device)
        self.training_views = TrainingViews(
            self.preprocess, self.spec.recipe, lighting_CC, self.precision.input_dtype, self.state.seed,
            self.spec.transform, rank=self.strategy.batch_part[0])
        self.graph = StepGraph(
            self.strategy.module, self.optimizer, self.precision, self.strategy.batch, self.class_weights_K,
            recorder_on(self.device)) if self.spec.cuda_graph else None
        self._log: RunLog | None = None
        self._saver, self._saved_at = saver.Saver(), time.monotonic()
        self._latest: QueuedStep | None = None
        self._saved_step = self.state.step or None

    # --- The loop ---

    def fit(self) -> Errors:
        """Train to the recipe's last epoch, or until it stops early. Returns the last validation errors.

        Raises:
            Interrupted: after a signal, with out/last written.
            Diverged: if the loss or a weight is not finite.
            OSError: if the run folder cannot be written.
        """
        state, errors = self.state, Errors()
        with self._recording(), self.signals.caught(repeatedly=self.processes.size > 1):
            self.log_event("start", step=state.step, epoch=state.epoch, steps_per_epoch=self.steps_per_epoch,
                           images=len(self.training), classes=self.spec.arch.classes, epochs=self.spec.recipe.epochs,
                           notes=list(self.spec.data.all_notes), **self._logged_class_weights())
            self._log_warnings(image_findings(self.spec.data), state.step)
            self._warn([*self.findings, *pack_findings(self.spec.data, self.class_weights_K is not None)], state.step)
            while not state.is_finished(self.spec.recipe):
                self.train_epoch()
                errors = self.close_epoch()
            self._saver.wait()
            if self.monitor.epochs:  # also of a run that was killed after its last save
                self._warn(self.monitor.result_findings(state, self.validation.labels), state.step)
            self.log_event("end", step=state.step, epoch=state.epoch, best_top1_error=state.best_error,
                           stopped_early=state.stops_early(self.spec.recipe))
        return errors

    def _logged_class_weights(self) -> dict[str, list[float]]:
        return {} if self.class_weights_K is None else {"class_weights": self.class_weights_K.tolist()}

    def train_epoch(self) -> None:
        """Train from where the state stands to the end of its epoch; save when it is due; stop on a signal."""
        self.network.train()
        queued: deque[QueuedStep] = deque()
        with closing(self.epoch_batches()) as source, self.processes.clock.running():
            for batch, began, waited in timed(source):
                queued.append(self._queue_step(batch, began, waited, queued[-1].results if queued else None))
                requests = self._consume(queued, keep=steps_behind(self.device))
                if requests.stop or requests.save:
                    later = self._consume(queued, keep=0)
                    self._serve(Requests(requests.stop or later.stop, requests.save or later.save))
                    self.processes.clock.restart()
        self._serve(self._consume(queued, keep=0))

    def close_epoch(self) -> Errors:
        """Evaluate on the validation images, lower the rate on a plateau, save out/last, and the best as out/best.

        Returns:
            The errors; those of no image if this epoch is not validated, and not saved either.
        """
        state, recipe = self.state, self.spec.recipe
        rate = learning_rate(recipe, (state.step - 0.5) / self.steps_per_epoch, state.plateau.drops)
        trained = {"step": state.step, "epoch": state.epoch + 1, **logged_rates(recipe, rate),
                   "train_loss": state.epoch_loss_sum / state.epoch_images,
                   "train_error": state.epoch_wrong / state.epoch_images}
        if trained["epoch"] % self.spec.validate_every and trained["epoch"] < recipe.epochs:
            self.log_event("trained", **trained)
            state.next_epoch()
            return Errors()
        errors = self.validate()
        if not math.isfinite(errors.loss):
            raise self._diverged(errors.loss)
        state.plateau.update(errors.top1_error, recipe)
        event = cast(EpochEvent, {"event": "epoch", **trained, "val_loss": errors.loss,
                                  "val_top1_error": errors.top1_error, "val_top5_error": errors.top5_error,
                                  **({"val_groups": sample.to_json()} if (sample := errors.sample) else {})})
        self.log_event(**event)
        self._warn(self.monitor.epoch_findings(event), state.step)
        if state.close_epoch(errors.top1_error, errors.loss):
            self._save("best", errors, resumable=False)
        self._save_last(errors)
        return errors

    def validate(self) -> Errors:
        """The errors on the validation images, of the weights or of their average.

        In fp32 in any run: logits in bf16 often tie, and a tie with the true class counts as an error.
        """
        with self.average.swapped() if self.average else nullcontext():
            if self.spec.recipe.train_crop:
                fit_batch_norm(self.network, self.preprocess, self.training)
                self.processes.wait()  # each has read the images itself
            size = BATCH_SIZE
            if self.device.type == "cuda" and not self.spec.micro_batch:  # small batches may mean that memory is short
                size = min(CUDA_BATCH_SIZE, max(BATCH_SIZE, self.spec.recipe.batch_size))
            return evaluate(
                [(self.strategy.evaluated, self.preprocess)], self.validation, device=self.device, batch_size=size,
                on_progress=partial(self._validating, SignalPoll(self.processes)), share=self.strategy.batch_part,
                total=self.strategy.sum_errors, over_ranks=self.strategy.sum_counts,
                collective=self.strategy.evaluates_together)

    # --- One step ---

    def epoch_batches(self) -> Generator[Batch]:
        """This process's part of the epoch's batches, from the state's step on.

        Within an epoch the order stays as it is, also of a run that resumes with another number of processes.
        """
        state, (rank, world) = self.state, self.strategy.batch_part
        start = state.step - state.epoch * self.steps_per_epoch
        if not start:
            state.lanes = self.training.lanes(world)
        return batches(
            self.training, self.spec.recipe.batch_size, shuffle=(state.seed, state.epoch), rank=rank, world=world,
            lanes=state.lanes, start=start, workers=self.spec.workers, ahead=max(4, self.spec.workers),
            device=self.device, draw=partial(self.training_views.draw, epoch=state.epoch))

    def _queue_step(self, batch: Batch, began: float, waited: float, after: Readback | None) -> QueuedStep:
        """Take a step, whose result may still be under way on the device. Arguments as in `QueuedStep`."""
        state, recipe = self.state, self.spec.recipe
        epochs_done = (state.step + 0.5) / self.steps_per_epoch
        rate = learning_rate(recipe, epochs_done, state.plateau.drops)
        probe = ActivationProbe(self.network) if state.step % PROBE_STEPS == 0 else None
        with probe or nullcontext():  # a recorded step calls no hooks
            loss, wrong = self.train_batch(
                batch, rate, conv1_learning_rate(recipe, epochs_done, rate), recorded=not probe)
        state.step += 1
        if self.average:
            self.average.update(state.step)
        if probe:
            self.log_event("signals", step=state.step, **(signals := probe.signals()))
            self._warn(self.monitor.unit_findings(state.step, signals), state.step)
        due = self.processes.first and time.monotonic() - self._saved_at > 60 * self.spec.save_minutes
        return QueuedStep(state.step, batch, rate, self._results(loss, wrong, batch, due),
                          due and self.processes.size == 1, began, waited, after)

    def train_batch(
        self, batch: Batch, rate: float, conv1_rate: float, *, recorded: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """A step on this process's part of a batch, in micro-batches if need be: mean loss and wrong predictions.

        recorded: whether it may replay a CUDA graph (`RunSpec.cuda_graph`).
        """
        state, images = self.state, len(batch.global_indices)
        count, losses, wrongs = self.strategy.micro_batch_count(images), [], []
        for number, (part, views_NCHW, mixed) in enumerate(
                self.training_views.micro_batches(batch, count, state.epoch, state.step)):
            self.strategy.start_micro_batch(images, state.step, number, count)
            views_NCHW, last = views_NCHW.contiguous(memory_format=torch.channels_last), number == count - 1
            if self.graph and recorded:
                return self.graph(views_NCHW, part.labels_N, rate, conv1_rate, mixed)
            with self.strategy.gradient_sync(enabled=last):
                loss, wrong = train_step(
                    self.strategy.module, self.optimizer, views_NCHW, part.labels_N, rate, self.precision,
                    conv1_rate=conv1_rate, batch_fraction=len(part.indices) / images, update=last,
                    class_weights_K=self.class_weights_K, mixed=mixed)
            losses.append(loss * (len(part.indices) / len(batch.indices)))
            wrongs.append(wrong)
        return torch.stack(losses).sum(), torch.stack(wrongs).sum()

    def _results(self, loss: Tensor, wrong: Tensor, batch: Batch, save: bool) -> Readback:
        """A step's results, on their way to the CPU."""
        fraction, reports = len(batch.indices) / len(batch.global_indices), self.strategy.reports
        return Readback(step_results(
            loss * fraction * reports, wrong * reports, self.processes, signal=self.signals.pending, save=save,
            timed=self.state.step % RunLog.STEPS == 0))

    def _consume(self, queued: deque[QueuedStep], keep: int) -> Requests:
        """Read back all queued steps but the last `keep`: count, log and check their results."""
        requests = Requests()
        while len(queued) > keep:
            done = self._latest = queued.popleft()
            loss, wrong, *rest = done.results.read()
            flags, times = rest[: len(SIGNALS) + 1], rest[len(SIGNALS) + 1 :]
            images, seconds = len(done.batch.global_indices), done.seconds()
            self.state.count(images, loss, int(wrong))
            self.log_event("step", step=done.step, epoch=self.state.epoch + 1, loss=loss,
                           **logged_rates(self.spec.recipe, done.rate), train_error=int(wrong) / images,
                           images_per_second=images / seconds, waiting=min(1.0, done.waited / seconds),
                           **slowest_rank(times))
            if not math.isfinite(loss):
                raise self._diverged(loss)
            self._warn(self.monitor.loss_findings(done.step, self.state.recent_losses), done.step)
            if flags:
                requests.add(flags)
            requests.save = requests.save or done.save_is_due
        if self.processes.size == 1:  # no other process needs to hear of it first
            requests.stop = requests.stop or self.signals.pending
        return requests

    def _serve(self, requests: Requests) -> None:
        """Save, and end the run if a signal asks for it. Every queued step has been read back."""
        if requests.stop:
            self._save_last()
            self._saver.wait()
            self.processes.wait()  # a launcher ends all processes when one has ended, and rank 0 may still be saving
            raise Interrupted(requests.stop, self.spec.out / "last")
        if requests.save:
            self._save_last()

    def _validating(self, poll: SignalPoll, done: int, total: int) -> None:
        """Report the progress of an evaluation; stop on a signal, after which the epoch is evaluated again."""
        if self.processes.first:
            self.on_event(ValidatingEvent(event="validating", done=done, total=total))
        self._serve(Requests(stop=poll.stop_requested(self.signals.pending)))

    # --- Log and findings ---

    def log_event(self, event: str, **values: object) -> None:
        """Write an event into the log and pass it to `on_event`, in rank 0.

        Args:
            event: the kind.
            values: the other fields of the kind's class in `training.events`.
        """
        if self.processes.first:
            made = cast(Event, {"event": event, **values})
            if self._log:
                self._log.write(made)
            self.on_event(made)

    def _warn(self, findings: Iterable[Finding], step: int) -> None:
        for finding in findings:
            self.log_event("warning", step=step, **asdict(finding))

    def _log_warnings(self, findings: Iterable[Finding], step: int) -> None:
        """Log findings that were printed when the data was opened, for the report."""
        for finding in findings:
            if self._log:
                self._log.write(cast(WarningEvent, {"event": "warning", "step": step, **asdict(finding)}))

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Inside, the run folder is there and its log is open; an error is logged, and reported by one process."""
        try:
            with self.processes.error_barrier():
                if self.processes.first:
                    self.spec.out.mkdir(parents=True, exist_ok=True)
                    self._log = RunLog(self.spec.out, self.state, self.processes.size > 1)
                    self.monitor.recall(self._log.before)
                    write_config(
                        self.spec, self.state.precision, {"train": len(self.training), "val": len(self.validation)},
                        self.overlap, self.processes.size, self.seen.unknown)
                    self._log.open_trackers(self.spec, self.state)
                    record_selection(self.spec, self.state, self.validation)
            yield
        except Diverged as diverged:
            if self._log:  # not on_event: the exception says the same
                self._log.write(cast(WarningEvent, {"event": "warning", "step": self.state.step,
                                                    **asdict(diverged.finding), "images": diverged.images}))
            if not self.processes.first:  # it was raised in all processes, and rank 0 reports it
                raise SilentExit(diverged) from diverged
            raise
        except OSError as error:
            error.filename = error.filename or str(self.spec.out)  # an error of the log's file does not name it
            raise
        finally:
            if self._log:
                self._log.close()
                self._log = None
            self._saver.wait()

    def _diverged(self, loss: float) -> Diverged:
        """The error for a loss or weight that is not finite, in all processes at once: the likely cause, the images.

        The views of the latest step are made again: if some are not finite, they are the cause, and not the rate.
        """
        own: list[int] = []
        if latest := self._latest:
            count = self.strategy.micro_batch_count(len(latest.batch.global_indices))
            for number, part in enumerate(latest.batch.parts(count)):
                views_NCHW = self.training_views.of(part, self.state.epoch, latest.step - 1, number)
                finite_N = views_NCHW.isfinite().flatten(1).all(1).numpy(force=True)
                own += part.indices[~finite_N].tolist()
        everyones = map(json.loads, self.processes.all_gather_text(json.dumps(own)))
        bad_views = sorted({index for indices in everyones for index in indices})
        step = latest.step if latest else self.state.step
        finding = loss_finding(loss, self.spec.arch.classes, step, self.spec.arch.norm)
        if bad_views or finding is None:
            finding = input_finding(loss, step, self.state.transform)
        images = bad_views or (latest.batch.global_indices.tolist() if latest else [])
        names = [self.training.names[index] for index in images] if latest and self.processes.first else []
        return Diverged(finding, names, self.spec.out / "log.jsonl", self._saved_step)

    # --- Checkpoints ---

    def _save_last(self, errors: Errors | None = None) -> None:
        self._save("last", errors, resumable=True)
        self._saved_at, self._saved_step = time.monotonic(), self.state.step

    def _save(self, name: str, errors: Errors | None, *, resumable: bool) -> None:
        """Begin to write out/name; all processes contribute their parts."""
        # The update after a finite loss can be the one that explodes, and must not be saved. The running variance of
        # batch normalization can overflow alone: training uses the batch's own, and evaluation would use infinity.
        tensors = (*self.network.state_dict().values(), *self.optimizer.velocity.values())
        if not self.processes.all_true(bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())):
            raise self._diverged(math.nan)
        self.state.loss_scale = self.precision.scale
        self.state.steps_since_overflow = self.precision.steps_since_overflow
        gather, average, spec = self.strategy.split_network.gather, self.average, self.spec
        weights = gather(average.average if average else self.network.state_dict())
        raw_weights = gather(average.trained) if average and resumable else {}
        velocity = gather(self.optimizer.velocity) if resumable else {}
        if self.processes.first:
            if self._log:
                self._log.wait()  # the run resumes from here, and its log must have what was before
            self._saver.save(ckpt.Checkpoint(
                arch=spec.arch, classes=spec.data.classes, recipe=spec.recipe, weights=weights, velocity=velocity,
                raw_weights=raw_weights, mean_HWC=self.preprocess.mean_HWC, training=self.state.to_json(),
                errors={**errors.to_json(), **self.overlap.to_json()} if errors else {}, provenance=self.provenance,
                seen=seen_by(name, spec.recipe, self.seen, self.validation)), spec.out / name)
        self.processes.wait()  # rank 0 may have waited for the disk, to finish an earlier save or its log
