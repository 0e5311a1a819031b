"""SGD with momentum and weight decay by the paper's rule (§5) or PyTorch's, and LARS (arXiv 1708.03888)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from alexnet._runtime import kernels
from alexnet._runtime.devices import to_device
from alexnet.architecture.recipe import Recipe
from alexnet.training.bf16_weights import Bf16Weights
from alexnet.training.schedule import bias_rate


@dataclass
class _Group:
    """Parameters with the same factors."""

    lr_factor: float
    decay: float
    conv1: bool
    bias: bool
    lars: bool
    names: list[str] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    velocity: list[Tensor] = field(default_factory=list)


class SGD:
    """Gradient descent with momentum and weight decay, by §5's rule or PyTorch's (`Recipe.lr_in_velocity`).

    §5, with the learning rate eps inside the velocity, so that old velocity keeps the rate it was made with:
        v <- 0.9 v - 0.0005 eps w - eps dL/dw;   w <- w + v
    PyTorch, with the rate outside:
        v <- 0.9 v + dL/dw + 0.0005 w;           w <- w - eps v
    With `Recipe.lars_trust`, LARS gives each kernel and matrix its own rate, and the rule is the first of the two.

    Args:
        network: whose parameters with `requires_grad` are trained.
        recipe: momentum, weight decay and the factors on the learning rate.
        new_layers: layers that learn at `Recipe.new_layer_lr_factor` times the rate: fine-tuning has drawn them anew.
        sum_squares: sums of squares of whole tensors, from (names, sums of this process's parts), for a network that is
            split over processes. Default: each process holds whole tensors.
        bf16_weights: copies of the network's parameters, which the update writes. Default: there are none.
    """

    def __init__(
        self, network: nn.Module, recipe: Recipe, new_layers: Collection[nn.Module] = (),
        sum_squares: Callable[[list[str], Tensor], Tensor] = lambda names, own_PT: own_PT,
        bf16_weights: Bf16Weights | None = None,
    ) -> None:
        self.recipe, self._sum_squares, self._bf16_weights = recipe, sum_squares, bf16_weights
        named = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self.parameters = list(named.values())
        self.velocity = {name: torch.zeros_like(parameter) for name, parameter in named.items()}
        convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
        outputs = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1:]
        output = {id(parameter) for layer in outputs for parameter in layer.parameters()}
        conv1 = {id(parameter) for layer in convolutions[:1] for parameter in layer.parameters()}
        new = {id(parameter) for layer in new_layers for parameter in layer.parameters()}
        groups: dict[tuple[float, float, bool, bool, bool], _Group] = {}
        for name, parameter in named.items():
            # Vectors are biases, or batch norm's scales and shifts; kernels and matrices are the weights.
            bias = parameter.ndim == 1
            factor = (recipe.bias_lr_factor if bias else 1.0) * (
                recipe.new_layer_lr_factor if id(parameter) in new else 1.0)
            decay = recipe.weight_decay if recipe.decay_biases or not bias else 0.0
            decay *= recipe.output_decay_factor if id(parameter) in output else 1.0
            key = factor, decay, id(parameter) in conv1, bias, recipe.lars_trust > 0 and not bias
            group = groups.setdefault(key, _Group(*key))
            group.names.append(name)
            group.weights.append(parameter)
            group.velocity.append(self.velocity[name])
        self._groups = list(groups.values())
        device = self.parameters[0].device if self.parameters else torch.device("cpu")
        self._rates_G: list[float] = []
        self._rates_G2 = torch.zeros(
            len(self._groups), 2, device=device, dtype=torch.float64 if device.type == "cpu" else torch.float32)
        self._rate_tensors = [tuple(row) for row in self._rates_G2]

    def step(self, rate: float, conv1_rate: float | None = None) -> None:
        """`begin_step` and `update`."""
        self.begin_step(rate, conv1_rate)
        self.update()

    def begin_step(self, rate: float, conv1_rate: float | None = None) -> None:
        """Set the learning rates of the next updates, on the device too, where a CUDA graph reads them.

        Copies of weights in bf16 that are out of date are made again.

        Args:
            rate: of the weights. That of biases follows by `schedule.bias_rate`.
            conv1_rate: of the first convolution's weights; None: the same.
        """
        rates = []
        for group in self._groups:
            weights_rate = rate if conv1_rate is None or not group.conv1 else conv1_rate
            rates.append(group.lr_factor * (bias_rate(self.recipe, weights_rate) if group.bias else weights_rate))
        if rates != self._rates_G:
            self._rates_G = rates
            numbers_G2 = torch.tensor([[eps, eps * self.recipe.lars_trust] for eps in rates],
                                      dtype=self._rates_G2.dtype)
            self._rates_G2.copy_(to_device(numbers_G2, self._rates_G2.device))
        if self._bf16_weights:
            self._bf16_weights.refresh()

    def in_forward(self) -> AbstractContextManager[object]:
        """The context of the forward pass, in which layers read the copies of weights in bf16, if there are any."""
        return self._bf16_weights.in_forward() if self._bf16_weights else nullcontext()

    @property
    def frozen_groups(self) -> tuple[bool, ...]:
        """Which groups of parameters `update` leaves as they are, since their rate is 0: it runs fewer kernels then."""
        return tuple(eps == 0 for eps in self._rates_G)

    @torch.no_grad()
    def update(self) -> None:
        """Update every parameter once from its gradient. A rate of 0 leaves weights as they are, as in cuda-convnet."""
        recipe = self.recipe
        if recipe.clip_norm:
            self._clip_gradients()
        fused: list[tuple[Tensor, Tensor, Tensor, Tensor, float]] = []  # by a kernel: w, v, g, rate, decay
        for group, eps, (rate, trusted_rate) in zip(self._groups, self._rates_G, self._rate_tensors, strict=True):
            if eps == 0:
                continue
            w, v, g = group.weights, group.velocity, [p.grad for p in group.weights if p.grad is not None]
            rates = self._lars_rates(group, g, rate, trusted_rate) if group.lars else [rate] * len(w)
            if all(map(kernels.supports_sgd, w, v, g)):
                fused += zip(w, v, g, rates, [group.decay] * len(w), strict=True)
            elif group.lars:
                for w_, v_, g_, tensor_rate in zip(w, v, g, torch.stack(rates).tolist(), strict=True):
                    self._update_in_torch([w_], [v_], [g_], tensor_rate, group.decay)
            else:
                self._update_in_torch(w, v, g, eps, group.decay)
        if fused:
            w, v, g, rates, decays = map(list, zip(*fused, strict=True))
            copies = self._bf16_weights.of(w) if self._bf16_weights else []
            kernels.sgd_update(w, v, g, rates, decays, copies, momentum=recipe.momentum,
                               lr_in_velocity=recipe.lr_in_velocity, nesterov=recipe.nesterov)

    def _clip_gradients(self) -> None:
        """Shorten the gradient of all parameters together to `Recipe.clip_norm`, if it is longer."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        squares_T = self._sum_squares(list(self.velocity), torch.stack([g.square().sum() for g in gradients]))
        norm = squares_T.sum().sqrt()
        torch._foreach_mul_(gradients, (self.recipe.clip_norm / (norm + 1e-12)).clamp(max=1.0))

    def _update_in_torch(self, w: list[Tensor], v: list[Tensor], g: list[Tensor], eps: float, decay: float) -> None:
        """The rule, in torch's operators, which take the rate as a number."""
        recipe = self.recipe
        if w[0].is_cuda and torch.cuda.is_current_stream_capturing():
            raise RuntimeError("a CUDA graph would replay the learning rate of the step that it recorded")
        torch._foreach_mul_(v, recipe.momentum)
        if recipe.lr_in_velocity:
            torch._foreach_add_(v, w, alpha=-decay * eps)
            torch._foreach_add_(v, g, alpha=-eps)
            torch._foreach_add_(w, v)
        else:
            torch._foreach_add_(g, w, alpha=decay)
            torch._foreach_add_(v, g)
            if recipe.nesterov:
                torch._foreach_add_(g, v, alpha=recipe.momentum)
            torch._foreach_add_(w, g if recipe.nesterov else v, alpha=-eps)

    def _lars_rates(
        self, group: _Group, gradients: list[Tensor], rate: Tensor, trusted_rate: Tensor,
    ) -> list[Tensor]:
        """Each tensor's rate: in proportion to the norm of its weights over that of its gradient.

        trusted_rate: rate times `Recipe.lars_trust`.
        """
        squares_2T = torch.stack([torch.stack([tensor.square().sum() for tensor in tensors])
                                  for tensors in (group.weights, gradients)])
        weight_T, gradient_T = self._sum_squares(group.names, squares_2T).sqrt()
        rate_T = trusted_rate * weight_T / (gradient_T + group.decay * weight_T)
        return list(torch.where((weight_T > 0) & (gradient_T > 0), rate_T, rate))

    def load_velocity(self, velocity: Mapping[str, Tensor]) -> None:
        """Go on with the velocity of a checkpoint."""
        for name, own in self.velocity.items():
            own.copy_(velocity[name])

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None
