"""`train --head`: compute the features below the output layer once, then fit this layer by logistic regression.

All other layers are frozen, so an image's features never change: one pass over the images replaces the epochs of
fine-tuning, and the rest takes seconds. Shapes: N images, V views in all, D features, K classes.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet.architecture.recipe import Recipe
from alexnet.data.hold_out import deal_groups
from alexnet.data.loader import batches
from alexnet.errors import require
from alexnet.inference.logistic_regression import fit_logistic_regression
from alexnet.models.alexnet import AlexNet
from alexnet.models.provenance import HeadFit
from alexnet.training.trainer import Requests, Trainer

WEIGHT_DECAYS = (10.0, 1.0, 0.1, 0.01, 0.001, 0.0001)
"""Those that are tried, from the simplest model to the most flexible one. They act on standardized features."""

UNCHOSEN = 0.01
"""Weight decay where no class has enough images to hold one out."""

HELD_OUT = 5
"""One training image in so many of each class is held out to choose the weight decay."""

LARGEST_BYTES = 8e9
"""Most memory for the features."""


def require_output_layer_alone(network: AlexNet, recipe: Recipe, processes: int) -> None:
    """Raise UserError where the optimizer lbfgs cannot train: other layers, several epochs or processes."""
    last = network.layer_names()[-1]
    trained = [name for name, layer in network.weight_layers() if layer.weight.requires_grad]
    require(trained == [last], f"the optimizer lbfgs trains {last} alone, and {', '.join(trained)} are not frozen",
            "train with --head, which freezes all other layers")
    require(recipe.epochs == 1, f"the optimizer lbfgs trains in one pass, and recipe.epochs is {recipe.epochs}",
            "leave out --epochs with --head")
    require(processes == 1, "--head trains in one process", "start it without torchrun")


@dataclass
class HeadTrainer(Trainer):
    """A run of one epoch, which fits the output layer (`Recipe.optimizer` = lbfgs)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        recipe, last = self.spec.recipe, self.network.layer_names()[-1]
        require_output_layer_alone(self.network, recipe, self.processes.size)
        self.output = self.network.named_layer(last)
        assert isinstance(self.output, nn.Linear)
        self.views = 1 + recipe.mirror
        needed = 4 * self.views * len(self.training) * self.output.in_features
        require(needed <= LARGEST_BYTES, f"the features of {len(self.training):,} images in {self.views} views need "
                f"{needed / 1e9:.0f} GB", "set recipe.mirror=false for one view, or fine-tune with --freeze conv")

    def train_epoch(self) -> None:
        """Compute the features of all training images, and fit the output layer to them."""
        began = time.perf_counter()
        features_VD, image_V = self._features()
        self.state.step = self.steps_per_epoch
        labels_V = torch.from_numpy(self.training.labels)[image_V]
        held_V = torch.from_numpy(held_out(self.training.labels, self.training.groups))[image_V]
        fit = fit_output(features_VD, labels_V, held_V, self.spec.arch.classes, self.spec.recipe.weight_decay)
        assert isinstance(self.output, nn.Linear)
        with torch.no_grad():
            self.output.weight.copy_(fit.weight_KD)
            assert self.output.bias is not None
            self.output.bias.copy_(fit.bias_K)
            logits_VK = features_VD @ fit.weight_KD.T + fit.bias_K
        wrong = int((logits_VK.argmax(1) != labels_V).sum())
        self.state.count(len(labels_V), F.cross_entropy(logits_VK, labels_V).item(), wrong)
        head: HeadFit = {
            "features": self._features_layer(), "views": self.views, "weight_decay": fit.weight_decay,
            "held_out": int(held_V.sum()) // self.views, "held_out_errors": fit.held_out_errors,
            "seconds": round(time.perf_counter() - began, 1)}
        self.provenance["head"] = head
        self.spec = replace(self.spec, recipe=replace(self.spec.recipe, weight_decay=fit.weight_decay))
        self.log_event("head", step=self.state.step, images=len(self.training), **head)

    def _features_layer(self) -> str:
        """The layer whose outputs the output layer reads, but for dropout, which does nothing here."""
        return [name for name in self.network.layer_names()[:-1] if not name.startswith("dropout")][-1]

    @torch.inference_mode()
    def _features(self) -> tuple[Tensor, Tensor]:
        """What the output layer reads for each view: float32 [V, D], and each view's image: int64 [V]. On the CPU.

        The views are the center crop and, with `Recipe.mirror`, its mirror image.
        """
        kept: list[Tensor] = []
        images, done = [], 0
        hook = self.output.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0].float().cpu()))
        self.network.eval()
        try:
            with closing(batches(self.training, self.spec.recipe.batch_size, workers=self.spec.workers,
                                 device=self.device)) as source:
                for batch in source:
                    views = self.preprocess(batch.pixels)
                    for view in (views, views.flip(-1))[: self.views]:
                        self.network(view)
                        images.append(batch.indices)
                    done += len(batch.indices)
                    self.on_event({"event": "features", "done": done, "total": len(self.training)})
                    self._serve(Requests(stop=self.signals.pending))
        finally:
            hook.remove()
        return torch.cat(kept), torch.from_numpy(np.concatenate(images))


def held_out(labels_N: NDArray[np.int64], groups_N: NDArray[np.uint64] | None = None) -> NDArray[np.bool_]:
    """Mark every fifth image of each class, or about a fifth in whole groups if there are any: bool [N]."""
    if groups_N is not None:
        return np.array(deal_groups(groups_N.tolist(), labels_N.tolist(), HELD_OUT)) == 0
    held_N = np.zeros(len(labels_N), bool)
    for label in np.unique(labels_N):
        held_N[np.flatnonzero(labels_N == label)[HELD_OUT - 1 :: HELD_OUT]] = True
    return held_N


@dataclass(frozen=True)
class OutputFit:
    """A fitted output layer."""

    weight_KD: Tensor
    bias_K: Tensor
    weight_decay: float
    """On standardized features."""
    held_out_errors: dict[str, float]
    """Weight decay -> top-1 error on the held-out views; empty if it was given or could not be chosen."""


def fit_output(
    features_VD: Tensor, labels_V: Tensor, held_V: Tensor, classes: int, weight_decay: float = 0.0,
) -> OutputFit:
    """Fit softmax regression to features; choose the weight decay by the loss on held-out views, then use all views.

    Args:
        features_VD: float32.
        labels_V: int64.
        held_V: which views are held out to choose the weight decay.
        classes: K.
        weight_decay: 0: choose it.
    """
    mean_D, std_D = features_VD.mean(0), features_VD.std(0).clamp(min=1e-6)
    standard_VD = (features_VD - mean_D) / std_D
    errors: dict[str, float] = {}
    if not weight_decay:
        weight_decay = UNCHOSEN
        if held_V.any():
            losses: dict[float, float] = {}
            fitted = None
            for decay in WEIGHT_DECAYS:  # each starts where the one before ended
                fitted = fit_logistic_regression(
                    standard_VD[~held_V], labels_V[~held_V], classes, decay, start=fitted)
                logits = standard_VD[held_V] @ fitted[0].T + fitted[1]
                losses[decay] = F.cross_entropy(logits, labels_V[held_V]).item()
                errors[f"{decay:g}"] = (logits.argmax(1) != labels_V[held_V]).float().mean().item()
            weight_decay = min(losses, key=lambda decay: losses[decay])
    weight_KD, bias_K = fit_logistic_regression(standard_VD, labels_V, classes, weight_decay)
    weight_KD = weight_KD / std_D
    return OutputFit(weight_KD, bias_K - weight_KD @ mean_D, weight_decay, errors)
