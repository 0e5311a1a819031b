"""Mixed precision: autocast for the forward pass (bf16 or fp16), and loss scaling for fp16.

_runtime/devices.py chooses the precision of `--precision auto`, and says which devices have bf16 and fp16
(`choose_precision`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from alexnet._runtime.devices import Precision, choose_precision, compute_fp32_in_fp32


class MixedPrecision:
    """fp32, bf16 by autocast, or fp16 by autocast with a scaled loss; weights and velocity stay in fp32.

    Args:
        precision: fp32, bf16 or fp16.
        device: where the network trains.
        all_true: whether something holds in all processes, each of which may have some of the gradients.
            Default: there is one process.

    Raises:
        UserError: for fp16 on a CPU.
    """

    def __init__(
        self, precision: Precision, device: torch.device, all_true: Callable[[bool], bool] = lambda finite: finite,
    ) -> None:
        precision = choose_precision(precision, device)
        if device.type == "cuda":  # in bf16 and fp16 too: validation is in fp32
            compute_fp32_in_fp32()
        self.dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self.input_dtype = torch.bfloat16 if self.dtype == torch.bfloat16 else torch.float32
        """Of the network's input. In bf16, conv1 would round it anyway, from twice the memory."""
        self.device, self._all_true = device, all_true
        self.scale = 2.0**16 if precision == "fp16" else 1.0
        """Factor on the loss, so that small gradients do not vanish in fp16."""
        self.steps_since_overflow = 0

    def autocast(self) -> AbstractContextManager[object]:
        """The context of the forward pass."""
        return torch.autocast(self.device.type, self.dtype) if self.dtype else nullcontext()

    def gradients_are_finite(self, parameters: list[nn.Parameter]) -> bool:
        """Divide the gradients by the loss scale. False after an overflow, when the update must be skipped.

        The scale is halved at an overflow and doubled after 2,000 steps without one, as in torch's GradScaler.
        """
        if self.dtype != torch.float16:
            return True
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_div_(gradients, self.scale)
        own = [torch.isfinite(gradient).all() for gradient in gradients]
        finite = self._all_true(not own or bool(torch.stack(own).all()))  # waits for the device once
        self.steps_since_overflow = self.steps_since_overflow + 1 if finite else 0
        if not finite:
            self.scale /= 2
        elif self.steps_since_overflow % 2000 == 0:
            self.scale *= 2
        return finite

    def load_state(self, scale: float, steps_since_overflow: int) -> None:
        """Go on with the loss scale of a checkpoint."""
        self.scale, self.steps_since_overflow = scale, steps_since_overflow
