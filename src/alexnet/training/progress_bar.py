"""Progress bar of a training run: loss, error and images per second, one line for each epoch and warning."""

from __future__ import annotations

import time
from typing import Literal

from alexnet._runtime.progress import Bar
from alexnet.errors import Finding
from alexnet.models.checkpoint_json import has_top5
from alexnet.training.events import Event, HeadEvent, StepEvent
from alexnet.training.parallel.step_clock import SlowestRank

_MEASURED_SECONDS, _LONG_SECONDS = 30.0, 300.0
"""Time of steps after which the time of the whole run is told, once, if it is that long. The first step is left out: it
allocates and compiles."""

_SMOOTHED: tuple[Literal["images_per_second", "waiting"], ...] = ("images_per_second", "waiting")


class TrainingBar(Bar):
    """Shows the events of a training run (`training.trainer.Trainer`): pass `bar.show` as `on_event`."""

    shows_rate = False  # images per second is shown, so steps per second is not
    tells_whole_time = True

    def __init__(self, epochs: int) -> None:
        super().__init__("training", "steps", plain_seconds=15)
        self.epochs, self.steps, self.run, self.classes = epochs, 0, "", 0
        self.is_head = False
        self.smoothed: dict[str, float] = {}
        self.epoch, self.epoch_steps, self.loss_sum, self.error_sum = 0, 0, 0.0, 0.0
        self.first_step, self.first_at = 0, 0.0
        """The first step since the start, 0 before it, and when it was done. `tells_whole_time` is False afterwards."""
        self.slowest, self.sends_longest = "", False
        """The slowest process when it was last reported, and whether even it waited longer than it worked; of several.
        """

    def show(self, event: Event) -> None:
        """Show one event of the run's log."""
        if event["event"] == "start":
            self.epoch, self.steps, self.classes, self.is_head = 0, event["steps_per_epoch"], event["classes"], False
            self.first_step = 0
        elif event["event"] == "step":
            self._show_step(event)
        elif event["event"] == "validating" and self.progress:
            self.progress.update(self.task, text=f"validating: {event['done']:,} of {event['total']:,} images")
        elif event["event"] == "features" and self.progress:
            self.progress.update(self.task, completed=event["done"], total=event["total"], text="computing features")
        elif event["event"] == "head":
            self.is_head = True
            self.print_line(_describe_head(event))
        elif event["event"] == "epoch":
            # With five classes or fewer the top-5 error is always 0.
            top5 = f", top-5 {event['val_top5_error']:.1%}" if has_top5(self.classes) else ""
            # A fitted output layer (--head) has no epochs.
            title = "output layer" if self.is_head else f"epoch {event['epoch']:>3}/{self.epochs}"
            self.print_line(
                f"{title}   training loss {event['train_loss']:.3f}, error "
                f"{event['train_error']:.1%}   validation loss {event['val_loss']:.3f}, top-1 error "
                f"{event['val_top1_error']:.1%}{top5}")
        elif event["event"] == "end" and event.get("stopped_early"):
            self.print_line(f"stopped early after epoch {event['epoch']}: the validation error has not fallen; the "
                            f"lowest was {event['best_top1_error']:.1%}")
        elif event["event"] == "warning":
            finding = Finding(event["kind"], event["subject"], event["problem"], event["remedy"])
            self.print_line(f"warning: {finding}")

    def _show_step(self, event: StepEvent) -> None:
        for key in _SMOOTHED:  # the log has each step's own numbers
            self.smoothed[key] = 0.9 * self.smoothed.get(key, event[key]) + 0.1 * event[key]
        if event["epoch"] != self.epoch:
            self.epoch, self.epoch_steps, self.loss_sum, self.error_sum = event["epoch"], 0, 0.0, 0.0
        self.epoch_steps += 1
        self.loss_sum += event["loss"]
        self.error_sum += event["train_error"]
        if "slowest_rank" in event:
            self.slowest = _describe_slowest(event)
            self.sends_longest = event["slowest_rank_waiting"] > event["slowest_rank_seconds"]
        # All reader threads work ahead, so a step waits only if they together are slower than the network.
        bottleneck = "reading" if self.smoothed["waiting"] > 0.2 else "sending" if self.sends_longest else "compute"
        # Means over the epoch so far, which at its end are those of the epoch's own line.
        text = ("mean loss {:.3f}, error {:.1%}, {images_per_second:,.0f} img/s, "
                "waiting for data {waiting:.0%}, limit: {}").format(
            self.loss_sum / self.epoch_steps, self.error_sum / self.epoch_steps, bottleneck, **self.smoothed)
        if self.slowest:
            text += ("\n" if self.progress else "; ") + self.slowest
        title = f"{self.run}, epoch" if self.run else "epoch"
        self(event["step"], self.epochs * self.steps, text, title=f"{title} {event['epoch']}/{self.epochs}")
        if self.tells_whole_time:
            self._tell_whole_time(event["step"])

    def _tell_whole_time(self, step: int) -> None:
        """Say how long the steps of the whole run take at the rate of the first ones, once these have been measured."""
        now = time.monotonic()
        if not self.first_step:
            self.first_step, self.first_at = step, now
        if step == self.first_step or now - self.first_at < _MEASURED_SECONDS:
            return
        self.tells_whole_time = False
        total = self.epochs * self.steps - self.first_step + 1
        seconds = (now - self.first_at) / (step - self.first_step) * total
        if seconds >= _LONG_SECONDS:
            what = "all" if self.first_step == 1 else "the rest of the"
            self.print_line(f"about {describe_duration(seconds)} for {what} {self.epochs} epochs at this rate, "
                            "without validation")


def _describe_slowest(event: SlowestRank) -> str:
    """What the others wait for it is what they wait longer than it: the slowest waits for nothing but the transfer."""
    waiting = max(0.0, event["others_waiting"] - event["slowest_rank_waiting"])
    return (f"rank {event['slowest_rank']} is the slowest: {1000 * event['slowest_rank_seconds']:,.0f} ms a step, the "
            f"others wait {1000 * waiting:,.0f} ms")


def _describe_head(event: HeadEvent) -> str:
    views = "the center crop and its mirror image" if event["views"] == 2 else "the center crop"
    chosen = (f"chosen on {event['held_out']:,} training images set aside"
              if event["held_out_errors"] else "not chosen by data")
    return (f"output layer fitted to the outputs of {event['features']} for {event['images']:,} images ({views}) in "
            f"{event['seconds']:.0f} s; weight decay {event['weight_decay']:g} ({chosen})")


def describe_duration(seconds: float) -> str:
    """In one unit or two: `40 s`, `12 min`, `3 h 20 min`, `5 days 2 h`."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours >= 48:
        days, hours = divmod(round(seconds / 3600), 24)
        return f"{days} days {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


class ClaimBar(TrainingBar):
    """Shows the runs of a claim one after another (`reproduce.runs.Runs`): a bar each; each kind of warning once."""

    tells_whole_time = False  # of one run among many

    def __init__(self) -> None:
        super().__init__(0)
        self.shown: set[tuple[str, str]] = set()

    def show(self, event: Event) -> None:
        """Show one event of a run's log."""
        if event["event"] == "start":
            self.epochs, self.run = event["epochs"], event["run"]
            self.restart()
        if event["event"] == "warning":
            key = (event["kind"], event["subject"])
            if key in self.shown:
                return
            self.shown.add(key)
        if event["event"] != "epoch":
            super().show(event)
