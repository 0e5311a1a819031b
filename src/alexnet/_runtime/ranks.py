"""The processes (ranks) that share one job, as `data` and `inference` see them, and the case of a single process.

A job has parts, numbered from 0, such as batches or shards. Rank r does the parts r, r + size, r + 2 * size, ..., each
exactly as a single process does it, and rank 0 receives the results of all parts in order. So the result does not
depend on the number of processes. torchrun's processes are a `training.parallel.process_group.ProcessGroup`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeVar

T = TypeVar("T")


class Ranks(Protocol):
    """This process among those that share a job. All of them call the same methods in the same order."""

    rank: int
    """Number of this process. Rank 0 writes and prints."""
    size: int
    """How many processes there are."""

    def in_order(self, own: Iterator[T], parts: int) -> Iterator[T]:
        """Yield the results of all parts in order in rank 0, and nothing in the others, which must iterate as well.

        Args:
            own: the results of this rank's parts, in order.
            parts: how many parts there are, of all ranks.
        """

    def from_rank0(self, make: Callable[[], T]) -> T:
        """What `make` returns in rank 0, in each process. The others wait; an error of rank 0 ends all."""

    def local_rank0_first(self, make: Callable[[], T]) -> T:
        """The result of `make`, called first in one process of each host: it may write what the others read."""

    def require_same_on_all_ranks(self, trees: Mapping[str, object]) -> None:
        """Raise UserError if a process has another JSON tree than rank 0. The keys name the trees."""


class OneProcess:
    """The only process of a job."""

    rank, size = 0, 1

    def in_order(self, own: Iterator[T], parts: int) -> Iterator[T]:
        return own

    def from_rank0(self, make: Callable[[], T]) -> T:
        return make()

    def local_rank0_first(self, make: Callable[[], T]) -> T:
        return make()

    def require_same_on_all_ranks(self, trees: Mapping[str, object]) -> None:
        """There is no other process."""
