"""One visible training step, and the loop around it (§5).

All that a run is at a step is in `State`; everything random is a function of (seed, epoch, image) or (seed, step).
So a run that is killed and resumed ends, on a CPU, bit for bit where the uninterrupted run ends.
"""

from __future__ import annotations

import json
import math
import platform
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import torch
from torch import Tensor

from alexnet._runtime import native
from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.devices import Precision, choose_precision, device_name
from alexnet.architecture.overrides import first_difference, to_json
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.data.augmentation import lighting_basis
from alexnet.data.loader import Batch, batches
from alexnet.data.order import batches_per_epoch
from alexnet.data.packed import PackedDataset
from alexnet.data.preprocessing import Preprocess
from alexnet.errors import Finding
from alexnet.inference.evaluate import evaluate
from alexnet.inference.metrics import Errors
from alexnet.interpret.activations import ActivationProbe
from alexnet.interpret.health import WARM_UP_STEPS, layer_findings, loss_finding
from alexnet.models import checkpoint as ckpt
from alexnet.models import saver
from alexnet.models.alexnet import AlexNet
from alexnet.models.transfer import transfer_weights
from alexnet.training.optimizer import SGD
from alexnet.training.parallel.process_group import ALONE, ProcessGroup, SilentExit
from alexnet.training.parallel.strategies import Parallel, ParallelModel, Scheme
from alexnet.training.precision import MixedPrecision
from alexnet.training.run_folder import read_config, whole_lines
from alexnet.training.schedule import Plateau, conv1_rate, learning_rate
from alexnet.training.step import train_step

Event = dict[str, Any]


# --- The state of a run -----------------------------------------------------------------------------------------------


@dataclass
class State:
    """What a run is between two steps, besides weights and velocity. Plain values: it goes into the checkpoint."""

    seed: int
    data: str
    """Fingerprint of the packed data."""
    source: str
    """Fingerprint of the images that were packed."""
    precision: str
    step: int = 0
    epoch: int = 0
    """Epochs that are closed: trained, evaluated and logged."""
    plateau: Plateau = field(default_factory=Plateau)
    best_error: float = math.inf
    seen: int = 0
    loss_sum: float = 0.0
    wrong: int = 0
    loss_scale: float = 1.0
    steps_since_overflow: int = 0

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> State:
        return cls(**{**tree, "plateau": Plateau(**tree["plateau"])})


class Interrupted(Exception):
    """A signal asked the run to stop, and it has: the checkpoint is written."""

    def __init__(self, number: int, folder: Path) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; {folder} is saved: go on with --resume")
        self.exit_code = 128 + number


class Diverged(ValueError):
    """The loss or the weights are no numbers any more. The checkpoints are those from before."""

    def __init__(self, finding: Finding, images: Sequence[str], log: Path) -> None:
        """images: of the step; all of them go into the log, and the first into the sentence."""
        more = f" and {len(images) - 3} more, all of them in {log}" if len(images) > 3 else ""
        named = f"; the images were {', '.join(images[:3])}{more}" if images else ""
        super().__init__(f"{finding}{named}")
        self.finding, self.images = finding, list(images)


class _Launched(NamedTuple):
    """A step that the device has been given, and may not have done."""

    step: int
    metrics: Tensor
    """Over all processes: mean loss, wrong guesses, how many were signalled to stop by each of STOPS, save now."""
    batch: Batch
    rate: float
    began: float
    waited: float


def _steps_behind(device: torch.device) -> int:
    """To read a loss is to wait for the GPU, so it is read when the next step is in the queue, and the GPU never is
    without work. A CPU has done its step when the call returns.
    """
    return 1 if device.type == "cuda" else 0


STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def _signals(patient: bool) -> Iterator[Callable[[], int]]:
    """Within, the signals of STOPS only leave their number behind.

    A second one acts as it always does, unless `patient`: a launcher passes on what the terminal has sent already.
    """
    caught = 0

    def remember(number: int, frame: object) -> None:
        nonlocal caught
        caught = number
        if not patient:
            signal.signal(number, former[number])

    try:
        former: dict[int, Any] = {number: signal.signal(number, remember) for number in STOPS}
    except ValueError:  # not the main thread, where Python allows no handlers: nothing to catch, nothing to restore
        former = {}
    try:
        yield lambda: caught
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class Log:
    """`log.jsonl`, one event a line, and the same numbers for TensorBoard."""

    STEPS = 10
    """Every tenth step gets a line."""

    def __init__(self, out: Path, state: State) -> None:
        from torch.utils.tensorboard import SummaryWriter  # late: it takes a second to import

        self.path = out / "log.jsonl"
        kept = [line for line in whole_lines(out) if self._still_true(json.loads(line), state)]
        replace_file(self.path, lambda path: path.write_text("".join(kept)))
        self.file = self.path.open("a")
        self.board = SummaryWriter(out / "tensorboard", purge_step=state.step + 1)

    @staticmethod
    def _still_true(event: Event, state: State) -> bool:
        """Whether a resumed run need not log this again."""
        if event["event"] == "epoch":
            return event["epoch"] <= state.epoch
        return event["event"] not in ("end", "evaluation") and event.get("step", 0) <= state.step

    def write(self, event: Event) -> None:
        if event["event"] == "step" and event["step"] % self.STEPS:
            return
        self.file.write(json.dumps(event) + "\n")
        self.file.flush()
        for key, value in event.items():
            if event["event"] in ("step", "epoch") and key not in ("event", "step", "epoch"):
                self.board.add_scalar(f"{event['event']}/{key}", value, event["step"])
            elif event["event"] == "signals" and isinstance(value, dict):
                for layer, share in value.items():
                    self.board.add_scalar(f"{key}/{layer}", share, event["step"])

    def close(self) -> None:
        self.file.close()
        self.board.close()


# --- The loop ---------------------------------------------------------------------------------------------------------


GLIMPSES = 100
"""Steps from one look at units and weights to the next (diagnostics.Glimpse)."""


class Trainer:
    """One training run: `Run(...).train()`. Its folder holds best/, last/, log.jsonl, config.json and tensorboard/.

    out: the run's folder; with `resume` it goes on where out/last stands, or starts where there is none.
    on_event: called with every step, epoch and warning: a dictionary with an `event`: what log.jsonl holds, and more.
    init: a checkpoint to begin from (finetune.py), with its mean where it takes images the same way.
    about: more for config.json, where the report finds it: `command`, `title`, `note`.
    save_minutes: how often, besides at every epoch's end, out/last is written.
    world, parallel, scheme: the processes that train it together, and how (distributed.py). The first of them logs and
    saves; `out` need not be there for the others.
    micro_batch: images that a process works on at a time, where memory does not hold its share of a batch. Their
    gradients add up to the batch's; only batch normalization notices, whose statistics are then of a part.
    Raises ValueError for data, network and recipe that do not go together, with nothing written.
    """

    def __init__(
        self, packed: PackedDataset, arch: Arch, recipe: Recipe, out: Path, *, seed: int = 0, device: str = "cpu",
        precision: Precision | Literal["auto"] = "fp32", resume: bool = False, workers: int = 2,
        save_minutes: float = 10.0,
        init: ckpt.Checkpoint | None = None, on_event: Callable[[Event], None] = lambda event: None,
        about: dict[str, Any] | None = None, world: ProcessGroup = ALONE, parallel: Parallel = "data", scheme: Scheme = "a",
        micro_batch: int | None = None,
    ) -> None:
        if packed.side != arch.input.side:
            raise ValueError(
                f"the data is packed at {packed.side} pixels and {arch.name} takes {arch.input.side}; pack it again "
                f"with --side {arch.input.side}, or --set arch.input.side={packed.side} (and arch.input.crop below it)")
        if seed < 0:
            raise ValueError(f"seed {seed} must be 0 or more")
        if micro_batch is not None and micro_batch < 2:
            raise ValueError(f"micro_batch {micro_batch} must be at least 2 images")
        self.micro_batch = micro_batch
        self.arch = replace(arch, classes=len(packed.classes))
        self.recipe, self.packed, self.out = recipe, packed, out
        self.device, self.workers, self.save_minutes = torch.device(device), workers, save_minutes
        precision = choose_precision(precision, self.device)
        self.arithmetic = MixedPrecision(precision, self.device)
        self.on_event, self.about, self.world = on_event, about or {}, world
        self.state = State(seed, packed.fingerprint, packed.source_fingerprint, precision)
        self.training, self.validation = packed.split("train"), packed.split("val")
        for name, split in (("training", self.training), ("validation", self.validation)):
            if not len(split):
                raise ValueError(f"the data has no {name} images; pack it with a train/ and a val/ folder, or "
                                 "with --held-out 0.1")
        self.steps = batches_per_epoch(len(self.training), recipe.batch_size)
        self.preprocess = Preprocess.from_data(self.arch.input, packed.mean_HWC).to(self.device)
        self.lighting = lighting_basis(packed.rgb_covariance, recipe.lighting_scale).to(self.device)
        self._agree(parallel, scheme)
        readers = 1 if parallel == "towers" else world.size
        saved: ckpt.Checkpoint | None = world.from_first(lambda: self._saved(resume, readers))
        self.network = AlexNet(self.arch, seed)
        self.provenance = saved.provenance if saved else {}
        if init and not saved:
            self._begin_from(init)
        if saved:
            self.network.load_state_dict(saved.weights)
        self.team = ParallelModel(world, self.network, parallel, scheme, pieces=micro_batch is not None)
        self.network.freeze(recipe.freeze)
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.team.ready()
        self.arithmetic.everywhere = self.team.everywhere
        drawn = self.provenance.get("init", {}).get("drawn", [])
        self.optimizer = SGD(self.network, recipe, anew=[self.network.named_layer(name) for name in drawn])
        self.optimizer.squares = self.team.squares
        if saved:
            self._restore(saved)
        self._latest: _Launched | None = None
        """The step whose loss was read last."""
        self._saver = saver.Saver()
        self._saved_at = time.monotonic()
        self._said: set[str] = set()

    def fit(self) -> Errors:
        """Train to the recipe's last epoch. Returns the last validation errors.

        Raises Interrupted after a signal, with out/last written, Diverged where the loss is not a number, and OSError
        where `out` cannot be written.
        """
        try:
            return self._train()
        except OSError as error:
            error.filename = error.filename or str(self.out)  # the log's writes do not say to which file
            raise

    def _train(self) -> Errors:
        log = None
        with self.world.error_barrier():
            if self.world.first:
                self.out.mkdir(parents=True, exist_ok=True)
                self._write_config()
                log = Log(self.out, self.state)

        def tell(**event: Any) -> None:
            if log:
                log.write(event)
                self.on_event(event)

        errors = Errors()
        try:
            with _signals(patient=self.world.size > 1) as caught:
                tell(event="start", step=self.state.step, epoch=self.state.epoch, steps_per_epoch=self.steps,
                     images=len(self.training), classes=self.arch.classes, epochs=self.recipe.epochs)
                while self.state.epoch < self.recipe.epochs:
                    self._train_epoch(tell, caught)
                    errors = self._close_epoch(tell, caught)
                self._saver.wait()
                tell(event="end", step=self.state.step, epoch=self.state.epoch, best_top1_error=self.state.best_error)
        except Diverged as diverged:
            if log:  # and no one else is told: the exception says it
                log.write({"event": "warning", "step": self.state.step, **asdict(diverged.finding),
                           "images": diverged.images})
            if not self.world.first:  # all of them saw it, and one says so
                raise SilentExit(2) from diverged
            raise
        finally:
            if log:
                log.close()
            self._saver.wait()
        return errors

    def _train_epoch(self, tell: Callable[..., None], caught: Callable[[], int]) -> None:
        state = self.state
        self.network.train()
        rank, world = self.team.reads
        with closing(batches(
                self.training, self.recipe.batch_size, shuffle=(state.seed, state.epoch), rank=rank, world=world,
                start=state.step - state.epoch * self.steps, workers=self.workers, device=self.device)) as source:
            self._take_steps(source, tell, caught)

    def _take_steps(self, source: Iterator[Batch], tell: Callable[..., None], caught: Callable[[], int]) -> None:
        state, recipe = self.state, self.recipe
        latest: list[float] = []
        launched: deque[_Launched] = deque()
        behind = _steps_behind(self.device)

        stop = 0

        def settle(left: int) -> bool:
            """Read what was launched. Whether it is time to save."""
            nonlocal stop
            save = False
            while len(launched) > left:
                done = launched.popleft()
                stopped, due = self._consume(tell, done, latest)
                stop, save = stop or stopped, save or due
            return save

        while True:
            began = time.perf_counter()
            batch = next(source, None)
            if batch is None:
                break
            waited = time.perf_counter() - began
            moment = (state.step + 0.5) / self.steps
            rate = learning_rate(recipe, moment, state.plateau.drops)
            with ActivationProbe(self.network) if state.step % GLIMPSES == 0 else nullcontext() as glimpse:
                loss, wrong = self._step(batch, rate, conv1_rate(recipe, moment, rate))
            state.step += 1
            if glimpse:
                self._judge_units(tell, glimpse)
            launched.append(_Launched(
                state.step, self._told(loss, wrong, batch, caught()), batch, rate, began, waited))
            save = settle(behind)
            if self.world.size == 1:  # there is nobody to agree with
                stop = stop or caught()
            if stop:
                settle(0)
                self._stop(stop)
            if save:
                settle(0)
                self._save_last()
        settle(0)
        if stop:
            self._stop(stop)

    def _told(self, loss: Tensor, wrong: Tensor, batch: Batch, caught: int) -> Tensor:
        """What a step gave and what is asked of the run, over all processes, so that all of them do the same."""
        share = len(batch.indices) / len(batch.global_indices)
        due = self.world.first and time.monotonic() - self._saved_at > 60 * self.save_minutes
        asked = torch.tensor([*(float(caught == number) for number in STOPS), float(due)])
        gave = torch.stack([loss * share, wrong.float()]) * self.team.counts
        return self.world.all_reduce_sum(torch.cat([gave, asked.to(gave.device)]))

    def _stop(self, number: int) -> NoReturn:
        """Save, and end by a signal: the step is done, or the epoch is trained and will be evaluated again."""
        self._save_last()
        self._saver.wait()
        self.world.wait()  # a launcher ends the others when one has ended, and the first may not have saved
        raise Interrupted(number, self.out / "last")

    def _consume(self, tell: Callable[..., None], done: _Launched, latest: list[float]) -> tuple[int, bool]:
        """Read what a step gave, count it, tell it, judge it. The signal to stop by, and whether to save."""
        state, (loss, wrong_, *stops, due) = self.state, done.metrics.tolist()
        wrong, images = int(wrong_), len(done.batch.global_indices)
        state.seen += images
        state.loss_sum += loss * images
        state.wrong += wrong
        self._latest = done
        seconds = time.perf_counter() - done.began
        tell(event="step", step=done.step, epoch=state.epoch + 1, loss=loss, learning_rate=done.rate,
             train_error=wrong / images, images_per_second=images / seconds,
             waiting=done.waited / seconds)
        latest.append(loss)
        del latest[:-200]
        self._judge(tell, done.step, latest)
        return next((int(number) for number, asked in zip(STOPS, stops, strict=True) if asked), 0), bool(due)

    def _step(self, batch: Batch, rate: float, conv1_rate: float) -> tuple[Tensor, Tensor]:
        """A step on this process's share of a batch, in parts where it is large. Its loss and wrong guesses."""
        state = self.state
        # Dropout draws from torch's global generator; seeding it by the step makes it arithmetic like all else.
        torch.manual_seed((state.seed * 1_000_003 + state.step) % 2**63)
        pieces = self.team.pieces(len(batch.global_indices), self.micro_batch)
        losses, wrongs = [], []
        for piece, part in enumerate(batch.parts(pieces)):
            self.team.see(len(batch.global_indices), state.step, piece, pieces)
            views_NCHW = self._views(part)
            last = piece == pieces - 1
            with self.team.adding(last):
                loss, wrong = train_step(
                    self.team.trained, self.optimizer, views_NCHW.contiguous(memory_format=torch.channels_last),
                    part.labels_N, rate, self.arithmetic, conv1_rate, len(part.indices) / len(batch.global_indices), last)
            losses.append(loss * (len(part.indices) / len(batch.indices)))
            wrongs.append(wrong)
        return torch.stack(losses).sum(), torch.stack(wrongs).sum()

    def _views(self, part: Batch) -> Tensor:
        """What the network is shown of those images in this epoch."""
        state, stops = self.state, self.recipe.lighting_stop_epoch
        lighting = self.lighting if not stops or state.epoch < stops else None
        return self.preprocess.training_views(
            part.pixels, part.indices, self.recipe, state.seed, state.epoch, lighting, self.arithmetic.dtype_of_views,
            part.group_leaders(self.recipe.view_group))

    def _diverged(self, loss: float) -> Diverged:
        """What to raise, in all processes at once, where a loss is no number: the likely cause, and the images.

        The views of the latest step are made anew: where some are no numbers, it is they and not the rate.
        """
        own: list[int] = []
        if self._latest:
            batch = self._latest.batch
            for part in batch.parts(self.team.pieces(len(batch.global_indices), self.micro_batch)):
                fit_N = self._views(part).isfinite().flatten(1).all(1).numpy(force=True)
                own += part.indices[~fit_N].tolist()
        unfit = sorted({index for text in self.world.all_gather_text(json.dumps(own)) for index in json.loads(text)})
        step = self._latest.step if self._latest else self.state.step
        finding = loss_finding(loss, self.arch.classes, step, self.arch.norm)
        if unfit or finding is None:
            finding = Finding("input_not_finite", "", f"the loss is {loss} after step {step}: the network's input has "
                              "values that are not finite", "check arch.input.scale and arch.input.mean, and pack the "
                              "data again")
        shown = (unfit or self._latest.batch.global_indices.tolist()) if self._latest and self.world.first else []
        return Diverged(finding, [self.training.names[index] for index in shown], self.out / "log.jsonl")

    def _judge(self, tell: Callable[..., None], step: int, latest: list[float]) -> None:
        """Say in words what is wrong with the loss. Raises Diverged where nothing can come of going on."""
        if not math.isfinite(latest[-1]):
            raise self._diverged(latest[-1])
        if step % 200 == 0:
            mean = sum(latest) / len(latest)
            if finding := loss_finding(mean, self.arch.classes, step, self.arch.norm):
                tell(event="warning", step=step, **asdict(finding))

    def _judge_units(self, tell: Callable[..., None], glimpse: ActivationProbe) -> None:
        """Log what the units and the weights did in a step; say in words, once, what is wrong when there was time."""
        signals, step = glimpse.signals(), self.state.step
        tell(event="signals", step=step, **signals)
        if step > WARM_UP_STEPS:
            saturated, dead = signals["saturated"], signals["dead"]
            for finding in layer_findings(self.arch.activation, saturated, dead, {}, self.arch.norm):
                if finding.kind not in self._said:
                    self._said.add(finding.kind)
                    tell(event="warning", step=step, **asdict(finding))

    def _close_epoch(self, tell: Callable[..., None], caught: Callable[[], int]) -> Errors:
        state = self.state

        def check(done: int, total: int) -> None:
            if self.world.first:
                self.on_event({"event": "validating", "done": done, "total": total})
            if stop := self.world.all_reduce_max(caught()):
                self._stop(stop)

        errors = self.team.errors(evaluate(
            [(self.team.measured, self.preprocess)], self.validation, device=self.device, on_progress=check,
            share=self.team.reads))
        if not math.isfinite(errors.loss):
            raise self._diverged(errors.loss)
        rate = learning_rate(self.recipe, (state.step - 0.5) / self.steps, state.plateau.drops)
        state.plateau.see(errors.top1_error, self.recipe)
        state.epoch += 1
        tell(event="epoch", step=state.step, epoch=state.epoch, train_loss=state.loss_sum / state.seen,
             train_error=state.wrong / state.seen, val_loss=errors.loss, val_top1_error=errors.top1_error,
             val_top5_error=errors.top5_error, learning_rate=rate)
        state.seen, state.loss_sum, state.wrong = 0, 0.0, 0
        if errors.top1_error < state.best_error:
            state.best_error = errors.top1_error
            self._save(errors, "best", resumable=False)
        self._save_last(errors)
        return errors

    # --- Beginning, saving and restoring ---

    def _agree(self, parallel: Parallel, scheme: Scheme) -> None:
        """Raises ValueError where a process was started on something else, or has nothing to do."""
        for what, value in (
            ("version", [version("alexnet"), torch.__version__]), ("network", to_json(self.arch)),
            ("recipe", to_json(self.recipe)), ("data", self.state.data), ("seed", self.state.seed),
            ("precision", self.state.precision), ("way to share it", [parallel, scheme, self.micro_batch]),
        ):
            self.world.require_same_on_all_ranks(what, value)
        for split, size in ((self.training, self.recipe.batch_size), (self.validation, 128)):
            smallest = len(split) // batches_per_epoch(len(split), size)
            if smallest < self.world.size and parallel != "towers":
                raise ValueError(f"batches of {smallest} images leave some of {self.world.size} processes without "
                                 "any; start fewer, or take larger batches (--set recipe.batch_size=...)")

    def _begin_from(self, init: ckpt.Checkpoint) -> None:
        taken, drawn = transfer_weights(self.network, init, self.packed.classes)
        if init.arch.input == self.arch.input:  # what the weights were trained on was less that mean
            self.preprocess = init.preprocess().to(self.device)
        self.provenance = {"init": {**init.describe(), "taken": taken, "drawn": drawn}}

    def _save(self, errors: Errors | None, name: str, *, resumable: bool) -> None:
        """Begin to write out/name, for which all processes give what they have."""
        # The update after a finite loss can be the one that explodes, and no save may keep that. Batch normalization's
        # running variance can overflow alone: its layers go on by the batch's, and would measure by infinity.
        kept = (*self.network.state_dict().values(), *self.optimizer.velocity.values())
        if not self.team.everywhere(all(bool(tensor.isfinite().all()) for tensor in kept)):
            raise self._diverged(math.nan)
        self.state.loss_scale = self.arithmetic.scale
        self.state.steps_since_overflow = self.arithmetic.steps_since_overflow
        weights = self.team.whole(self.network.state_dict())
        velocity = self.team.whole(self.optimizer.velocity) if resumable else {}
        if self.world.first:
            self._saver.save(ckpt.Checkpoint(
                arch=self.arch, classes=self.packed.classes, recipe=self.recipe, weights=weights,
                mean_HWC=self.preprocess.mean_HWC, velocity=velocity, training=asdict(self.state),
                errors=errors.to_json() if errors else {}, provenance=self.provenance), self.out / name)

    def _save_last(self, errors: Errors | None = None) -> None:
        self._save(errors, "last", resumable=True)
        self._saved_at = time.monotonic()

    def _saved(self, resume: bool, readers: int) -> ckpt.Checkpoint | None:
        """The run to go on with, if there is one and it is the same run."""
        if (self.out / ckpt.HEAD).exists():  # it would stand before the run's best and last
            raise ValueError(f"{self.out} holds a checkpoint that is no run, such as an import; choose another --out")
        if not (self.out / "last" / ckpt.HEAD).exists():
            if (self.out / "log.jsonl").exists() and not resume:
                raise ValueError(f"{self.out} holds a run that was stopped; add --resume, or choose another --out")
            return None
        if not resume:
            raise ValueError(f"{self.out} already holds a run; add --resume to go on with it, or choose another --out")
        saved = ckpt.load(self.out / "last", with_velocity=True)
        state = State.from_json(saved.training)
        recipe = replace(saved.recipe or self.recipe, epochs=self.recipe.epochs)
        for what, then, now in (
            ("network", to_json(saved.arch), to_json(self.arch)), ("recipe", to_json(recipe), to_json(self.recipe)),
            ("classes", list(saved.classes), list(self.packed.classes)), ("data", state.data, self.state.data),
            ("seed", state.seed, self.state.seed), ("precision", state.precision, self.state.precision),
        ):
            if then != now:
                raise ValueError(f"{self.out} was begun with another {what} ({first_difference(then, now)}); "
                                 "resume it with the same, or choose another --out")
        if state.step % self.steps:
            begun = read_config(self.out)["readers"]
            if self.training.lanes(begun) != self.training.lanes(readers):
                raise ValueError(f"{self.out} was stopped within an epoch that {begun} processes read, and {readers} "
                                 f"would read the stream in another order; go on with {begun} to the epoch's end")
        return saved

    def _restore(self, saved: ckpt.Checkpoint) -> None:
        self.state = State.from_json(saved.training)
        self.preprocess = saved.preprocess().to(self.device)
        own = self.team.own(saved.velocity)
        for name, velocity in self.optimizer.velocity.items():
            velocity.copy_(own[name])
        self.arithmetic.scale = self.state.loss_scale
        self.arithmetic.steps_since_overflow = self.state.steps_since_overflow

    def _write_config(self) -> None:
        config = {
            "arch": to_json(self.arch), "recipe": to_json(self.recipe), "seed": self.state.seed,
            "precision": self.state.precision, "device": device_name(self.device), "kernels": native.level(),
            "data": {"source": self.packed.source, "packed": str(self.packed.path.resolve()),
                     "fingerprint": self.packed.fingerprint, "side": self.packed.side,
                     "classes": list(self.packed.classes),
                     "images": {"train": len(self.training), "val": len(self.validation)}},
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "threads": torch.get_num_threads(), "processes": self.world.size,
            "readers": self.team.reads[1],
            **({"parallel": self.team.parallel} if self.world.size > 1 else {}),
        } | self.about
        replace_file(self.out / "config.json", lambda path: path.write_text(json.dumps(config, indent=1)))


def resumable(out: Path) -> tuple[Arch, Recipe, State] | None:
    """Network, recipe and state of the run in a folder, for going on with it without naming them again."""
    if not (out / "last" / ckpt.HEAD).exists():
        return None
    head = ckpt.load(out / "last")
    assert head.recipe is not None
    return head.arch, head.recipe, State.from_json(head.training)
