"""Progress bar on a terminal; elsewhere a plain line every few seconds. Both go to standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_SECONDS = 5.0
"""Interval between two plain lines where standard error is not a terminal."""


class _ProgressWithText(Progress):
    """A bar with its text on a second line, so that both fit 80 columns."""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if text := task.fields["text"]:
                yield Text(text, style="dim", no_wrap=True, overflow="ellipsis")


class Bar:
    """A progress bar: `with Bar("packing", "images") as bar: bar(done, total)`."""

    shows_rate = True

    def __init__(self, title: str, unit: str, plain_seconds: float = PLAIN_SECONDS) -> None:
        self.title, self.unit, self.plain_seconds = title, unit, plain_seconds
        self.console = Console(stderr=True)
        self.started = self.printed = time.monotonic()
        self.first_done: int | None = None
        self.progress: Progress | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            rate = [_RateColumn(self.unit)] if self.shows_rate else []
            self.progress = _ProgressWithText(
                TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), *rate,
                TimeRemainingColumn(), console=self.console)
            self.task = self.progress.add_task(self.title, total=None, text="")
            self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.progress:
            self.progress.stop()

    def restart(self) -> None:
        """Measure the rate from the next call on: what follows is another task, which begins at a count of its own."""
        self.first_done = None
        if self.progress:
            self.progress.reset(self.task, total=None, text="")

    def __call__(self, done: int, total: int, text: str = "", title: str | None = None) -> None:
        """Show that `done` of `total` units are finished.

        Args:
            text: details, such as "loss 2.31".
            title: replaces the bar's title.
        """
        self.title = title or self.title
        if self.progress:
            self.progress.update(self.task, completed=done, total=total, text=text, description=self.title)
            return
        now = time.monotonic()
        if self.first_done is None:  # the first call starts the clock, so it has no rate
            self.first_done, self.started = done, now
        if now - self.printed < self.plain_seconds and done < total:
            return
        self.printed = now
        rate = (done - self.first_done) / max(now - self.started, 1e-9)
        speed = f", {_format_rate(rate)}/s" if rate and self.shows_rate else ""
        left = f", {_format_seconds((total - done) / rate)} left" if rate and done < total else ""
        details = f", {text}" if text else ""
        self.print_line(f"{self.title}: {done:,} of {total:,} {self.unit}{speed}{left}{details}")

    def print_line(self, line: str) -> None:
        """Print a line above the bar."""
        if self.progress:
            self.progress.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)


class _RateColumn(ProgressColumn):
    """Units per second, over the latest interval."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{_format_rate(task.speed)} {self.unit}/s" if task.speed else "", style="dim")


def _format_rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def _format_seconds(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
