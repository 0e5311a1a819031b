"""`ProcessGroup`: the processes of a run, what they exchange beside tensors, and how an error of one ends all."""

from __future__ import annotations

import gc
import json
import os
import pickle
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from typing import Protocol, TypeVar
from weakref import WeakSet

import torch
import torch.distributed as dist
from torch import Tensor

from alexnet._runtime.notes import is_launched
from alexnet.errors import UserError, first_difference
from alexnet.inference.evaluate import sum_errors
from alexnet.inference.metrics import Errors
from alexnet.training.parallel.liveness import PeerLostError, Store, signs_of_life
from alexnet.training.parallel.rendezvous import MEETING, gpu_identity, meet, own_device, require_rendezvous
from alexnet.training.parallel.step_clock import StepClock
from alexnet.training.parallel.text_exchange import AlreadyReported, Decide, Post, TextExchange
from alexnet.training.parallel.timeouts import step_seconds

T = TypeVar("T")

_ROUND_SECONDS, _ROUND_BYTES = 0.5, 128_000_000
"""Of `ProcessGroup.in_order`: how long each process works between two gatherings, and what rank 0 receives in one, at
most; of more than one part for each process."""


class Closable(Protocol):
    """What holds the process group, and can let go of it."""

    def close(self) -> None: ...


class ProcessGroup:
    """This process among the others of a run. With size 1, it never sends anything.

    Args:
        rank: number of this process; rank 0 logs, saves and reports.
        size: how many processes there are.
        device: of this process.
        store: torch.distributed's store, for a size above 1.
        start: how often these processes have been started, this time included.
    """

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | str = "cpu", store: Store | None = None,
                 start: int = 1) -> None:
        self.rank, self.size, self.device, self.store = rank, size, torch.device(device), store
        self.restarted = start > 1 or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
        """Whether torchrun has started these processes again, after one was lost."""
        self.sent: defaultdict[str, float] = defaultdict(float)
        """Bytes that this process has sent in training steps: gradients, activations, statistics (docs/scaling.md)."""
        self.clock = StepClock(self.device, enabled=size > 1)
        """How long this process works and waits in training steps."""
        self._texts = TextExchange(rank, size, store) if store else None
        self._closables: WeakSet[Closable] = WeakSet()

    @property
    def first(self) -> bool:
        """Whether this process logs, saves and reports."""
        return self.rank == 0

    # --- Texts, through the store: they work before the collectives are set up, and have no timeout ---

    def all_gather_text(self, text: str) -> list[str]:
        """Every process's text, by rank. Waits as long as the others show signs of life: one may be packing images.

        Not `all_gather_object`, whose timeout would end a run whose images are packed for hours.

        Raises:
            AlreadyReported: in rank 0, if another process posted an error instead (`error_barrier`).
            SilentExit: in the others, in this case.
            PeerLostError: if a process shows no sign of life.
        """
        return json.loads(self._exchange({"text": text}, json.dumps))

    def _exchange(self, post: Post, decide: Decide) -> str:
        return self._texts.exchange(post, decide) if self._texts else decide([post["text"]])

    @contextmanager
    def error_barrier(self) -> Iterator[None]:
        """A stretch that all processes complete, or none: an error of one ends all, reported once, by rank 0.

        A process that fails posts its error at its next exchange of texts; the others read it at theirs, wherever in
        the stretch that is.

        Raises:
            AlreadyReported: in rank 0, for a ValueError or OSError of any process.
            SilentExit: in the others.
        """
        try:
            yield
        except AlreadyReported:
            raise
        except (ValueError, OSError) as error:
            if self.size > 1:
                problem, remedy = (error.problem, error.remedy) if isinstance(error, UserError) else (str(error), "")
                sentence = " ".join(problem.split()) or type(error).__name__
                self._exchange({"problem": sentence, "remedy": remedy}, _no_text)
            raise
        self._exchange({"text": ""}, _no_text)

    def require_same_on_all_ranks(self, trees: Mapping[str, object]) -> None:
        """Raise UserError, in rank 0, if a process has another JSON tree than rank 0; the others end silently.

        Args:
            trees: what the trees describe -> the tree. All of them are compared in one exchange.
        """
        def decide(texts: Sequence[str]) -> str:
            first = json.loads(texts[0])
            for rank, text in enumerate(texts):
                if text == texts[0]:
                    continue
                for what, other in json.loads(text).items():
                    if other != first[what]:
                        raise UserError(
                            f"process {rank} of {self.size} was started with another {what} than process 0 "
                            f"({first_difference(other, first[what], (f'in process {rank}', 'in process 0'))})",
                            "start all processes with the same data, options and version of alexnet")
            return ""

        self._exchange({"text": json.dumps(trees)}, decide)

    def require_own_gpus(self, identity: str) -> None:
        """Raise UserError, in rank 0, if two processes have the same GPU, with which NCCL cannot work.

        Args:
            identity: of this process's GPU, as `gpu_identity` returns it.
        """
        def decide(texts: Sequence[str]) -> str:
            first_rank: dict[str, int] = {}
            for rank, text in enumerate(texts):
                if (first := first_rank.setdefault(text, rank)) != rank:
                    raise UserError(f"processes {first} and {rank} have the same GPU, {text}", "start one process for "
                                    "each GPU: torchrun --nproc-per-node gpu, or srun with --gpus-per-task=1")
            return ""

        self._exchange({"text": identity}, decide)

    def local_rank0_first(self, make: Callable[[], T]) -> T:
        """The result of `make`, called first in one process of each host: it may pack what the others read."""
        if int(os.environ.get("LOCAL_RANK", self.rank)):
            self._exchange({"text": ""}, _no_text)
            return make()
        made = make()
        self._exchange({"text": ""}, _no_text)
        return made

    def largest(self, *numbers: int) -> list[int]:
        """Of each number, the largest of all processes, for which it waits as `wait` does."""
        def decide(texts: Sequence[str]) -> str:
            return json.dumps([max(of_all) for of_all in zip(*map(json.loads, texts), strict=True)])

        return json.loads(self._exchange({"text": json.dumps(numbers)}, decide))

    def wait(self) -> None:
        """Wait for all processes, however long one of them works, or waits for its disk, as long as it is alive.

        The collective operation at the end has the timeout of a step, but all processes begin it at once.
        """
        if self.size > 1:
            self._exchange({"text": ""}, _no_text)
            dist.barrier()

    # --- Tensors, through collective operations ---

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum over processes, in place, in each of them."""
        if self.size > 1:
            with self.clock.waiting():
                dist.all_reduce(values)
        return values

    def all_true(self, holds: bool) -> bool:
        """Whether something holds in all processes."""
        if self.size == 1:
            return holds
        fails = torch.tensor(int(not holds), device=self.device)
        with self.clock.waiting():
            dist.all_reduce(fails, dist.ReduceOp.MAX)
        return not fails

    def sum_errors(self, batches: Sequence[Errors]) -> Errors:
        """The errors of all batches, each evaluated by one process; added in order, so that no bit depends on size."""
        if self.size > 1:
            self.wait()  # the others may have had fewer batches, or faster ones
            counted = torch.tensor([[each.images, each.loss_sum, each.top1_wrong, each.top5_wrong] for each in batches],
                                   dtype=torch.float64, device=self.device)
            batches = [Errors(int(images), loss_sum, int(top1), int(top5))
                       for images, loss_sum, top1, top5 in self.all_reduce_sum(counted).tolist()]
        return sum_errors(batches)

    def sum_counts(self, counts: Tensor) -> Tensor:
        """The sum of an int64 tensor over the processes, in each of them; from the CPU and to it."""
        return self.all_reduce_sum(counts.to(self.device)).cpu() if self.size > 1 else counts

    def from_rank0(self, make: Callable[[], T]) -> T:
        """What `make` returns in rank 0, in each process (pickled on its way)."""
        if self.size == 1:
            return make()
        with self.error_barrier():
            box = [make() if self.first else None]
        dist.broadcast_object_list(box, 0, device=self.device)
        return box[0]  # type: ignore[return-value]

    def in_order(self, own: Iterator[T], parts: int) -> Iterator[T]:
        """Yield the results of all parts of a job in order in rank 0, as `Ranks.in_order` says (pickled on their way).

        In each round, every process does the same number of parts. It doubles while the rounds are short, so that many
        small parts do not wait for each other one by one. Between rounds a process may take as long as it lives.
        """
        if self.size == 1:
            yield from own
            return
        begun, each = 0, 1
        while begun < parts:
            started = time.monotonic()
            packet = torch.frombuffer(bytearray(pickle.dumps(list(islice(own, each)))), dtype=torch.uint8)
            largest_bytes, milliseconds = self.largest(len(packet), int(1000 * (time.monotonic() - started)))
            padded = torch.nn.functional.pad(packet, (0, largest_bytes - len(packet))).to(self.device)
            packets = [torch.empty_like(padded) for _ in range(self.size)] if self.first else None
            dist.gather(padded, packets, 0)
            results = [pickle.loads(received.cpu().numpy().tobytes()) for received in packets or ()]
            yield from (of_rank[turn] for turn in range(each) for of_rank in results if turn < len(of_rank))
            begun += each * self.size
            if milliseconds < 1000 * _ROUND_SECONDS and 2 * largest_bytes * self.size < _ROUND_BYTES:
                each *= 2

    def count_all_reduce(self, what: str, values: Tensor) -> None:
        """Count what an all-reduce in a ring sends from each process: every byte twice, minus its own part."""
        self.sent[what] += 2 * (self.size - 1) / self.size * values.numel() * values.element_size()

    # --- The end ---

    def close_at_exit(self, closable: Closable) -> None:
        """Close it before the process group is destroyed. Keeps no reference that would keep it alive."""
        if self.size > 1:
            self._closables.add(closable)

    def close(self) -> None:
        """Let everything that holds the group let go of it."""
        for closable in list(self._closables):
            closable.close()


def _no_text(texts: Sequence[str]) -> str:
    """The verdict of an exchange at which processes only wait for each other, or post problems."""
    return ""


def single_process(device: torch.device | str = "cpu") -> ProcessGroup:
    """The group of a run in one process."""
    return ProcessGroup(device=device)


@contextmanager
def init_distributed(device: str, timeout: float | None = None, *, is_streamed: bool = False) -> Iterator[ProcessGroup]:
    """The process group that torchrun's variables describe (gloo between CPUs, NCCL between GPUs), or of one process.

    Each process of a host takes the GPU with its own number, or the only one that it sees.

    Args:
        device: as `choose_device` returns it.
        timeout: seconds that a process waits for the others in the middle of a step; None: by device and data.
        is_streamed: whether the data comes over a network.

    Raises:
        UserError: in all processes, if a GPU is absent, or two processes have the same one.
        PeerLostError: if a process is lost.
    """
    if not is_launched():
        yield single_process(device)
        return
    require_rendezvous()
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local_rank = int(os.environ.get("LOCAL_RANK", rank))
    store, rank, size = next(dist.rendezvous("env://", rank, size, timeout=MEETING))
    try:
        start = meet(dist.PrefixStore("alexnet", store), rank, size)
    except dist.DistError as error:
        raise PeerLostError(f"process {rank} of {size} could not connect to the other processes within "
                            f"{MEETING.seconds // 60} minutes; check that all hosts were started and can reach each "
                            "other") from error
    store = dist.PrefixStore(f"alexnet/{start}", store)
    texts = dist.PrefixStore("texts", store)
    processes = ProcessGroup(rank, size, device, texts, start)
    backend = "nccl" if processes.device.type == "cuda" else "gloo"
    seconds = MEETING.total_seconds()
    try:
        with signs_of_life(texts, rank):
            with processes.error_barrier():
                step = step_seconds(backend, is_streamed=is_streamed, asked=timeout)
                processes.device = own_device(processes.device, local_rank)
                processes.clock = StepClock(processes.device)
                if backend == "nccl":
                    processes.require_own_gpus(gpu_identity(processes.device))
            _connect(backend, processes, dist.PrefixStore("group", store), timedelta(seconds=step))
            seconds = step
            yield processes
            processes.wait()
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not _is_lost_connection(error):
            raise
        raise PeerLostError(
            f"process {rank} of {size} waited for another process that has ended or has not responded for {seconds:g} "
            "seconds; continue from the last checkpoint with --resume, which torchrun --max-restarts does by itself; "
            "if MASTER_ADDR's host is lost, start the same command again on all hosts") from error
    finally:
        # A thread of the group that outlives the interpreter aborts the process, so nothing may hold the group.
        processes.close()
        gc.collect()
        if dist.is_initialized():
            dist.destroy_process_group()


def _connect(backend: str, processes: ProcessGroup, store: dist.Store, step: timedelta) -> None:
    """Connect the processes now, and not in the first step: NCCL because of device_id.

    gloo connects each process with every other one. With many processes this takes longer than `step`, the timeout of
    one operation: 1,024 make half a million connections. So it has as long as the processes have to meet.
    """
    if backend == "nccl":
        dist.init_process_group(backend, store=store, rank=processes.rank, world_size=processes.size, timeout=step,
                                device_id=processes.device)
        return
    dist.init_process_group(backend, store=store, rank=processes.rank, world_size=processes.size,
                            timeout=max(step, MEETING))
    dist.distributed_c10d._set_pg_timeout(step)  # of the operations from now on


def _is_lost_connection(error: RuntimeError) -> bool:
    """Whether gloo, which raises a bare RuntimeError, reports that another process is gone or has not answered."""
    return any(words in str(error) for words in ("gloo", "pair closure"))
