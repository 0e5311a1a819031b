"""One training step: forward, backward, update (§5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet.data.mixing import MixedLabels
from alexnet.training.optimizer import SGD
from alexnet.training.precision import MixedPrecision


def train_step(
    network: nn.Module, optimizer: SGD, views_NCHW: Tensor, labels_N: Tensor, rate: float, precision: MixedPrecision,
    conv1_rate: float | None = None, batch_fraction: float = 1.0, update: bool = True,
    class_weights_K: Tensor | None = None, mixed: MixedLabels | None = None,
) -> tuple[Tensor, Tensor]:
    """Train on one batch, or on one micro-batch of it: `SGD.begin_step` and `compute_step`."""
    optimizer.begin_step(rate, conv1_rate)
    return compute_step(network, optimizer, views_NCHW, labels_N, precision, batch_fraction, update, class_weights_K,
                        mixed)


def compute_step(
    network: nn.Module, optimizer: SGD, views_NCHW: Tensor, labels_N: Tensor, precision: MixedPrecision,
    batch_fraction: float = 1.0, update: bool = True, class_weights_K: Tensor | None = None,
    mixed: MixedLabels | None = None,
) -> tuple[Tensor, Tensor]:
    """Train on one batch, or on one micro-batch of it, at the optimizer's learning rates.

    Args:
        network: views -> logits NK.
        optimizer: of its parameters, with the rates of this step.
        views_NCHW: network inputs, from `Preprocess.training_views`.
        labels_N: int64 class numbers.
        batch_fraction: this micro-batch's fraction of the global batch.
        update: whether to update the weights; False until a batch's last micro-batch: gradients add up.
        mixed: the second labels of mixed views. A view's loss is the weighted mean of those of its two labels.

    Returns:
        The mean loss in nats and the number of wrong predictions, both still on the device. A prediction for a mixed
        view is wrong if it is not the label of larger weight.
    """
    with precision.autocast(), optimizer.in_forward():
        logits_NK = network(views_NCHW)

    def losses(of_N: Tensor) -> Tensor:
        loss_N = F.cross_entropy(
            logits_NK.float(), of_N, label_smoothing=optimizer.recipe.label_smoothing, reduction="none")
        return loss_N if class_weights_K is None else loss_N * class_weights_K[of_N]

    main_labels_N = labels_N
    if mixed is None:
        loss = losses(labels_N).mean()
    else:
        partner_N, weight_N = mixed.partner_labels_N, mixed.weight_N
        loss = (weight_N * losses(labels_N) + (1 - weight_N) * losses(partner_N)).mean()
        main_labels_N = torch.where(weight_N >= 0.5, labels_N, partner_N)
    (loss * (precision.scale * batch_fraction)).backward()
    if update:
        if precision.gradients_are_finite(optimizer.parameters):
            optimizer.update()
        optimizer.zero_grad()
    return loss.detach(), (logits_NK.argmax(1) != main_labels_N).sum()
