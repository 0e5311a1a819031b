"""How weights change (§5): the update rule, the arithmetic it runs in, and the rate over time. Knows no data."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from alexnet._runtime import kernels
from alexnet.architecture.recipe import Recipe


class SGD:
    """Gradient descent with momentum and weight decay, by §5's rule or PyTorch's (`Recipe.lr_in_velocity`).

    §5, with the rate eps inside the velocity, so that after a drop of eps old velocity keeps its old rate:
        v <- 0.9 v - 0.0005 eps w - eps dL/dw;   w <- w + v
    PyTorch, with the rate outside:
        v <- 0.9 v + dL/dw + 0.0005 w;           w <- w - eps v
    With `Recipe.trust` the rate of each kernel and matrix is LARS's, and the momentum the first of the two.
    anew: layers that learn at `Recipe.new_layer_lr_factor` times the rate, since they begin anew in a network that does not.
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
            factor = (recipe.bias_lr_factor if bias else 1.0) * (recipe.new_layer_lr_factor if id(parameter) in new else 1.0)
            decay = recipe.weight_decay if recipe.decay_biases or not bias else 0.0
            adaptive = recipe.lars_trust > 0 and not bias
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
            if all(map(kernels.supports_sgd, w, v, g)):
                for one, own in zip(zip(w, v, g, strict=True), rates, strict=True):
                    kernels.sgd_update(*one, momentum=recipe.momentum, weight_decay=decay, learning_rate=own,
                                       lr_in_velocity=recipe.lr_in_velocity, nesterov=recipe.nesterov)
            elif adaptive:
                for one_w, one_v, one_g, own in zip(w, v, g, rates, strict=True):
                    self._update([one_w], [one_v], [one_g], own, decay)
            else:
                self._update(w, v, g, eps, decay)

    def _update(self, w: list[Tensor], v: list[Tensor], g: list[Tensor], eps: float, decay: float) -> None:
        """The rule, in torch's operators."""
        recipe = self.recipe
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

    def _layers_own(self, names: list[str], w: list[Tensor], g: list[Tensor], eps: float, decay: float) -> list[float]:
        """LARS (arXiv 1708.03888): each tensor's rate, by the size of its weights over that of its gradient."""
        squares = torch.stack([torch.stack([one.square().sum() for one in kind]) for kind in (w, g)])
        weight_T, gradient_T = self.squares(names, squares).sqrt()
        own_T = eps * self.recipe.lars_trust * weight_T / (gradient_T + decay * weight_T)
        return torch.where((weight_T > 0) & (gradient_T > 0), own_T, eps).tolist()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None
