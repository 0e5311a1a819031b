"""One line that says how far long work is: a bar on a terminal, a plain line every few seconds elsewhere.

It goes to standard error, so that what a command prints can be piped. Imports nothing of ours.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_SECONDS = 5.0
"""How often a plain line is printed where there is no terminal."""


class Bar:
    """`with Bar("packing", "photographs") as bar: bar(done, total)`; `bar(done, total, "loss 2.31")` adds a text."""

    def __init__(self, title: str, unit: str, plain_seconds: float = PLAIN_SECONDS) -> None:
        self.title, self.unit, self.plain_seconds = title, unit, plain_seconds
        self.console = Console(stderr=True)
        self.began = time.monotonic()
        self.first: int | None = None
        self.printed = self.began
        self.progress: Progress | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.progress = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
                _Rate(self.unit), TextColumn("{task.fields[text]}"), TimeRemainingColumn(), console=self.console)
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
        speed = f", {_rate(rate)}/s" if rate else ""
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

    def __init__(self, epochs: int) -> None:
        super().__init__("training", "steps", plain_seconds=15)
        self.epochs, self.steps = epochs, 0
        self.smooth: dict[str, float] = {}

    def see(self, event: dict[str, Any]) -> None:
        """Show one event."""
        kind = event["event"]
        if kind == "start":
            self.steps = event["steps_per_epoch"]
        elif kind == "step":
            for key in ("loss", "train_error", "photographs_per_second", "waiting"):
                # Smoothed for the eye; the log has each step's own.
                self.smooth[key] = 0.9 * self.smooth.get(key, event[key]) + 0.1 * event[key]
            # Threads read ahead, so a step that waits waits for all of them: they, not the network, set the pace.
            bottleneck = "reading" if self.smooth["waiting"] > 0.2 else "the network"
            text = ("loss {loss:.3f}, error {train_error:.1%}, {photographs_per_second:,.0f} photographs/s, "
                    "waiting for data {waiting:.0%}, bound by {}").format(bottleneck, **self.smooth)
            self(event["step"], self.epochs * self.steps, text, title=f"epoch {event['epoch']}/{self.epochs}")
        elif kind == "epoch":
            self.say(f"epoch {event['epoch']:>3}/{self.epochs}   training loss {event['train_loss']:.3f}, error "
                     f"{event['train_error']:.1%}   validation loss {event['val_loss']:.3f}, top-1 error "
                     f"{event['val_top1_error']:.1%}, top-5 {event['val_top5_error']:.1%}")
        elif kind == "warning":
            self.say(f"warning: {event['text']}")


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
