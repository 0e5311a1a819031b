"""Re-estimate batch normalization's means and variances on given images, at the scale of evaluation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from alexnet.models.alexnet import AlexNet


@torch.no_grad()
def reestimate_batch_norm(network: AlexNet, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of every batch normalization by their means over batches of network inputs.

    A network that was trained on smaller views than it is evaluated on (`Recipe.train_crop`) has statistics of those
    views; on the larger center crops they are wrong, and cost it accuracy (arXiv 1906.06423, section 4). Dropout stays
    off. Other weights do not change.

    Args:
        batches: network inputs, [N, 3, crop, crop]; batches of equal size, each of at least 2 images.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]  # also that of many processes
    was_training, momenta = network.training, [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch then averages over all batches with equal weights
        norm.train()
    for views_NCHW in batches:
        network(views_NCHW)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(was_training)
