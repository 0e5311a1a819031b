"""Mixed precision: autocast for the forward pass, loss scaling for fp16."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from alexnet._runtime.devices import Precision, choose_precision


class MixedPrecision:
    """fp32, bf16 by autocast, or fp16 by autocast with a scaled loss; weights and velocity stay in fp32."""

    def __init__(self, precision: Precision, device: torch.device) -> None:
        precision = choose_precision(precision, device)
        self.dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self.dtype_of_views = torch.bfloat16 if self.dtype == torch.bfloat16 else torch.float32
        """What the network is fed: conv1 would round to bf16 itself, from twice the memory."""
        self.device = device
        self.scale = 2.0**16 if precision == "fp16" else 1.0
        """What the loss is multiplied by, so that small gradients do not vanish in fp16."""
        self.steps_since_overflow = 0
        self.everywhere: Callable[[bool], bool] = lambda finite: finite
        """Whether something holds in all processes of a run, where each sees some of the gradients."""

    def autocast(self) -> AbstractContextManager[object]:
        """What the forward pass runs under."""
        return torch.autocast(self.device.type, self.dtype) if self.dtype else nullcontext()

    def gradients_are_finite(self, parameters: list[nn.Parameter]) -> bool:
        """Undo the scaling of the loss; False where it overflowed, and the step must be left out.

        The scale is halved at an overflow and doubled after 2,000 steps without one, as torch's GradScaler has it.
        """
        if self.dtype != torch.float16:
            return True
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_div_(gradients, self.scale)
        finite = self.everywhere(all(bool(torch.isfinite(gradient).all()) for gradient in gradients))
        self.steps_since_overflow = self.steps_since_overflow + 1 if finite else 0
        if not finite:
            self.scale /= 2
        elif self.steps_since_overflow % 2000 == 0:
            self.scale *= 2
        return finite
