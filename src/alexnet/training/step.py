"""One training step: forward, backward, update (§5)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from alexnet.training.optimizer import SGD
from alexnet.training.precision import MixedPrecision


def train_step(
    network: nn.Module, optimizer: SGD, views_NCHW: Tensor, labels_N: Tensor, rate: float, precision: MixedPrecision,
    conv1_rate: float | None = None, batch_fraction: float = 1.0, update: bool = True,
    class_weights_K: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Train on one batch, or on one micro-batch of it.

    Args:
        network: views -> logits NK.
        views_NCHW: network inputs, from `Preprocess.training_views`.
        labels_N: int64 class numbers.
        rate: the learning rate.
        conv1_rate: that of the first convolution; None: the same.
        batch_fraction: this micro-batch's fraction of the global batch.
        update: whether to update the weights; False until a batch's last micro-batch: gradients add up.

    Returns:
        The mean loss in nats and the number of wrong predictions, both still on the device.
    """
    with precision.autocast():
        logits_NK = network(views_NCHW)
    loss_N = F.cross_entropy(
        logits_NK.float(), labels_N, label_smoothing=optimizer.recipe.label_smoothing, reduction="none")
    loss = (loss_N if class_weights_K is None else loss_N * class_weights_K[labels_N]).mean()
    (loss * (precision.scale * batch_fraction)).backward()
    if update:
        if precision.gradients_are_finite(optimizer.parameters):
            optimizer.step(rate, conv1_rate)
        optimizer.zero_grad()
    return loss.detach(), (logits_NK.argmax(1) != labels_N).sum()
