"""Admission control: reject a request when the estimated waiting time is too long.

The estimate is the sum, over each kind of work, of the items that come before the request's last one, times the seconds
that one item took recently. Clients take turns, so of another client's pending items no more come first than the
request's own client then has.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field


class Overloaded(Exception):
    """The estimated waiting time exceeds `max_queue_seconds`."""


@dataclass
class WorkEstimate:
    """One kind of work.

    Attributes:
        pending: items admitted and not finished, by client.
        seconds_per_item: moving average of the time of one item; 0 before the first measurement.
    """

    pending: Counter[str] = field(default_factory=Counter)
    seconds_per_item: float = 0.0

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
    def timed(self, items: float = 1) -> Iterator[None]:
        """Measure the context as the time of `items` items and update the average."""
        began = time.monotonic()
        try:
            yield
        finally:
            seconds = (time.monotonic() - began) / items
            # A single item that the scheduler delayed says little about the next; several do.
            seconds = min(seconds, 4 * self.seconds_per_item) if self.seconds_per_item else seconds
            weight = 0.2 if self.seconds_per_item else 1.0
            self.seconds_per_item += weight * (seconds - self.seconds_per_item)


@dataclass
class AdmissionControl:
    """The pending work of a server and the decision whether more is admitted.

    Attributes:
        max_queue_seconds: estimated waiting time above which requests are rejected.
        decodes: images to decode. All requests have some, so `decodes.pending` counts the pending images.
        views: views that go through the network in batches: one or ten for each image.
        explanations: work that uses the network alone.
    """

    max_queue_seconds: float
    decodes: WorkEstimate = field(default_factory=WorkEstimate)
    views: WorkEstimate = field(default_factory=WorkEstimate)
    explanations: WorkEstimate = field(default_factory=WorkEstimate)

    @contextlib.contextmanager
    def admit(self, client: str, images: int, views: int = 0, explanations: int = 0) -> Iterator[None]:
        """Count the items as pending while the context lasts. With nothing pending, every request is admitted.

        Raises:
            Overloaded: if the estimated waiting time exceeds `max_queue_seconds`.
        """
        work = ((self.decodes, images), (self.views, views), (self.explanations, explanations))
        seconds = sum(kind.waiting_seconds(client, items) for kind, items in work)
        if self.decodes.pending and seconds > self.max_queue_seconds:
            raise Overloaded
        for kind, items in work:
            kind.change(client, items)
        try:
            yield
        finally:
            for kind, items in work:
                kind.change(client, -items)

    def check(self, client: str, images: int, views: int = 0, explanations: int = 0) -> None:
        """Raise Overloaded if `admit` would: before a body is read, of which only the smallest size is known."""
        with self.admit(client, images, views, explanations):
            pass

    def reset_estimates(self) -> None:
        """Discard the measured times: the first items of a process are slower than all others."""
        for kind in (self.decodes, self.views, self.explanations):
            kind.seconds_per_item = 0.0
