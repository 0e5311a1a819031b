"""Activations and gradients inside a network: saturated and dead units, effective rank, update ratios (§3.1, §5).

`inspect_activations` runs batches forward and backward and leaves the network as it was. `ActivationProbe` measures the
cheap part during a training step. `health.py` turns the measurements into findings.

Shapes: N images, U units or maps, P positions in a map (1 in a fully connected layer).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet.architecture.recipe import Recipe
from alexnet.data.loader import CPU, batches
from alexnet.data.packed import PackedSplit
from alexnet.data.preprocessing import Preprocess
from alexnet.errors import require
from alexnet.models.alexnet import AlexNet
from alexnet.models.hooks import captured_outputs, on_outputs

FLAT_SLOPE = 0.05
"""A tanh or sigmoid is saturated where its slope is below this fraction of its largest slope. A ReLU's slope is 1 or 0,
so its saturated values are its zeros."""

SAMPLE = 20_000
"""Values of a layer that its histogram counts, about."""

ROWS = 512
"""Images, at most, whose activations give a layer's effective rank."""


def saturated(outputs: Tensor, activation: str) -> Tensor:
    """Mark the outputs where the activation is almost flat: tanh beyond 0.975, sigmoid below 0.013 or above 0.987."""
    if activation == "tanh":
        return 1 - outputs**2 < FLAT_SLOPE
    if activation == "sigmoid":
        return outputs * (1 - outputs) < FLAT_SLOPE / 4
    return outputs == 0


# --- The report -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Histogram:
    """Counts in bins of equal width."""

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Units:
    """Measurements of an activation layer."""

    layer: str
    saturated: float
    """Fraction of all values that are saturated."""
    dead: float
    """Fraction of units that are saturated for every image, at every position."""
    mean: float
    deviation: float
    rank: float
    """Effective rank over the images: e to the entropy of the fractions of variance along principal axes."""
    max_rank: int
    """The largest possible rank: the number of units, or of images minus one."""
    values: Histogram
    gradient: float
    """Root mean square of the loss's gradient with respect to the outputs, per image."""


@dataclass(frozen=True)
class Weights:
    """Measurements of a convolution or fully connected layer."""

    layer: str
    weight: float
    """Mean absolute weight, as cuda-convnet printed it."""
    update: float
    """Mean absolute change of a weight in a step."""
    gradient: float
    """Root mean square of the loss's gradient with respect to the weights."""
    gradients: Histogram
    """Of log10 of the absolute gradients, without zeros."""

    @property
    def ratio(self) -> float:
        """Update over weight; about a thousandth in a network that learns well."""
        return self.update / self.weight if self.weight else math.inf


@dataclass(frozen=True)
class ActivationReport:
    """Measurements of a network over some batches."""

    images: int
    loss: float
    top1_wrong: int
    """Images that were misclassified, as the network is in training: augmented, and with dropout."""
    largest_class: int
    """Images of the class that has most of them."""
    units: tuple[Units, ...]
    weights: tuple[Weights, ...]

    @property
    def top1_error(self) -> float:
        """A fraction."""
        return self.top1_wrong / self.images

    def to_json(self) -> dict[str, object]:
        """All fields, `top1_error`, and `ratio` of each layer with weights."""
        tree = asdict(self) | {"top1_error": self.top1_error}
        for layer, measured in zip(tree["weights"], self.weights, strict=True):
            layer["ratio"] = measured.ratio
        return tree


# --- Measuring a network ----------------------------------------------------------------------------------------------


def inspect_activations(
    network: AlexNet, examples: Iterable[tuple[Tensor, Tensor]], *, rate: float, decay: float = 0.0,
    output_decay_factor: float = 1.0,
) -> ActivationReport:
    """Run batches forward and backward, as in training, and measure units, gradients and the update.

    Weights, batch-norm statistics and the network's mode stay as they were. Dropout draws from torch's generator.

    Args:
        network: the network.
        examples: batches of views [N, 3, crop, crop] and labels [N].
        rate: learning rate of the update that the mean gradient over all batches would make, without momentum.
        decay: weight decay of that update.
        output_decay_factor: what it is multiplied by in the output layer.

    Raises:
        UserError: there are no images.
    """
    names = network.activation_names()
    statistics = {name: _UnitStatistics(network.arch.activation) for name in names}
    mode, buffers = network.training, {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.train()
    network.zero_grad()
    count, loss_sum, wrong = 0, 0.0, 0
    of_class_K = torch.zeros(network.arch.classes, dtype=torch.long)
    try:
        for views_NCHW, labels_N in examples:
            with captured_outputs(network, names, retain_grad=True) as captured:
                logits_NK = network(views_NCHW).float()
                loss = F.cross_entropy(logits_NK, labels_N, reduction="sum")
                loss.backward()
            for name, outputs in captured.items():
                assert outputs.grad is not None
                statistics[name].add(outputs.detach().float(), outputs.grad.float())
            count += len(labels_N)
            loss_sum += float(loss.detach())
            wrong += int((logits_NK.argmax(1) != labels_N).sum())
            of_class_K += torch.bincount(labels_N.cpu(), minlength=network.arch.classes)
        require(count > 0, "there are no images to measure activations on")
        *hidden, output = network.weight_layers()
        weights = (*(_weights(name, layer, count, rate, decay) for name, layer in hidden),
                   _weights(*output, count, rate, decay * output_decay_factor))
    finally:
        network.zero_grad()
        network.train(mode)
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])  # the batches have changed batch norm's statistics
    units = tuple(layer.units(name) for name, layer in statistics.items())
    return ActivationReport(count, loss_sum / count, wrong, int(of_class_K.max()), units, weights)


def training_views(
    split: PackedSplit, preprocess: Preprocess, recipe: Recipe, images: int, *, seed: int = 0,
    lighting_CC: Tensor | None = None, label_map: Tensor | None = None, device: torch.device = CPU,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches for `inspect_activations`: views as the recipe makes them in training, but not mixed, and labels.

    Args:
        split: the images.
        preprocess: of the network.
        recipe: decides the augmentation and the batch size.
        images: how many; the last batch is not cut.
        seed: decides the images and the views.
        lighting_CC: as for `Preprocess.training_views`.
        label_map: from the data's classes to the network's; default: they are the same.
        device: where the batches will be.
    """
    epoch, count = 10**6, 0  # an epoch that training does not reach
    for batch in batches(split, min(recipe.batch_size, images), shuffle=(seed, epoch), device=device):
        labels_N = batch.labels_N if label_map is None else label_map.to(device)[batch.labels_N]
        yield preprocess.training_views(batch.pixels, batch.indices, recipe, seed, epoch, lighting_CC), labels_N
        count += len(labels_N)
        if count >= images:
            return


class _UnitStatistics:
    """Running statistics of one activation layer over the batches."""

    def __init__(self, activation: str) -> None:
        self.activation = activation
        self.values = self.saturated = 0
        self.sum = self.squares = self.gradient = 0.0
        self.dead_U: Tensor | None = None
        self.samples: list[Tensor] = []
        self.rows: list[Tensor] = []

    def add(self, outputs: Tensor, gradient: Tensor) -> None:
        """Add a batch's outputs [N, U] or [N, U, H, W], and the loss's gradient with respect to them."""
        flat = saturated(outputs, self.activation)
        self.values += outputs.numel()
        self.saturated += int(flat.sum())
        self.sum += float(outputs.double().sum())
        self.squares += float((outputs.double() ** 2).sum())
        self.gradient += float((gradient.double() ** 2).sum())
        dead_U = _always(flat)
        self.dead_U = dead_U if self.dead_U is None else self.dead_U & dead_U
        self.samples.append(outputs.flatten()[:: max(1, outputs.numel() // SAMPLE)])
        # Another position of the maps for each image, so that no single position stands for all.
        outputs_NUP = outputs.flatten(2) if outputs.ndim == 4 else outputs[..., None]
        image = torch.arange(len(outputs), device=outputs.device)
        self.rows.append(outputs_NUP[image, :, (image * 7919) % outputs_NUP.shape[2]])

    def units(self, name: str) -> Units:
        """The measurements of the layer of that name."""
        mean = self.sum / self.values
        rows_NU = torch.cat(self.rows)[:ROWS]
        assert self.dead_U is not None
        return Units(
            name, self.saturated / self.values, float(self.dead_U.float().mean()), mean,
            math.sqrt(max(0.0, self.squares / self.values - mean**2)), effective_rank(rows_NU),
            min(rows_NU.shape[1], len(rows_NU) - 1), histogram(torch.cat(self.samples)),
            math.sqrt(self.gradient / self.values))


def _always(flat: Tensor) -> Tensor:
    """Which units are saturated for every image and position: bool [U] from [N, U] or [N, U, H, W]."""
    return flat.transpose(0, 1).flatten(1).all(1)


def effective_rank(rows_NU: Tensor) -> float:
    """e ^ entropy of the fractions of variance along the principal axes; NaN if a value is not finite.

    1 if all rows lie on a line, U if all axes have the same variance.
    """
    if not rows_NU.isfinite().all():
        return math.nan
    variance = torch.linalg.svdvals((rows_NU - rows_NU.mean(0)).double()) ** 2
    if not float(variance.sum()):
        return 0.0
    fraction = variance / variance.sum()
    return float(torch.special.entr(fraction).sum().exp())


def histogram(values: Tensor, bins: int = 40) -> Histogram:
    """Count the finite values between the lowest and the highest."""
    values = values[values.isfinite()].float().cpu()
    if not len(values):
        return Histogram(0.0, 0.0, (0,) * bins)
    low, high = float(values.min()), float(values.max())
    counts = torch.histc(values, bins, low, high) if low < high else torch.tensor([len(values)] + [0] * (bins - 1))
    return Histogram(low, high, tuple(int(count) for count in counts))


def _weights(name: str, layer: nn.Conv2d | nn.Linear, count: int, rate: float, decay: float) -> Weights:
    weight = layer.weight.detach()
    gradient = torch.zeros_like(weight) if layer.weight.grad is None else layer.weight.grad / count
    sizes = gradient.abs().flatten()[:: max(1, gradient.numel() // SAMPLE)]
    return Weights(
        name, float(weight.abs().mean()), rate * float((gradient + decay * weight).abs().mean()),
        float(gradient.double().pow(2).mean().sqrt()), histogram(sizes[sizes > 0].log10()))


# --- Measuring during training ----------------------------------------------------------------------------------------


class Signals(TypedDict):
    """Layer -> measurement of one training step."""

    saturated: dict[str, float]
    dead: dict[str, float]
    ratio: dict[str, float]
    """Mean absolute update over mean absolute weight."""


class ActivationProbe:
    """Measures a training step: saturated and dead fractions of each activation layer, and update over weight.

        with ActivationProbe(network) as probe:
            train_step(...)
        probe.signals()
    """

    def __init__(self, network: AlexNet) -> None:
        self.network = network
        self._fractions: dict[str, tuple[Tensor, Tensor]] = {}
        self._hooks = ExitStack()

    def __enter__(self) -> ActivationProbe:
        self._before = {name: layer.weight.detach().clone() for name, layer in self.network.weight_layers()}
        self._hooks.enter_context(on_outputs(self.network, self.network.activation_names(), self._measure))
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.close()

    def _measure(self, name: str, outputs: Tensor) -> None:
        flat = saturated(outputs.detach(), self.network.arch.activation)
        self._fractions[name] = flat.float().mean(), _always(flat).float().mean()

    def signals(self) -> Signals:
        """The measurements. Reading them waits for the device."""
        ratio = {}
        for name, layer in self.network.weight_layers():
            before = self._before[name]
            ratio[name] = float((layer.weight.detach() - before).abs().mean() / before.abs().mean().clamp(min=1e-30))
        return {"saturated": {name: float(saturated) for name, (saturated, _) in self._fractions.items()},
                "dead": {name: float(dead) for name, (_, dead) in self._fractions.items()}, "ratio": ratio}
