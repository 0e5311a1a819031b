"""Admission control: reject a request when the estimated waiting time is too long.

The estimate is the sum, over each kind of work, of the items that come before the request's last one, times the seconds
that one item took recently. Clients take turns, so another client delays a request by at most as many items as the
request's own client has queued.

The time in which an item waits is not measured, but counted in items: an item is pending from the admission of its
request, before any thread has it, to the request's end. The measured seconds of an item are those in its thread and not
those before it, divided by the threads that work in parallel (`ImageDecoder._timed_decode`), or by the views of its
batch (`DynamicBatcher._forward`).
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


class Overloaded(Exception):
    """The estimated waiting time exceeds `max_queue_seconds`.

    Attributes:
        is_long: whether the request has several images that alone take longer. It is admitted while nothing is pending.
    """

    def __init__(self, is_long: bool) -> None:
        super().__init__()
        self.is_long = is_long


_MOST_SLOW = 10
"""Highest `WorkEstimate.slow_items`: four million times the average."""


@dataclass
class WorkEstimate:
    """One kind of work.

    Attributes:
        pending: items admitted and not finished, by client.
        seconds_per_item: moving average of the time of one item; 0 before the first measurement.
        slow_items: how many of the latest measurements were far above the average; each counts three times, and each
            other one takes one away.
    """

    pending: Counter[str] = field(default_factory=Counter)
    seconds_per_item: float = 0.0
    slow_items: int = 0

    def waiting_seconds(self, client: str, items: int) -> float:
        """Estimated time until a client's pending and these further items are done, in turns with those of others."""
        own = self.pending[client] + items
        others = sum(min(pending, max(own, 1)) for other, pending in self.pending.items() if other != client)
        return (own + others) * self.seconds_per_item

    def change(self, client: str, items: int) -> None:
        """Add to the pending items of a client, or with a negative number take away."""
        self.pending[client] += items
        if not self.pending[client]:
            del self.pending[client]

    @contextlib.contextmanager
    def timed(self, items: float = 1, before: float = 0.0) -> Iterator[None]:
        """Measure the context as the time of `items` items and update the average.

        `before` are seconds that the items have taken already, in total.
        """
        began = time.monotonic()
        try:
            yield
        finally:
            self._update((time.monotonic() - began + before) / items)

    def _update(self, seconds: float) -> None:
        if not self.seconds_per_item:
            self.seconds_per_item = seconds
            return
        # A single item that the scheduler delayed says little about the next; several do, also among quick ones.
        is_slow = seconds > 4 * self.seconds_per_item
        seconds = min(seconds, 4 ** (1 + self.slow_items) * self.seconds_per_item)
        self.slow_items = min(_MOST_SLOW, self.slow_items + 3) if is_slow else max(0, self.slow_items - 1)
        self.seconds_per_item += 0.2 * (seconds - self.seconds_per_item)


@dataclass
class AdmissionControl:
    """The pending work of a server and the decision whether more is admitted.

    Attributes:
        max_queue_seconds: estimated waiting time above which requests are rejected.
        decodes: images to decode. All requests have some, so `decodes.pending` counts the pending images.
        views: by the model's name: views that go through its network in batches, one or ten for each image.
        explanations: by the model's name: work that uses its network alone.
        on_change: called with the number of pending images when it changes.
    """

    max_queue_seconds: float
    on_change: Callable[[int], object] = lambda images: None
    decodes: WorkEstimate = field(default_factory=WorkEstimate)
    views: dict[str, WorkEstimate] = field(default_factory=lambda: defaultdict(WorkEstimate))
    explanations: dict[str, WorkEstimate] = field(default_factory=lambda: defaultdict(WorkEstimate))

    @contextlib.contextmanager
    def admit(self, client: str, model: str, images: int, views: int = 0, explanations: int = 0) -> Iterator[None]:
        """Count the items as pending while the context lasts. With nothing pending, every request is admitted.

        Raises:
            Overloaded: if the estimated waiting time exceeds `max_queue_seconds`.
        """
        work = ((self.decodes, images), (self.views[model], views), (self.explanations[model], explanations))
        requested = {id(kind): items for kind, items in work}
        seconds = sum(kind.waiting_seconds(client, requested.get(id(kind), 0)) for kind in self._kinds())
        if self.decodes.pending and seconds > self.max_queue_seconds:
            alone = sum(kind.seconds_per_item * items for kind, items in work)
            raise Overloaded(images > 1 and alone > self.max_queue_seconds)
        for kind, items in work:
            kind.change(client, items)
        self.on_change(self.decodes.pending.total())
        try:
            yield
        finally:
            for kind, items in work:
                kind.change(client, -items)
            self.on_change(self.decodes.pending.total())

    def check(self, client: str, model: str, images: int, views: int = 0, explanations: int = 0) -> None:
        """Raise Overloaded if `admit` would: before a body is read, of which only the smallest size is known."""
        with self.admit(client, model, images, views, explanations):
            pass

    def reset_estimates(self, model: str) -> None:
        """Discard the times measured for a model: the first items of a process are slower than all others."""
        for kind in (self.decodes, self.views[model], self.explanations[model]):
            kind.seconds_per_item = 0.0

    def _kinds(self) -> list[WorkEstimate]:
        """All kinds of work. They share threads, so a request waits for work of each."""
        return [self.decodes, *self.views.values(), *self.explanations.values()]
