"""Multinomial logistic regression (softmax regression) on features by L-BFGS, for `train --head` and `check --run`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def fit_logistic_regression(
    features_ND: Tensor, labels_N: Tensor, classes: int, weight_decay: float, *, iterations: int = 200,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Minimize the mean cross-entropy plus weight_decay / 2 times the sum of the squared weights.

    Args:
        features_ND: float32, of similar scales.
        labels_N: int64.
        classes: their number, K.
        weight_decay: strength of the penalty. The bias has none.
        iterations: L-BFGS steps, at most.
        start: weights and bias to start from; default: zeros.

    Returns:
        Weights [K, D] and bias [K]: the logits are features @ weights.T + bias.
    """
    weight_KD, bias_K = start or (torch.zeros(classes, features_ND.shape[1]), torch.zeros(classes))
    weight_KD, bias_K = weight_KD.clone().requires_grad_(), bias_K.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight_KD, bias_K], max_iter=iterations, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(features_ND @ weight_KD.T + bias_K, labels_N)
        loss = loss + weight_decay / 2 * weight_KD.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(objective)
    return weight_KD.detach(), bias_K.detach()
