"""A network of which this process holds a part: its layers, made smaller in place by the partition plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from alexnet.models.alexnet import AlexNet
from alexnet.models.response_norm import ResponseNorm
from alexnet.training.parallel.collectives import Gather, gather_rows, memory_format_of
from alexnet.training.parallel.layers import BatchSlice, CounterDropout
from alexnet.training.parallel.plan import PartitionPlan, Ranges
from alexnet.training.parallel.process_group import ProcessGroup


class SplitNetwork:
    """The parts of a network's tensors that this process holds.

    Layers keep their names, so optimizer, log and checkpoint use the same keys as with one process. The parts are plain
    tensors and not torch's DTensor, since the compiled kernels take plain ones, and parts may differ in length.

    Args:
        network: changed in place: the layers in the plan keep this process's outputs only, and exchange activations
            where they need those of the other processes.
    """

    def __init__(self, network: AlexNet, plan: PartitionPlan, processes: ProcessGroup, batch: BatchSlice) -> None:
        self.network, self.processes, self._batch = network, processes, batch
        self._ranges: dict[str, Ranges] = {}
        """Key of the state dict -> which rows of the tensor each process holds."""
        paths = {module: path for path, module in network.named_modules()}
        last = network.layer_names()[-1]
        for name, outputs in plan.outputs.items():
            layer = network.named_layer(name)
            self._slice_tensors(paths[layer], layer, outputs)
            self._shrink(layer, outputs)
            if name in plan.inputs:
                layer.register_forward_pre_hook(_gather_inputs(processes, _lengths(plan.inputs[name])))
            if name == last:  # every process computes the loss from all logits
                layer.register_forward_hook(_gather_logits(processes, _lengths(outputs)))

    def take(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors, by key of the state dict -> this process's parts of them."""
        return {key: self._rows(tensor, self._ranges[key]) if key in self._ranges else tensor
                for key, tensor in tensors.items()}

    def gather(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The reverse of `take`, in every process. All processes must call it."""
        return {key: gather_rows(tensor, self.processes, _lengths(self._ranges[key])) if key in self._ranges else tensor
                for key, tensor in tensors.items()}

    def sum_squares(self, keys: Sequence[str], own_PT: Tensor) -> Tensor:
        """Sums of squares of whole tensors, from those of this process's parts: [..., tensors]."""
        if not self._ranges:
            return own_PT
        split_T = torch.tensor([key in self._ranges for key in keys], device=own_PT.device)
        return torch.where(split_T, self.processes.all_reduce_sum(own_PT.clone()), own_PT)

    @property
    def parameter_count(self) -> int:
        """Parameters of the whole network, over all processes."""
        def rows(key: str, parameter: Tensor) -> int:
            return self._ranges[key][-1].stop if key in self._ranges else len(parameter)

        return sum(rows(key, parameter) * parameter.shape[1:].numel()
                   for key, parameter in self.network.named_parameters())

    def _slice_tensors(self, path: str, layer: nn.Module, outputs: Ranges) -> None:
        parameters = dict(layer.named_parameters())
        for name, tensor in layer.state_dict().items():
            if tensor.ndim:  # batch normalization's num_batches_tracked is a single number
                self._ranges[f"{path}.{name}"] = outputs
                own = self._rows(tensor, outputs)
                setattr(layer, name, nn.Parameter(own) if name in parameters else own)

    def _rows(self, whole: Tensor, outputs: Ranges) -> Tensor:
        own = outputs[self.processes.rank]
        return whole[own.start:own.stop].clone(memory_format=memory_format_of(whole))

    def _shrink(self, layer: nn.Module, outputs: Ranges) -> None:
        """Let a layer's sizes be those of its own outputs."""
        own, size = outputs[self.processes.rank], self.processes.size
        if isinstance(layer, nn.Conv2d):
            layer.out_channels = len(own)
            if layer.groups > 1:
                layer.in_channels, layer.groups = layer.in_channels // size, layer.groups // size
        elif isinstance(layer, nn.Linear):
            layer.out_features = len(own)
        elif isinstance(layer, _BatchNorm):
            layer.num_features = len(own)
        elif isinstance(layer, ResponseNorm):
            replace_layer(self.network, layer, ResponseNorm(layer.lrn, len(own), 1))
        elif isinstance(layer, nn.Dropout):
            number = list(self.network.classifier).index(layer)
            replace_layer(self.network, layer, CounterDropout(layer.p, self._batch, number, own.start))


def replace_layer(network: AlexNet, layer: nn.Module, new: nn.Module) -> None:
    """Put a new layer in the place of another."""
    for sequence in (network.features, network.classifier):
        for name, child in sequence.named_children():
            if child is layer:
                setattr(sequence, name, new)


def _lengths(parts: Ranges) -> list[int]:
    return [len(part) for part in parts]


def _gather_inputs(processes: ProcessGroup, lengths: list[int]) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
    return lambda _, inputs: (Gather.apply(inputs[0], processes, 1, lengths, False),)


def _gather_logits(processes: ProcessGroup, lengths: list[int]) -> Callable[[nn.Module, object, Tensor], Tensor]:
    return lambda _, __, logits_NK: Gather.apply(logits_NK, processes, 1, lengths, True)
