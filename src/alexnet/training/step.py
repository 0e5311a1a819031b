"""The training step: forward, backward, update (§5)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from alexnet.training.optimizer import SGD
from alexnet.training.precision import MixedPrecision

# --- The step ---------------------------------------------------------------------------------------------------------


def train_step(
    network: nn.Module, optimizer: SGD, views_NCHW: Tensor, labels_N: Tensor, rate: float, arithmetic: MixedPrecision,
    conv1_rate: float | None = None, share: float = 1.0, last: bool = True,
) -> tuple[Tensor, Tensor]:
    """Forward, backward, update. Returns the batch's mean loss and its number of wrong guesses, on the device.

    share: of the global batch that these images are, where the rest is elsewhere, or at another time.
    last: whether no more of the batch is to come here. Until then gradients add up.
    """
    with arithmetic.autocast():
        logits_NK = network(views_NCHW)
    loss = F.cross_entropy(logits_NK.float(), labels_N, label_smoothing=optimizer.recipe.label_smoothing)
    (loss * (arithmetic.scale * share)).backward()
    if last:
        if arithmetic.gradients_are_finite(optimizer.parameters):
            optimizer.step(rate, conv1_rate)
        optimizer.zero_grad()
    return loss.detach(), (logits_NK.argmax(1) != labels_N).sum()
