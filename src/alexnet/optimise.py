"""How weights change (§5): the update rule, the arithmetic it runs in, and the rate over time. Knows no data."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from alexnet import kernels
from alexnet.config import Recipe

Precision = Literal["fp32", "bf16", "fp16"]


def choose_precision(wanted: str, device: torch.device | str) -> Precision:
    """auto: bf16 where the device has instructions for it, fp32 elsewhere.

    A processor without them can do bf16 in several instructions each, slower than fp32.
    Raises ValueError for fp16 on a CPU, which has neither the instructions nor the range.
    """
    kind = torch.device(device).type
    if wanted == "fp16" and kind == "cpu":
        raise ValueError("fp16 on a CPU has no fast instructions and no range; use --precision bf16 or fp32")
    if wanted != "auto":
        if wanted not in get_args(Precision):
            raise ValueError(f"precision {wanted!r} must be auto, {', '.join(get_args(Precision))}")
        return cast(Precision, wanted)
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if kind == "cpu" and _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    """AVX-512 BF16 or AMX on x86; on Arm, what oneDNN says."""
    if platform.machine() in ("x86_64", "AMD64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Momentum:
    """Gradient descent with momentum and weight decay, by §5's rule or PyTorch's (`Recipe.rate_in_velocity`).

    §5, with the rate eps inside the velocity, so that after a drop of eps old velocity keeps its old rate:
        v <- 0.9 v - 0.0005 eps w - eps dL/dw;   w <- w + v
    PyTorch, with the rate outside:
        v <- 0.9 v + dL/dw + 0.0005 w;           w <- w - eps v
    With `Recipe.trust` the rate of each kernel and matrix is LARS's, and the momentum the first of the two.
    anew: layers that learn at `Recipe.new_rate` times the rate, since they begin anew in a network that does not.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, anew: Collection[nn.Module] = ()) -> None:
        self.recipe = recipe
        named = {name: p for name, p in network.named_parameters() if p.requires_grad}  # the others are frozen
        self.parameters = list(named.values())
        self.velocity = {name: torch.zeros_like(parameter) for name, parameter in named.items()}
        convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
        conv1 = {id(parameter) for layer in convolutions[:1] for parameter in layer.parameters()}
        new = {id(parameter) for layer in anew for parameter in layer.parameters()}
        self.squares: Callable[[list[str], Tensor], Tensor] = lambda names, own_PT: own_PT
        """Sums of squares of whole tensors, from those of what is here of each, where a network is shared out."""
        self._groups: dict[tuple[float, float, bool, bool], tuple[list[str], list[Tensor], list[Tensor]]] = {}
        for name, parameter in named.items():
            # Vectors are biases, or batch norm's scales and shifts; kernels and matrices are the weights.
            bias = parameter.ndim == 1
            factor = (recipe.bias_rate if bias else 1.0) * (recipe.new_rate if id(parameter) in new else 1.0)
            decay = recipe.weight_decay if recipe.decay_biases or not bias else 0.0
            adaptive = recipe.trust > 0 and not bias
            names, w, v = self._groups.setdefault((factor, decay, id(parameter) in conv1, adaptive), ([], [], []))
            names.append(name)
            w.append(parameter)
            v.append(self.velocity[name])

    @torch.no_grad()
    def step(self, rate: float, conv1_rate: float | None = None) -> None:
        """One update of every parameter from its gradient. conv1_rate: of the first convolution, where it differs.

        A rate of 0 leaves weights as they are, velocity or not, as cuda-convnet had it.
        """
        recipe = self.recipe
        for (factor, decay, in_conv1, adaptive), (names, w, v) in self._groups.items():
            eps = factor * (rate if conv1_rate is None or not in_conv1 else conv1_rate)
            if eps == 0:
                continue
            g = [p.grad for p in w if p.grad is not None]
            rates = self._layers_own(names, w, g, eps, decay) if adaptive else [eps] * len(w)
            if all(map(kernels.updates, w, v, g)):
                for one, own in zip(zip(w, v, g, strict=True), rates, strict=True):
                    kernels.update(*one, momentum=recipe.momentum, decay=decay, rate=own,
                                   rate_in_velocity=recipe.rate_in_velocity, nesterov=recipe.nesterov)
            elif adaptive:
                for one_w, one_v, one_g, own in zip(w, v, g, rates, strict=True):
                    self._update([one_w], [one_v], [one_g], own, decay)
            else:
                self._update(w, v, g, eps, decay)

    def _update(self, w: list[Tensor], v: list[Tensor], g: list[Tensor], eps: float, decay: float) -> None:
        """The rule, in torch's operators."""
        recipe = self.recipe
        torch._foreach_mul_(v, recipe.momentum)
        if recipe.rate_in_velocity:
            torch._foreach_add_(v, w, alpha=-decay * eps)
            torch._foreach_add_(v, g, alpha=-eps)
            torch._foreach_add_(w, v)
        else:
            torch._foreach_add_(g, w, alpha=decay)
            torch._foreach_add_(v, g)
            if recipe.nesterov:
                torch._foreach_add_(g, v, alpha=recipe.momentum)
            torch._foreach_add_(w, g if recipe.nesterov else v, alpha=-eps)

    def _layers_own(self, names: list[str], w: list[Tensor], g: list[Tensor], eps: float, decay: float) -> list[float]:
        """LARS (arXiv 1708.03888): each tensor's rate, by the size of its weights over that of its gradient."""
        squares = torch.stack([torch.stack([one.square().sum() for one in kind]) for kind in (w, g)])
        weight_T, gradient_T = self.squares(names, squares).sqrt()
        own_T = eps * self.recipe.trust * weight_T / (gradient_T + decay * weight_T)
        return torch.where((weight_T > 0) & (gradient_T > 0), own_T, eps).tolist()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None


class Arithmetic:
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


@dataclass
class Plateau:
    """§5: the rate was divided by 10 when the validation error stopped improving. There by hand, here by this rule."""

    best: float = math.inf
    waited: int = 0
    drops: int = 0

    def see(self, error: float, recipe: Recipe) -> None:
        """Take note of an epoch's validation error; after `patience` epochs without a better one, drop the rate."""
        if error < self.best:
            self.best, self.waited = error, 0
            return
        self.waited += 1
        if self.waited >= recipe.patience and self.drops < recipe.drops:
            self.drops, self.waited = self.drops + 1, 0


def learning_rate(recipe: Recipe, epochs_done: float, plateau_drops: int = 0) -> float:
    """The rate at a moment, counted in epochs from the start; a step's own moment is its middle."""
    share = min(1.0, epochs_done / recipe.epochs)
    warm = min(1.0, epochs_done / recipe.warmup_epochs) if recipe.warmup_epochs else 1.0
    factors = {
        "constant": 1.0,
        "plateau": recipe.drop_factor**-plateau_drops,
        "steps": recipe.drop_factor ** -sum(epochs_done >= epoch for epoch in recipe.drop_epochs),
        # owt: four equal stretches, by drop_factor in all.
        "exponential": recipe.drop_factor ** -(min(recipe.drops, int(share * (recipe.drops + 1))) / recipe.drops),
        "cosine": (1 + math.cos(math.pi * share)) / 2,
        "linear": 1 - share,
        "poly": (1 - share) ** 2,  # LARS
    }
    return recipe.rate * warm * factors[recipe.schedule]


def conv1_rate(recipe: Recipe, epochs_done: float, rate: float) -> float:
    """The first convolution's rate when the others' is `rate`: code2012 slowed it late, and then stopped it."""
    if recipe.conv1_stops and epochs_done >= recipe.conv1_stops:
        return 0.0
    return min(rate, 1e-5) if recipe.conv1_slows and epochs_done >= recipe.conv1_slows else rate
