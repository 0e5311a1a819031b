"""Copies of the weights in bf16, which the update writes and the forward pass reads, in place of autocast's casts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from alexnet._runtime import kernels
from alexnet.training.precision import MixedPrecision


class Bf16Weights:
    """Copies of a network's parameters, with which its convolutions and linear layers compute inside `in_forward`.

    Autocast casts these parameters in each step: it reads 4 bytes of each and writes 2. The update has just had them in
    registers, so that it only writes the 2. Results and gradients are autocast's to the last bit: the copies are the
    same roundings, and the gradient of a copy becomes that of the parameter by a cast to float32.

    Args:
        network: on its device, in float32. Its parameters stay what is trained, saved, averaged and evaluated.
    """

    def __init__(self, network: nn.Module) -> None:
        self._parameters = list(network.parameters())
        self._copies = {id(parameter): torch.empty_like(parameter, dtype=torch.bfloat16, requires_grad=False)
                        for parameter in self._parameters}
        self._versions: dict[int, int] = {}
        """By a parameter's id: torch's count of its changes in place when it was copied. The update is not counted."""

    def of(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """The copy of each parameter, with its shape and strides."""
        return [self._copies[id(parameter)] for parameter in parameters]

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy again what something other than the update has changed: loaded weights, averages that were swapped in.

        Before each step, and not within a recorded one.
        """
        changed: list[Tensor] = [parameter for parameter in self._parameters
                                 if self._versions.get(id(parameter)) != parameter._version]
        if changed:
            torch._foreach_copy_(self.of(changed), changed)
            self._versions |= {id(parameter): parameter._version for parameter in changed}

    def in_forward(self) -> TorchFunctionMode:
        """A context in which convolutions and linear layers read the copies."""
        return _ReadCopies(self._copies)


class _ReadCopies(TorchFunctionMode):
    """Gives convolutions and linear layers the copies. Autocast leaves an argument in bf16 as it is."""

    def __init__(self, copies: dict[int, Tensor]) -> None:
        super().__init__()
        self._copies = copies

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (F.conv2d, F.linear):
            args = tuple(_Copy.apply(given, self._copies[id(given)]) if id(given) in self._copies else given
                         for given in args)
        return func(*args, **(kwargs or {}))


class _Copy(torch.autograd.Function):
    """A parameter's copy in bf16, whose gradient is the parameter's."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, copy: Tensor) -> Tensor:
        return copy.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.float(), None


def bf16_weights(network: nn.Module, precision: MixedPrecision) -> Bf16Weights | None:
    """Copies for a network that trains in bf16 on CUDA, if there is the kernel that writes them."""
    wanted = precision.dtype == torch.bfloat16 and precision.device.type == "cuda" and kernels.available("cuda")
    return Bf16Weights(network) if wanted else None
