"""Texts exchanged through torch.distributed's store: rank 0 gathers them all, decides, and posts one verdict.

Each process writes one key and reads one, so an exchange is a few requests for each process. With every process reading
the keys of all others, the start of 1,024 processes would take at least 35 million (benchmarks/reliability/start.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import TypedDict

from alexnet.errors import UserError
from alexnet.training.parallel.liveness import PeerLostError, Store, pauses, wait_for_keys

READ_SECONDS = 10.0
"""How long rank 0, before it ends with an error, waits for the others to read it: the store may end with rank 0."""

Decide = Callable[[Sequence[str]], str]
"""All processes' texts, by rank -> the text that all receive. Raises UserError to end all."""


class Post(TypedDict, total=False):
    """What a process posts, and rank 0's verdict: a text; a problem, its remedy and whose it is; or who is lost."""

    text: str
    problem: str
    remedy: str
    rank: int
    lost: str


class AlreadyReported(UserError):
    """An error that all processes have received.

    Attributes:
        is_consequence: whether it is another process's.
    """

    is_consequence = False


class SilentExit(SystemExit):
    """Ends this process without a message: rank 0 reports the error.

    Attributes:
        reported: this error.
        is_consequence: whether it is another process's.
    """

    def __init__(self, reported: UserError, is_consequence: bool = True) -> None:
        super().__init__(2)
        self.reported, self.is_consequence = reported, is_consequence


class TextExchange:
    """Exchanges among processes, which all call `exchange` equally often.

    Args:
        rank: number of this process.
        size: how many processes there are.
        store: where they meet.
    """

    def __init__(self, rank: int, size: int, store: Store) -> None:
        self.rank, self.size, self.store = rank, size, store
        self._turns = 0
        """How often texts were exchanged; part of their keys in the store."""

    def exchange(self, post: Post, decide: Decide) -> str:
        """Post a text or a problem, and wait for what rank 0 makes of all of them, however long the others work.

        Raises:
            AlreadyReported: in rank 0, if a process posted a problem, or `decide` raised UserError.
            SilentExit: in the others, in this case.
            PeerLostError: if a process shows no sign of life, in all processes at once.
        """
        self._turns += 1
        key = f"{self._turns}/verdict"
        if self.rank:
            self.store.set(f"{self._turns}/{self.rank}", json.dumps(post))
            wait_for_keys(self.store, {0: key}, self.size)
            verdict: Post = json.loads(self.store.get(key))
        else:
            verdict = self._verdict(post, decide)
            self.store.set(key, json.dumps(verdict))
        if "lost" in verdict:
            raise PeerLostError(verdict["lost"])
        if "problem" in verdict:
            self._wait_until_read()
            error = AlreadyReported(verdict["problem"], verdict["remedy"])
            error.is_consequence = verdict["rank"] != self.rank
            raise SilentExit(error, error.is_consequence) if self.rank else error
        return verdict["text"]

    def _verdict(self, own: Post, decide: Decide) -> Post:
        keys = {rank: f"{self._turns}/{rank}" for rank in range(1, self.size)}
        try:
            wait_for_keys(self.store, keys, self.size)
        except PeerLostError as error:
            return {"lost": str(error)}
        posts: list[Post] = [own, *map(json.loads, self.store.multi_get([*keys.values()]))]
        for rank, post in enumerate(posts):
            if "problem" in post:
                where = f"process {rank} of {self.size}: " if rank else ""
                return {"problem": where + post["problem"], "remedy": post["remedy"], "rank": rank}
        try:
            return {"text": decide([post["text"] for post in posts])}
        except UserError as error:
            return {"problem": error.problem, "remedy": error.remedy, "rank": 0}

    def _wait_until_read(self) -> None:
        """In rank 0: wait until the others have read the verdict. In the others: tell rank 0 so."""
        keys = [f"{self._turns}/read/{rank}" for rank in range(1, self.size)]
        if self.rank:
            self.store.set(keys[self.rank - 1], "")
            return
        deadline = time.monotonic() + READ_SECONDS
        for pause in pauses(self.size):
            if self.store.check(keys) or time.monotonic() > deadline:
                return
            time.sleep(pause)
