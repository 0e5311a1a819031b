"""One line that says how far long work is: a bar on a terminal, a plain line every few seconds elsewhere.

It goes to standard error, so that what a command prints can be piped. Imports nothing of ours.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from alexnet.errors import Finding

PLAIN_SECONDS = 5.0
"""How often a plain line is printed where there is no terminal."""


class _WithText(Progress):
    """The bar, and the text on a line of its own, so that 80 columns are enough for both."""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if text := task.fields["text"]:
                yield Text(text, style="dim", no_wrap=True, overflow="ellipsis")


class Bar:
    """`with Bar("packing", "images") as bar: bar(done, total)`; `bar(done, total, "loss 2.31")` adds a text."""

    shows_rate = True

    def __init__(self, title: str, unit: str, plain_seconds: float = PLAIN_SECONDS) -> None:
        self.title, self.unit, self.plain_seconds = title, unit, plain_seconds
        self.console = Console(stderr=True)
        self.began = time.monotonic()
        self.first: int | None = None
        self.printed = self.began
        self.progress: Progress | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            rate = [_Rate(self.unit)] if self.shows_rate else []
            self.progress = _WithText(
                TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), *rate,
                TimeRemainingColumn(), console=self.console)
            self.task = self.progress.add_task(self.title, total=None, text="")
            self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.progress:
            self.progress.stop()

    def __call__(self, done: int, total: int, text: str = "", title: str | None = None) -> None:
        """Say that `done` of `total` is finished."""
        self.title = title or self.title
        if self.progress:
            self.progress.update(self.task, completed=done, total=total, text=text, description=self.title)
            return
        now = time.monotonic()
        if self.first is None:
            self.first, self.began = done, now
        if now - self.printed < self.plain_seconds and done < total:
            return
        self.printed = now
        # The first call starts the clock: until the second there is no rate to tell.
        rate = (done - self.first) / max(now - self.began, 1e-9)
        speed = f", {_rate(rate)}/s" if rate and self.shows_rate else ""
        left = f", {_clock((total - done) / rate)} left" if rate and done < total else ""
        details = f", {text}" if text else ""
        self.say(f"{self.title}: {done:,} of {total:,} {self.unit}{speed}{left}{details}")

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        if self.progress:
            self.progress.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)


class TrainingBar(Bar):
    """A training run's events (`train.Run`) as a bar, with a line of its own for each epoch and each warning."""

    shows_rate = False  # of steps, beside that of images: one speed is enough

    def __init__(self, epochs: int) -> None:
        super().__init__("training", "steps", plain_seconds=15)
        self.epochs, self.steps, self.run, self.classes = epochs, 0, "", 0
        self.smooth: dict[str, float] = {}

    def see(self, event: dict[str, Any]) -> None:
        """Show one event."""
        kind = event["event"]
        if kind == "start":
            self.steps, self.classes = event["steps_per_epoch"], event["classes"]
        elif kind == "step":
            for key in ("loss", "train_error", "images_per_second", "waiting"):
                # Smoothed for the eye; the log has each step's own.
                self.smooth[key] = 0.9 * self.smooth.get(key, event[key]) + 0.1 * event[key]
            # Threads read ahead, so a step that waits waits for all of them: they, not the network, set the pace.
            bottleneck = "reading" if self.smooth["waiting"] > 0.2 else "network"
            text = ("loss {loss:.3f}, error {train_error:.1%}, {images_per_second:,.0f} photos/s, "
                    "waiting for data {waiting:.0%}, {}-bound").format(bottleneck, **self.smooth)
            title = f"{self.run}, epoch" if self.run else "epoch"
            self(event["step"], self.epochs * self.steps, text, title=f"{title} {event['epoch']}/{self.epochs}")
        elif kind == "validating" and self.progress:
            self.progress.update(self.task, text=f"validating: {event['done']:,} of {event['total']:,} images")
        elif kind == "epoch":
            # Five guesses name all of five classes, so there is no such error to tell.
            top5 = f", top-5 {event['val_top5_error']:.1%}" if self.classes > 5 else ""
            self.say(f"epoch {event['epoch']:>3}/{self.epochs}   training loss {event['train_loss']:.3f}, error "
                     f"{event['train_error']:.1%}   validation loss {event['val_loss']:.3f}, top-1 error "
                     f"{event['val_top1_error']:.1%}{top5}")
        elif kind == "warning":
            self.say("warning: " + str(Finding(event["kind"], event["subject"], event["problem"], event["remedy"])))


class ClaimBar(TrainingBar):
    """The runs of a claim one after another (`experiments.Runs`): a bar for each, a line when it is done."""

    def __init__(self) -> None:
        super().__init__(0)

    def see(self, event: dict[str, Any]) -> None:
        """Show one event."""
        if event["event"] == "start":
            self.epochs, self.run = event["epochs"], event["run"]
        if event["event"] == "epoch" and event["epoch"] == self.epochs:
            self.say(f"{self.run}: training error {event['train_error']:.1%}, "
                     f"top-1 error {event['val_top1_error']:.1%}")
        if event["event"] != "epoch":
            super().see(event)


class _Rate(ProgressColumn):
    """Units a second, over the latest stretch."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{_rate(task.speed)} {self.unit}/s" if task.speed else "", style="dim")


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
