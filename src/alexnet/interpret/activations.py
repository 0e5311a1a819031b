"""Looks into a network at work, and names what is wrong: units that saturate or die, updates, a stuck loss. (§3.1, §5)

`look` runs batches forward and backward and changes nothing. `ActivationProbe` takes the cheap part of it from a training step
that happens anyway. `verdicts` says in words what either saw, with the remedy.

Shapes: N images, U units or maps, P places of a map (1 in a fully connected layer).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet.architecture.recipe import Recipe
from alexnet.data.loader import CPU, batches
from alexnet.data.packed import PackedSplit
from alexnet.data.preprocessing import Preprocess
from alexnet.models.alexnet import AlexNet

if TYPE_CHECKING:
    pass


FLAT = 0.05
"""A unit is saturated where its slope is below this share of the greatest that its function has. (A ReLU's slope is 1
or 0, so its saturated values are its zeros.)"""

SAMPLE = 20_000
"""Values of a layer that make its histogram."""

ROWS = 512
"""Images, at most, whose activations make a layer's effective rank."""


def saturated(outputs: Tensor, activation: str) -> Tensor:
    """Which outputs lie where the function is almost flat: tanh beyond 0.975, sigmoid below 0.013 or above 0.987."""
    if activation == "tanh":
        return 1 - outputs**2 < FLAT
    if activation == "sigmoid":
        return outputs * (1 - outputs) < FLAT / 4
    return outputs == 0


# --- What is seen -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Histogram:
    """Counts of values between edges of equal distance."""

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Units:
    """What an activation layer gave."""

    layer: str
    saturated: float
    """Share of all values."""
    dead: float
    """Share of units that were saturated for every image and place."""
    mean: float
    deviation: float
    rank: float
    """Effective rank over the images: e to the entropy of the shares of variance along principal axes."""
    most: int
    """What the rank can be at the most: units, or images less one."""
    values: Histogram
    gradient: float
    """Root mean square of the loss's gradient by these outputs, for one image."""


@dataclass(frozen=True)
class Weights:
    """A convolution or fully connected layer, and what a step would do to it."""

    layer: str
    weight: float
    """Mean size of a weight, as cuda-convnet printed it."""
    update: float
    """Mean size of a step's change."""
    gradient: float
    """Root mean square of the loss's gradient by the weights."""
    gradients: Histogram
    """Of the logarithms to base 10 of the gradients' sizes; zeros are left out."""

    @property
    def ratio(self) -> float:
        """Update to weight; about a thousandth in a network that learns well."""
        return self.update / self.weight if self.weight else math.inf


@dataclass(frozen=True)
class ActivationReport:
    """Everything that was seen of a network over some batches."""

    images: int
    loss: float
    units: tuple[Units, ...]
    weights: tuple[Weights, ...]

    def to_json(self) -> dict[str, Any]:
        tree = asdict(self)
        for layer, own in zip(tree["weights"], self.weights, strict=True):
            layer["ratio"] = own.ratio
        return tree


def inspect_activations(
    network: AlexNet, shows: Iterable[tuple[Tensor, Tensor]], *, rate: float, decay: float = 0.0,
) -> ActivationReport:
    """Run batches of (views [N, 3, crop, crop], labels [N]) forward and backward, as in training; tell what is seen.

    rate, decay: of the update that the mean gradient over all the batches would make, without momentum.
    Weights, statistics of batch norm and the network's mode stay as they were; dropout draws from torch's generator.
    """
    activation = network.arch.activation
    names = [name for name in network.layer_names() if name.startswith(activation)]
    tallies = {name: _Tally() for name in names}
    mode, buffers = network.training, {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.train()
    network.zero_grad()
    count, loss_sum = 0, 0.0
    try:
        for views_NCHW, labels_N in shows:
            with _outputs(network, names) as seen:
                loss = F.cross_entropy(network(views_NCHW).float(), labels_N, reduction="sum")
                loss.backward()
            for name, (outputs,) in seen.items():
                assert outputs.grad is not None
                tallies[name].add(outputs.detach().float(), outputs.grad.float(), activation)
            count += len(labels_N)
            loss_sum += float(loss.detach())
        if not count:
            raise ValueError("there is no image to look at")
        weights = tuple(_weights(name, layer, count, rate, decay) for name, layer in network.weight_layers())
    finally:
        network.zero_grad()
        network.train(mode)
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])  # batch norm has seen these images, and forgets them
    return ActivationReport(count, loss_sum / count, tuple(tally.units(name) for name, tally in tallies.items()), weights)


def shown(
    split: PackedSplit, preprocess: Preprocess, way: Recipe, images: int, *, seed: int = 0,
    lighting_CC: Tensor | None = None, label_map: Tensor | None = None, device: torch.device = CPU,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches for `look`: so many images of a split, or one batch's rest more, as a recipe shows them in training.

    seed: decides which and what views. label_map: from the data's classes to the network's, where they differ.
    """
    epoch, seen = 10**6, 0  # one that training does not reach
    for batch in batches(split, min(way.batch_size, images), shuffle=(seed, epoch), device=device):
        labels_N = batch.labels_N if label_map is None else label_map.to(device)[batch.labels_N]
        yield preprocess.training_views(batch.pixels, batch.indices, way, seed, epoch, lighting_CC), labels_N
        seen += len(labels_N)
        if seen >= images:
            return


@contextmanager
def _outputs(network: AlexNet, names: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Within, what those layers give is kept, with its gradient once there is one."""
    seen: dict[str, list[Tensor]] = {name: [] for name in names}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            if output.requires_grad:
                output.retain_grad()
            seen[name].append(output)

        return hook

    hooks = [network.named_layer(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


class _Tally:
    """One activation layer over the batches."""

    def __init__(self) -> None:
        self.values = self.saturated = 0
        self.sum = self.squares = self.gradient = 0.0
        self.always: Tensor | None = None
        self.sample: list[Tensor] = []
        self.rows: list[Tensor] = []

    def add(self, outputs: Tensor, gradient: Tensor, activation: str) -> None:
        flat = saturated(outputs, activation)
        self.values += outputs.numel()
        self.saturated += int(flat.sum())
        self.sum += float(outputs.double().sum())
        self.squares += float((outputs.double() ** 2).sum())
        self.gradient += float((gradient.double() ** 2).sum())
        always_U = flat.transpose(0, 1).flatten(1).all(1)
        self.always = always_U if self.always is None else self.always & always_U
        self.sample.append(outputs.flatten()[:: max(1, outputs.numel() // SAMPLE)])
        # One place of each image's maps, another for the next, so that no place stands for all.
        places = outputs.flatten(2) if outputs.ndim == 4 else outputs[..., None]
        number = torch.arange(len(outputs), device=outputs.device)
        self.rows.append(places[number, :, (number * 7919) % places.shape[2]])

    def units(self, name: str) -> Units:
        mean = self.sum / self.values
        rows = torch.cat(self.rows)[:ROWS]
        assert self.always is not None
        return Units(
            name, self.saturated / self.values, float(self.always.float().mean()), mean,
            math.sqrt(max(0.0, self.squares / self.values - mean**2)), effective_rank(rows),
            min(rows.shape[1], len(rows) - 1), histogram(torch.cat(self.sample)),
            math.sqrt(self.gradient / self.values))


def effective_rank(rows_NU: Tensor) -> float:
    """e ^ entropy of the shares of variance along the principal axes: 1 if all lies on a line, U if all are alike; NaN
    where a value is none."""
    if not rows_NU.isfinite().all():
        return math.nan
    variance = torch.linalg.svdvals((rows_NU - rows_NU.mean(0)).double()) ** 2
    if not float(variance.sum()):
        return 0.0
    share = variance / variance.sum()
    return float(torch.special.entr(share).sum().exp())


def histogram(values: Tensor, bins: int = 40) -> Histogram:
    """Of finite values, between the lowest and the highest."""
    values = values[values.isfinite()].float().cpu()
    if not len(values):
        return Histogram(0.0, 0.0, (0,) * bins)
    low, high = float(values.min()), float(values.max())
    counts = torch.histc(values, bins, low, high) if low < high else torch.tensor([len(values)] + [0] * (bins - 1))
    return Histogram(low, high, tuple(int(one) for one in counts))


def _weights(name: str, layer: nn.Conv2d | nn.Linear, count: int, rate: float, decay: float) -> Weights:
    weight = layer.weight.detach()
    slope = torch.zeros_like(weight) if layer.weight.grad is None else layer.weight.grad / count
    sizes = slope.abs().flatten()[:: max(1, slope.numel() // SAMPLE)]
    return Weights(
        name, float(weight.abs().mean()), rate * float((slope + decay * weight).abs().mean()),
        float(slope.double().pow(2).mean().sqrt()), histogram(sizes[sizes > 0].log10()))


# --- A glimpse in training --------------------------------------------------------------------------------------------


class ActivationProbe:
    """The cheap part, taken from a step of training: saturated and dead shares, and update to weight.

        with Glimpse(network) as glimpse:
            train_step(...)
        glimpse.signals()
    """

    def __init__(self, network: AlexNet) -> None:
        self.network = network
        self.activation = network.arch.activation
        self.units: dict[str, tuple[Tensor, Tensor]] = {}

    def __enter__(self) -> ActivationProbe:
        self.before = {name: layer.weight.detach().clone() for name, layer in self.network.weight_layers()}
        names = [name for name in self.network.layer_names() if name.startswith(self.activation)]
        self.hooks = [self.network.named_layer(name).register_forward_hook(self._see(name)) for name in names]
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _see(self, name: str) -> Any:
        def hook(_: nn.Module, __: Any, outputs: Tensor) -> None:
            flat = saturated(outputs.detach(), self.activation)
            self.units[name] = flat.float().mean(), flat.transpose(0, 1).flatten(1).all(1).float().mean()

        return hook

    def signals(self) -> dict[str, dict[str, float]]:
        """`saturated` and `dead` of each activation layer, `ratio` of each layer with weights."""
        ratio = {}
        for name, layer in self.network.weight_layers():
            before = self.before[name]
            ratio[name] = float((layer.weight.detach() - before).abs().mean() / before.abs().mean().clamp(min=1e-30))
        return {"saturated": {name: float(one) for name, (one, _) in self.units.items()},
                "dead": {name: float(one) for name, (_, one) in self.units.items()}, "ratio": ratio}
