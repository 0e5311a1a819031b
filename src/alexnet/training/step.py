"""One training step: forward, backward, update (§5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet.data.mixing import MixedLabels
from alexnet.training.optimizer import SGD
from alexnet.training.precision import MixedPrecision


def train_step(
    network: nn.Module, optimizer: SGD, views_NCHW: Tensor, labels_N: Tensor, rate: float, precision: MixedPrecision, *,
    conv1_rate: float | None = None, batch_fraction: float = 1.0, update: bool = True,
    class_weights_K: Tensor | None = None, mixed: MixedLabels | None = None,
) -> tuple[Tensor, Tensor]:
    """Train on one batch, or on one micro-batch of it: forward, backward and, if wanted, an update of the weights.

    Args:
        network: network inputs NCHW -> logits NK.
        optimizer: of its parameters. Its recipe also has the label smoothing.
        views_NCHW: network inputs, from `Preprocess.training_views`.
        labels_N: int64 class numbers.
        rate: the learning rate of the weights; that of biases follows from it (`schedule.bias_rate`).
        precision: of the forward pass, and the factor on the loss in fp16.
        conv1_rate: the learning rate of the first convolution's weights. Default: `rate`.
        batch_fraction: this micro-batch's fraction of the global batch.
        update: whether to update the weights; False until a batch's last micro-batch: gradients add up.
        class_weights_K: what the loss of an image of each class is multiplied by (`class_weights`). Default: 1.
        mixed: the second labels of mixed views. A view's loss is the weighted mean of those of its two labels.

    Returns:
        The mean loss in nats and the number of wrong predictions, both still on the device. A prediction for a mixed
        view is wrong if it is not the label of larger weight.
    """
    optimizer.begin_step(rate, conv1_rate)
    return compute_step(network, optimizer, views_NCHW, labels_N, precision, batch_fraction=batch_fraction,
                        update=update, class_weights_K=class_weights_K, mixed=mixed)


def compute_step(
    network: nn.Module, optimizer: SGD, views_NCHW: Tensor, labels_N: Tensor, precision: MixedPrecision, *,
    batch_fraction: float = 1.0, update: bool = True, class_weights_K: Tensor | None = None,
    mixed: MixedLabels | None = None,
) -> tuple[Tensor, Tensor]:
    """`train_step` at the learning rates that the optimizer has: all of it that a CUDA graph can record."""
    with precision.autocast(), optimizer.in_forward():
        logits_NK = network(views_NCHW)

    def losses(targets_N: Tensor) -> Tensor:
        loss_N = F.cross_entropy(
            logits_NK.float(), targets_N, label_smoothing=optimizer.recipe.label_smoothing, reduction="none")
        return loss_N if class_weights_K is None else loss_N * class_weights_K[targets_N]

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
