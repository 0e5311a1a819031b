"""Three ways to share a network among processes: data-parallel, the two towers, hybrid.

    data    each process has the whole network and its share of every batch; gradients are summed.
    towers  each has one of the paper's two towers and the whole of every batch (§3.5); they exchange activations where a
            layer sees both: conv3, and the fully connected ones.
    hybrid  "one weird trick" (arXiv 1404.5997): convolutions as in `data`; in the fully connected layers, which have
            nineteen in twenty weights, each has its share of the units and sees all images, as in `towers`.

Each gives what one process gives, but for rounding, since nothing in a step asks which process it is in: an image's view
is a function of its number, and dropout's mask is drawn for the global batch everywhere. Shapes: N images, C maps, D
units.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from alexnet.architecture.spec import Arch
from alexnet.inference.metrics import Errors
from alexnet.models.alexnet import AlexNet
from alexnet.models.response_norm import ResponseNorm
from alexnet.training.parallel.collectives import Gather, TakeOwn, memory_format_of
from alexnet.training.parallel.layers import BatchNorm, BatchSlice, Dropout
from alexnet.training.parallel.plan import chunks
from alexnet.training.parallel.process_group import ProcessGroup

Parallel = Literal["data", "towers", "hybrid"]
Scheme = Literal["a", "b", "c"]


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
                lambda _, __, logits_NK: Gather.apply(logits_NK, self.world, 1, units, True))

    def _gather_before(self, layer: nn.Module, lengths: Sequence[int]) -> None:
        layer.register_forward_pre_hook(
            lambda _, inputs: (Gather.apply(inputs[0], self.world, 1, lengths, False),))

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
        return own.clone(memory_format=memory_format_of(own))

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
            all_ND = Gather.apply(own, world, 0, lengths, False)
            logits_NK.append(TakeOwn.apply(self.classifier(all_ND), world, lengths))
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
