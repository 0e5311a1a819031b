"""The processes of a run: how they meet, how each sees that the others live, and what they agree on."""

from __future__ import annotations

import gc
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor

from alexnet.architecture.overrides import first_difference
from alexnet.inference.metrics import Errors

TIMEOUT = 20.0
"""Seconds that a process waits for the others in the middle of a step before it takes one of them for lost."""

MEETING = timedelta(minutes=10)
"""How long processes wait for the others to be started at all."""

BEAT, SILENCE = 5.0, 60.0
"""Seconds between two signs of life of a process, and without one until it is taken for lost."""


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _life(rank: int) -> str:
    """Where in the store a process's signs of life stand."""
    return f"life/{rank}"


def launched() -> bool:
    """Whether torchrun, or whoever sets its variables, started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


class PeerLostError(Exception):
    """Another process has ended, or does not answer."""

    exit_code = 1


class SilentExit(SystemExit):
    """Another process says what was wrong; this one only ends."""


class AlreadyReported(ValueError):
    """All processes know of it already."""


# --- The world --------------------------------------------------------------------------------------------------------


@dataclass
class ProcessGroup:
    """This process among the others. `ALONE` is the world of one, in which nothing is ever sent."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    sent: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Bytes that this process has sent, by what they were: gradients, activations, statistics (see scaling_model.py)."""
    store: Any = None
    start: int = 1
    """How often these processes have been started, this time included."""
    turns: int = 0
    """How often everyone has spoken, which makes the names in the store."""
    leaving: list[Callable[[], None]] = field(default_factory=list)
    """What is to be done before the group is gone."""

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks, logs and saves."""
        return self.rank == 0

    @property
    def restarted(self) -> bool:
        """Whether torchrun has started these processes anew, after one was lost."""
        return self.size > 1 and (self.start > 1 or _restarts() > 0)

    def all_gather_text(self, text: str, *, wrong: bool = False) -> list[str]:
        """What each process has to say, by rank. Waits as long as they live: one may be packing images. Raises
        Lost where one has given no sign of life.

        Whoever has run into something `wrong` says so in its next turn, wherever in the code the others have theirs.
        Then all of them end: rank 0 by a ValueError with the first such sentence, the others by `SilentExit`.
        """
        if self.size == 1:
            return [text]
        self.turns += 1
        names = [f"{self.turns}/{rank}" for rank in range(self.size)]
        self.store.set(names[self.rank], ("wrong" if wrong else "right") + text)
        self._await(names)
        said = [self.store.get(name).decode() for name in names]
        for rank, one in enumerate(said):
            if one.startswith("wrong"):
                if self.rank:
                    raise SilentExit(2)
                raise AlreadyReported(f"{one[5:]} (in process {rank} of {self.size})" if rank else one[5:])
        return [one[5:] for one in said]

    def _await(self, names: Sequence[str]) -> None:
        """Until all of them are in the store, one for each rank."""
        beats, since = [""] * self.size, [time.monotonic()] * self.size
        while missing := [rank for rank, name in enumerate(names) if not self.store.check([name])]:
            for rank in missing:
                # To get what is not there would wait, with the store held, and keep this one's signs of life from it.
                there = self.store.check([_life(rank)])
                if (beat := self.store.get(_life(rank)).decode() if there else "") != beats[rank]:
                    beats[rank], since[rank] = beat, time.monotonic()
                elif time.monotonic() - since[rank] > SILENCE:
                    raise PeerLostError(f"process {rank} of {self.size} has given no sign of life for {SILENCE:.0f} seconds; "
                               "see whether its host is up, and start again")
            time.sleep(0.02)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Within, others can see that this process lives, whatever it is at."""
        done = threading.Event()

        def beat() -> None:
            with suppress(RuntimeError):  # the store is gone, which the others see by themselves
                for number in count(1):
                    if done.wait(BEAT):
                        return
                    self.store.set(_life(self.rank), str(number))

        self.store.set(_life(self.rank), "0")  # here, as the thread may wait long for its turn with the store
        thread = threading.Thread(target=beat, name="sign of life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    @contextmanager
    def error_barrier(self) -> Iterator[None]:
        """A stretch that all processes pass, or none: what stops one of them stops all, with one sentence from rank 0.

        Raises that ValueError in rank 0, `SilentExit` in the others.
        """
        try:
            yield
        except AlreadyReported:
            raise
        except (ValueError, OSError) as error:
            if self.size > 1:
                self.all_gather_text(" ".join(str(error).split()) or type(error).__name__, wrong=True)
            raise
        self.all_gather_text("")

    def require_same_on_all_ranks(self, what: str, tree: Any) -> None:
        """Raises ValueError, in all processes at once, where one has another tree of JSON than rank 0."""
        first, *others = [json.loads(text) for text in self.all_gather_text(json.dumps(tree))]
        for rank, other in enumerate(others, 1):
            if other != first:
                raise ValueError(f"process {rank} of {self.size} was started with another {what} than process 0 "
                                 f"({first_difference(other, first, ('there', 'here'))}); start all with the same data, "
                                 "options and version")

    def local_rank0_first(self, do: Callable[[], Any]) -> Any:
        """What `do` gives, in the first process of each host before the others: it may pack what they then find."""
        first = int(os.environ.get("LOCAL_RANK", self.rank)) == 0
        done = do() if first else None
        self.all_gather_text("")
        return done if first else do()

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum over processes, in each of them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def errors(self, own: Errors) -> Errors:
        """The sum of everyone's."""
        if self.size == 1:
            return own
        counted = self.all_reduce_sum(torch.tensor(astuple(own), dtype=torch.float64, device=self.device))
        images, loss_sum, top1, top5 = counted.tolist()
        return Errors(int(images), loss_sum, int(top1), int(top5))

    def all_reduce_max(self, number: int) -> int:
        """The largest of all processes' numbers."""
        if self.size == 1:
            return number
        largest = torch.tensor(number, device=self.device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def from_first(self, make: Callable[[], Any]) -> Any:
        """What rank 0 makes, in each process. It travels pickled, from one process of this run to another."""
        if self.size == 1:
            return make()
        with self.error_barrier():
            box = [make() if self.first else None]
        dist.broadcast_object_list(box, 0, device=self.device)
        return box[0]

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()

    def all_reduced(self, what: str, values: Tensor) -> None:
        """Count what a sum in a ring sends from each process: every byte twice, less its own share."""
        self.sent[what] += 2 * (self.size - 1) / self.size * values.numel() * values.element_size()


ALONE = ProcessGroup()


@contextmanager
def init_distributed(device: str, timeout: float = TIMEOUT) -> Iterator[ProcessGroup]:
    """The world that torchrun's variables describe, gloo between CPUs and NCCL between GPUs; or ALONE, without them.

    Each process of a host takes the GPU of its own number. Raises ValueError, in all of them, where one is absent.
    """
    where = torch.device(device)
    if not launched():
        yield ProcessGroup(device=where)
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local = int(os.environ.get("LOCAL_RANK", rank))
    store, rank, size = next(dist.rendezvous("env://", rank, size, timeout=MEETING))
    try:
        start = _meet(dist.PrefixStore("alexnet", store), rank, size)
    except dist.DistError as error:
        raise PeerLostError(f"process {rank} of {size} has met no others for {MEETING.seconds // 60} minutes; see whether all "
                   "hosts were started and reach each other") from error
    store = dist.PrefixStore(f"alexnet/{start}", store)
    world = ProcessGroup(rank, size, where, store=dist.PrefixStore("said", store), start=start)
    try:
        with world.live():
            with world.error_barrier():
                world.device = _own_device(where, local)
            dist.init_process_group("nccl" if where.type == "cuda" else "gloo", store=dist.PrefixStore("group", store),
                                    rank=rank, world_size=size, timeout=timedelta(seconds=timeout))
            yield world
            world.wait()
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise PeerLostError(f"process {rank} of {size} waited for another that is gone or has not answered for {timeout:g} "
                   "seconds; go on from the last checkpoint with --resume, which torchrun --max-restarts does by "
                   "itself, unless the host they meet at is lost: then start the same command again on all") from error
    finally:
        # A thread of the group's that outlives the interpreter aborts the process, so nothing may hold on to it.
        for leave in world.leaving:
            leave()
        gc.collect()
        if dist.is_initialized():
            dist.destroy_process_group()


def _own_device(where: torch.device, local: int) -> torch.device:
    """The GPU of this process's number on its host, unless another was named. Raises ValueError where it is absent."""
    if where.type != "cuda" or where.index is not None:
        return where
    if local >= (there := torch.cuda.device_count()):
        raise ValueError(f"device cuda:{local} is absent: this host has {there} GPUs; start {there} processes on it, "
                         "or take --device cpu")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def _meet(store: Any, rank: int, size: int) -> int:
    """How often these processes have been started. torchrun's store outlives them, and what those before wrote there
    must not be read again.

    TORCHELASTIC_RESTART_COUNT does not tell: each host has its own, and one that only follows another's restart does
    not count it. So rank 0 counts in the store. What the others read there may be of a former rank 0, which is seen by
    its not answering them.
    """
    if rank == 0:
        start = store.add("starts", 1)
        store.set("start", str(start))
        here = [f"{start}/{other}" for other in range(1, size)]
        store.wait(here, MEETING)
        for name in here:
            store.set(f"{start}/{store.get(name).decode()}", "")
        return start
    me, end = uuid4().hex, time.monotonic() + MEETING.total_seconds()
    asked = ""
    while time.monotonic() < end:
        start = store.get("start").decode()
        if start != asked:
            store.set(f"{start}/{rank}", me)
            asked = start
        elif store.check([f"{start}/{me}"]):
            return int(start)
        else:
            time.sleep(0.05)
    raise dist.DistStoreError(f"rank 0 has not answered rank {rank}")
