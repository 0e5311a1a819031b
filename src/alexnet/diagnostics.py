"""Names what is wrong with a loss, in words. (§5, and what users of AlexNet stumble over.)"""

from __future__ import annotations

import math


def loss_verdict(loss: float, classes: int, steps: int, patience_steps: int = 400) -> str | None:
    """A sentence with the likely cause and the remedy, or None where the loss looks healthy.

    loss: mean over the latest stretch of training, in nats; steps: how many were taken in all.
    A network that has learnt nothing gives every class the same probability, and so the loss ln(classes).
    """
    if not math.isfinite(loss):
        return (f"the loss is {loss} after {steps} steps: the weights have exploded; lower the rate "
                "(--set recipe.rate=...), or train in fp32 if this was fp16")
    chance = math.log(classes)
    if steps >= 20 and loss > 3 * chance + 3:
        return (f"the loss is {loss:.3g}, far above ln({classes}) = {chance:.3f}, after {steps} steps: it is "
                "exploding; lower the rate (--set recipe.rate=...)")
    if steps >= patience_steps and abs(loss - chance) < 0.01 * chance:
        return (f"the loss is {loss:.3f}, still ln({classes}) = {chance:.3f}, after {steps} steps: every class gets "
                "the same probability. Gaussian weights with sigma 0.01 start this way and may need a thousand steps; "
                "if it lasts, try a batch-norm form (--arch paper-bn), biases of 0.1 (--arch caffe) or another rate")
    return None
