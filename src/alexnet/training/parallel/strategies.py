"""Many processes, one run: the world they meet in, and three ways to share a network.

    data    each process has the whole network and its share of every batch; gradients are summed.
    towers  each has one of the paper's two towers and the whole of every batch (§3.5); they speak where a layer sees
            both: conv3, and the fully connected ones.
    hybrid  "one weird trick" (arXiv 1404.5997): convolutions as in `data`; in the fully connected layers, which have
            nineteen in twenty weights, each has its share of the units and sees all images, as in `towers`.

Each gives what one process gives, but for rounding, since nothing in a step asks which process it is in: an image's
view is a function of its number, and dropout's mask is drawn for the global batch everywhere. Shapes: N images, C
maps, D units.
"""

from __future__ import annotations

import gc
import inspect
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import astuple, dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any, Literal
from uuid import uuid4

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from alexnet.architecture.overrides import difference
from alexnet.architecture.spec import Arch
from alexnet.inference.metrics import Errors
from alexnet.models.alexnet import AlexNet
from alexnet.models.response_norm import ResponseNorm
from alexnet.training.parallel.plan import chunks

Parallel = Literal["data", "towers", "hybrid"]
Scheme = Literal["a", "b", "c"]

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
    """Bytes that this process has sent, by what they were: gradients, activities, statistics (see scaling.py)."""
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
                                 f"({difference(other, first, ('there', 'here'))}); start all with the same data, "
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
def joined(device: str, timeout: float = TIMEOUT) -> Iterator[ProcessGroup]:
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


# --- What travels -----------------------------------------------------------------------------------------------------


class _Gather(torch.autograd.Function):
    """Every process's block along a dimension, in order of rank; blocks may be of different lengths.

    Backward is the other way: each process sends each other the gradient of that one's block, and sums what it gets.
    `as_one`: all processes go on to do the very same with the whole, so that each has its block's gradient already.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, world: ProcessGroup, dim: int, lengths: Sequence[int], as_one: bool) -> Tensor:
        ctx.world, ctx.dim, ctx.lengths, ctx.as_one = world, dim, lengths, as_one
        block = own.movedim(dim, 0).contiguous()
        parts = _exchange(world, [block] * world.size, lengths)
        return torch.cat(parts).movedim(0, dim).contiguous(memory_format=_format(own))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, whole: Tensor) -> tuple[Tensor | None, ...]:
        world, lengths = ctx.world, ctx.lengths
        blocks = whole.movedim(ctx.dim, 0).split(lengths)
        if ctx.as_one:
            own = blocks[world.rank]
        else:
            parts = _exchange(world, blocks, [lengths[world.rank]] * world.size)
            own = torch.stack(parts).sum(0)
        return own.movedim(0, ctx.dim).contiguous(memory_format=_format(whole)), None, None, None, None


class _Own(torch.autograd.Function):
    """This process's rows of what all processes have. Backward: everyone's gradients of their own rows, together."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, world: ProcessGroup, lengths: Sequence[int]) -> Tensor:
        ctx.world, ctx.lengths = world, lengths
        return whole.split(lengths)[world.rank].contiguous()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, own: Tensor) -> tuple[Tensor, None, None]:
        parts = _exchange(ctx.world, [own.contiguous()] * ctx.world.size, ctx.lengths)
        return torch.cat(parts), None, None


class _Sum(torch.autograd.Function):
    """The sum over processes, forward and backward."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, world: ProcessGroup) -> Tensor:
        ctx.world = world
        world.all_reduced("statistics", own)
        return world.all_reduce_sum(own.clone())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None]:
        ctx.world.all_reduced("statistics", above)
        return ctx.world.all_reduce_sum(above.clone()), None


def _exchange(world: ProcessGroup, blocks: Sequence[Tensor], lengths: Sequence[int]) -> list[Tensor]:
    """blocks[r] to process r, and from each process r the `lengths[r]` rows that it sent here."""
    row = blocks[0].shape[1:]
    got = blocks[0].new_empty((sum(lengths), *row))
    dist.all_to_all_single(got, torch.cat(list(blocks)), list(lengths), [len(block) for block in blocks])
    if not torch.is_inference_mode_enabled():  # evaluation sends as well, and is no step
        world.sent["activities"] += sum(
            block.numel() * block.element_size() for rank, block in enumerate(blocks) if rank != world.rank)
    return list(got.split(list(lengths)))


def _format(maps: Tensor) -> torch.memory_format:
    return torch.channels_last if maps.ndim == 4 else torch.contiguous_format


# --- Layers that know of the others -----------------------------------------------------------------------------------


@dataclass
class BatchSlice:
    """Which images of the global batch a layer has before it."""

    images: int = 0
    """In the global batch."""
    rows: NDArray[np.int64] | None = None
    """Their places in it; None for all, in order."""
    rows_together: int = 0
    """How many all processes have before them: those that batch normalization's statistics are of."""
    step: int = 0
    """Counts up, so that a layer which sees one batch in parts knows that it is the same."""


class Dropout(nn.Dropout):
    """The mask that one process would draw for the global batch, and of it the rows and units that are here."""

    def __init__(self, p: float, sight: BatchSlice, units: slice = slice(None), of: int = 0) -> None:
        super().__init__(p)
        self.sight, self.units, self.of = sight, units, of
        self.step, self.mask = -1, torch.empty(0)

    def forward(self, own_ND: Tensor) -> Tensor:
        if not self.training:
            return own_ND
        sight = self.sight
        if self.step != sight.step:
            shape = sight.images, self.of or own_ND.shape[1]
            mask = torch.empty(shape, dtype=own_ND.dtype, device=own_ND.device).bernoulli_(1 - self.p)
            self.step, self.mask = sight.step, mask[:, self.units].div_(1 - self.p)
        mask = self.mask if sight.rows is None else self.mask[torch.from_numpy(sight.rows).to(own_ND.device)]
        return own_ND * mask


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalization by the statistics of the global batch, whose images are spread over the processes."""

    def __init__(self, layer: nn.modules.batchnorm._BatchNorm, world: ProcessGroup, sight: BatchSlice) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum)
        self.load_state_dict(layer.state_dict())
        self.world, self.sight = world, sight

    def _check_input_dim(self, maps: Tensor) -> None:
        pass

    def forward(self, maps: Tensor) -> Tensor:
        if not self.training:
            return super().forward(maps)
        wide = maps.float()
        others = [dim for dim in range(maps.ndim) if dim != 1]
        across = (1, -1, *[1] * (maps.ndim - 2))
        count = self.sight.rows_together * maps[0, 0].numel()
        mean_C = _Sum.apply(wide.sum(others), self.world) / count
        apart = wide - mean_C.view(across)
        variance_C = _Sum.apply(apart.square().sum(others), self.world) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean_C, self.momentum or 0.0)
            self.running_var.lerp_(variance_C * (count / max(1, count - 1)), self.momentum or 0.0)
        scale_C = self.weight * (variance_C + self.eps).rsqrt()
        return (apart * scale_C.view(across) + self.bias.view(across)).to(maps.dtype)


# --- Sharing a network ------------------------------------------------------------------------------------------------


class ParallelModel:
    """A network made one of a team's, in place: `Team(world, network, "data")`, and then, when it is on its device and
    frozen as it should be, `team.ready()`.

    The network's layers keep their names, so that optimizer, log and checkpoint know them as ever. In `towers` and
    `hybrid` some parameters are slices along their first dimension: `own` makes slices of whole tensors, `whole` the
    other way round. pieces: whether a batch is worked on in parts, which dropout has to know.
    Raises ValueError for a scheme that this network cannot have in a world of this size.
    """

    def __init__(self, world: ProcessGroup, network: AlexNet, parallel: Parallel = "data", scheme: Scheme = "a",
                 pieces: bool = False) -> None:
        self.world, self.network, self.parallel, self.scheme = world, network, parallel, scheme
        self.shares: list[range] = []
        """Which of its images each process has at hand, in training."""
        self.sight, self.sees_all = BatchSlice(), BatchSlice()
        self.sliced: dict[str, torch.Size] = {}
        """The whole shape of each tensor of the state dict of which this process has a slice."""
        self.mesh: DeviceMesh | None = None
        self.trained: nn.Module = network
        """What the training step and evaluation call."""
        check(network.arch, world.size, parallel, scheme)
        if world.size == 1 and not pieces:
            return
        world.leaving.append(self._leave)
        if parallel != "data":
            self.mesh = init_device_mesh(world.device.type, (world.size,), mesh_dim_names=("units",))
        for name in network.layer_names():
            self._join(name, network.named_layer(name))

    def ready(self) -> None:
        """Let gradients be summed. The network is on its device, and what is frozen is."""
        if self.world.size == 1:
            return
        if self.parallel == "data":
            self.trained = self._summing(self.network)
        elif self.parallel == "hybrid":
            self.trained = _Hybrid(self)

    def _leave(self) -> None:
        self.trained, self.mesh = self.network, None

    # --- What the loop asks ---

    @property
    def reads(self) -> tuple[int, int]:
        """Which share of a batch is read here: (rank, world) for `loader.batches`."""
        return (0, 1) if self.parallel == "towers" else (self.world.rank, self.world.size)

    @property
    def measured(self) -> nn.Module:
        """What evaluation calls."""
        return self.network if self.parallel == "data" else self.trained

    def everywhere(self, holds: bool) -> bool:
        """Whether it holds in all processes."""
        return not self.world.all_reduce_max(not holds)

    def errors(self, own: Errors) -> Errors:
        """The sum of everyone's, each image counted once."""
        return self.world.errors(own if self.counts else Errors())

    @property
    def counts(self) -> bool:
        """Whether what is counted here was not counted elsewhere."""
        return self.parallel != "towers" or self.world.first

    @property
    def parameters(self) -> int:
        """Of the whole network, wherever they are."""
        return sum(self.sliced.get(name, one.shape).numel() for name, one in self.network.named_parameters())

    def pieces(self, images: int, most: int | None) -> int:
        """Parts of at most `most` images in which the largest share of a batch is worked on."""
        return -(-len(range(0, images, self.reads[1])) // most) if most else 1

    def see(self, images: int, step: int, piece: int = 0, pieces: int = 1) -> None:
        """Before a step, or a part of it: how many images the global batch has, and so which are at hand."""
        size = self.reads[1]
        counts = [len(range(rank, images, size)) for rank in range(size)]
        self.shares = [range(piece * count // pieces, (piece + 1) * count // pieces) for count in counts]
        for sight in (self.sight, self.sees_all):
            sight.images, sight.step, sight.rows_together = images, step, sum(map(len, self.shares))
        # Process r's i-th image stands at place r + i * size of the global batch.
        self.sight.rows = self.sees_all.rows = self.reads[0] + np.array(self.shares[self.reads[0]], np.int64) * size

    @contextmanager
    def adding(self, last: bool) -> Iterator[None]:
        """Within, gradients are kept here and not summed over processes, unless this is the last part of a batch."""
        summing = [one for one in self.trained.modules() if isinstance(one, DistributedDataParallel)]
        with summing[0].no_sync() if summing and not last else nullcontext():
            yield

    def squares(self, names: Sequence[str], own_PT: Tensor) -> Tensor:
        """Sums of squares of whole tensors, from those of this process's slices."""
        if not self.sliced:
            return own_PT
        sliced_T = torch.tensor([name in self.sliced for name in names], device=own_PT.device)
        return torch.where(sliced_T, self.world.all_reduce_sum(own_PT.clone()), own_PT)

    def own(self, whole: dict[str, Tensor]) -> dict[str, Tensor]:
        """This process's slices of whole tensors; the others as they are."""
        return {name: self._slice(tensor) if name in self.sliced else tensor for name, tensor in whole.items()}

    def whole(self, own: dict[str, Tensor]) -> dict[str, Tensor]:
        """Everyone's slices put together, in every process. All must ask at once."""
        if not self.sliced:
            return own
        from torch.distributed.tensor import DTensor, Shard  # late: it takes a quarter of a second to import

        def one(name: str, tensor: Tensor) -> Tensor:
            shape = self.sliced.get(name)
            if shape is None:
                return tensor
            assert self.mesh is not None
            stride = torch.empty(shape, device="meta").stride()
            return DTensor.from_local(tensor.detach().contiguous(), self.mesh, [Shard(0)], run_check=False, shape=shape,
                                      stride=stride).full_tensor()

        return {name: one(name, tensor) for name, tensor in own.items()}

    # --- Making layers one of many ---

    def _join(self, name: str, layer: nn.Module) -> None:
        """Make one layer this process's."""
        in_classifier = layer in set(self.network.classifier)
        if self.parallel == "data" or (self.parallel == "hybrid" and not in_classifier):
            if isinstance(layer, nn.Dropout):
                self._replace(layer, Dropout(layer.p, self.sight))
            elif isinstance(layer, nn.modules.batchnorm._BatchNorm) and self.world.size > 1:
                self._replace(layer, BatchNorm(layer, self.world, self.sight))
            return
        if isinstance(layer, nn.Conv2d):
            self._slice_conv(layer)
        elif isinstance(layer, nn.Linear):
            self._slice_dense(name, layer)
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
            self._slice_parameters(layer)
            layer.num_features = len(layer.running_mean)  # type: ignore[arg-type]
        elif isinstance(layer, ResponseNorm):
            self._replace(layer, ResponseNorm(layer.lrn, len(layer.neighbors) // self.world.size, 1))
        elif isinstance(layer, nn.Dropout):
            self._slice_dropout(name, layer)

    def _slice_conv(self, conv: nn.Conv2d) -> None:
        """Its kernels of this tower; where they see all maps, the towers tell each other theirs first."""
        maps = conv.in_channels // self.world.size
        self._slice_parameters(conv)
        conv.out_channels = len(conv.weight)
        if conv.groups > 1:
            conv.in_channels, conv.groups = maps, conv.groups // self.world.size
        elif conv.in_channels > 3:
            self._gather_before(conv, [maps] * self.world.size)

    def _slice_dense(self, name: str, dense: nn.Linear) -> None:
        """Its units of this process. It sees all of the layer before, and the last one's logits all processes have."""
        names = [one for one, _ in self.network.weight_layers()]
        if self.parallel == "towers" or not names[names.index(name) - 1].startswith("conv"):
            self._gather_before(dense, chunks(dense.in_features, self.world.size))
        units = chunks(dense.out_features, self.world.size)
        self._slice_parameters(dense)
        dense.out_features = units[self.world.rank]
        if name == names[-1]:
            dense.register_forward_hook(
                lambda _, __, logits_NK: _Gather.apply(logits_NK, self.world, 1, units, True))

    def _gather_before(self, layer: nn.Module, lengths: Sequence[int]) -> None:
        layer.register_forward_pre_hook(
            lambda _, inputs: (_Gather.apply(inputs[0], self.world, 1, lengths, False),))

    def _slice_dropout(self, name: str, layer: nn.Dropout) -> None:
        """The units that stand here at this place: those of the fully connected layer before, or the flattened maps."""
        names = self.network.layer_names()
        before = [self.network.named_layer(one) for one in names[:names.index(name)]]
        dense = next((one for one in reversed(before) if isinstance(one, nn.Linear)), None)
        if dense is None:
            after = [self.network.named_layer(one) for one in names[names.index(name):]]
            width = next(one.in_features for one in after if isinstance(one, nn.Linear))
            here = self.parallel == "towers"
        else:
            width, here = self.sliced[self._key(dense, "weight")][0], True
        lengths = chunks(width, self.world.size)
        start = sum(lengths[:self.world.rank])
        units = slice(start, start + lengths[self.world.rank]) if here else slice(None)
        self._replace(layer, Dropout(layer.p, self.sees_all, units, width))

    def _slice_parameters(self, layer: nn.Module) -> None:
        for kind, tensors in (("parameter", layer.named_parameters()), ("buffer", layer.named_buffers())):
            for name, tensor in list(tensors):
                if tensor.ndim:
                    self.sliced[self._key(layer, name)] = tensor.shape
                    own = self._slice(tensor.detach())
                    setattr(layer, name, nn.Parameter(own) if kind == "parameter" else own)

    def _slice(self, whole: Tensor) -> Tensor:
        from torch.distributed.tensor import Shard, distribute_tensor

        assert self.mesh is not None
        own = distribute_tensor(whole.contiguous(), self.mesh, [Shard(0)], src_data_rank=None).to_local()
        return own.clone(memory_format=_format(own))

    def _key(self, layer: nn.Module, name: str) -> str:
        where = next(path for path, module in self.network.named_modules() if module is layer)
        return f"{where}.{name}"

    def _replace(self, layer: nn.Module, new: nn.Module) -> None:
        for sequence in (self.network.features, self.network.classifier):
            for name, child in sequence.named_children():
                if child is layer:
                    setattr(sequence, name, new.to(self.world.device))

    def _summing(self, module: nn.Module) -> nn.Module:
        """The module under DDP, whose gradients are sums, and counted."""
        if not any(parameter.requires_grad for parameter in module.parameters()):
            return module
        # Statistics are the same everywhere without being sent; torch 2.13 has given the option another name.
        known = inspect.signature(DistributedDataParallel).parameters
        buffers: Any = {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}
        summed = DistributedDataParallel(module, gradient_as_bucket_view=True, **buffers)
        summed.register_comm_hook(self.world, lambda world, bucket: _sum_gradients(world, bucket))
        return summed


def _sum_gradients(world: ProcessGroup, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """A bucket of gradients, summed and not averaged: each process has weighted its loss by its share of the batch."""
    world.all_reduced("gradients", bucket.buffer())
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: done.value()[0])


class _Hybrid(nn.Module):
    """Convolutions over one's own images, fully connected layers over everyone's; logits of one's own.

    What §4 of arXiv 1404.5997 leaves open is how images come to the fully connected layers:
        a  all at once: every process sends its activities to all, and a batch of all of them is worked on.
        b  one process after another sends its, and its batch is worked on everywhere; less memory, and only one sends.
        c  every process sends the same part of its activities, part after part: little memory, and all send.
    """

    def __init__(self, team: ParallelModel) -> None:
        super().__init__()
        self.team, self.world, network = team, team.world, team.network
        self.convolutions = team._summing(nn.Sequential(network.features, network.avgpool, nn.Flatten()))
        self.classifier = network.classifier

    def train(self, mode: bool = True) -> _Hybrid:
        """As the network has it, where frozen layers stay as they are."""
        self.training = mode
        self.team.network.train(mode)
        return self

    def forward(self, pixels_NCHW: Tensor) -> Tensor:
        world = self.world
        own_ND = self.convolutions(pixels_NCHW)
        logits_NK = []
        for parts in self._rounds(self.team.shares if self.training else self._counted(len(own_ND))):
            here, start = parts[world.rank], self.team.shares[world.rank].start if self.training else 0
            lengths = [len(part) for part in parts]
            self.team.sees_all.rows = np.concatenate(
                [rank + np.array(part, np.int64) * world.size for rank, part in enumerate(parts)])
            own = own_ND[here.start - start:here.stop - start]
            all_ND = _Gather.apply(own, world, 0, lengths, False)
            logits_NK.append(_Own.apply(self.classifier(all_ND), world, lengths))
        return torch.cat(logits_NK)

    def _counted(self, own: int) -> list[range]:
        """What each process has in evaluation, where nobody was told."""
        counts = torch.zeros(self.world.size, dtype=torch.int64, device=self.world.device)
        counts[self.world.rank] = own
        return [range(count) for count in self.world.all_reduce_sum(counts).tolist()]

    def _rounds(self, shares: Sequence[range]) -> list[list[range]]:
        """For each round, which of its images each process sends."""
        size = len(shares)
        if self.team.scheme == "a" or not self.training:
            return [list(shares)]
        if self.team.scheme == "b":
            return [[share if rank == sender else share[:0] for rank, share in enumerate(shares)]
                    for sender in range(size)]
        return [[share[part * len(share) // size:(part + 1) * len(share) // size] for share in shares]
                for part in range(size)]


def check(arch: Arch, size: int, parallel: Parallel, scheme: Scheme = "a") -> None:
    """Raises ValueError for a network that cannot be shared so among `size` processes, with what can be done."""
    if parallel != "data" and size == 1:
        raise ValueError(f"--parallel {parallel} wants several processes, and this is one; start it by torchrun "
                         "--nproc-per-node 2 -m alexnet train ..., or leave it out")
    if scheme != "a" and parallel != "hybrid":
        raise ValueError(f"--scheme {scheme} is of --parallel hybrid; take that, or leave it out")
    if parallel == "hybrid" and scheme != "a" and arch.dense_norm:
        raise ValueError(f"{arch.name} has batch normalization in its fully connected layers, which wants the whole "
                         f"batch at once, and --scheme {scheme} brings it in parts; take --scheme a")
    if parallel == "towers":
        if arch.towers != size:
            raise ValueError(f"--parallel towers gives each process a tower, and {arch.name} has {arch.towers} while "
                             f"there are {size} processes; start {arch.towers}, or take --parallel data" if
                             arch.towers > 1 else f"--parallel towers wants a network of towers, and {arch.name} has "
                             "one; take --arch paper, or --parallel data")
        if arch.norm == "lrn" and not arch.lrn.within_tower and any("norm" in conv.post_ops for conv in arch.conv):
            raise ValueError(f"{arch.name} normalizes across its towers, which would send every map to every process; "
                             "--set arch.lrn.within_tower=true, or take --parallel data")
