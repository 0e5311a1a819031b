"""Diagnoses from measurements: saturated or dead units, updates of the wrong size, a loss that does not fall."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alexnet.architecture.spec import Arch

if TYPE_CHECKING:
    pass
from alexnet.interpret.activations import ActivationReport

# --- In words ---------------------------------------------------------------------------------------------------------

SATURATING, DYING, VANISHING = 0.5, 0.3, 1e-3
"""Share of values, share of units, and the ratio of two gradients, beyond which something is said."""

TOO_FAST, TOO_SLOW = 0.03, 1e-6
"""Update to weight. About 0.001 is usual at a schedule's first rate, and less as the rate falls."""

EXPLODED = 1e6
"""Root mean square of a layer's gradient beyond which there is nothing else to say."""

EARLY = 200
"""Steps up to which a look at units and updates tells nothing: weights have yet to find their size."""

PATIENCE = 400
"""Steps that a loss may take to leave ln(classes)."""

HEALTHY = "healthy: units answer, gradients arrive, and no step is far too large or too small"


def unit_verdicts(
    activation: str, saturated: dict[str, float], dead: dict[str, float], ratio: dict[str, float], norm: str = "",
) -> list[str]:
    """What layers say, a sentence with the remedy for each thing that is wrong; none where all is well.

    norm: the network's `Arch.norm`, where it is known, so that nobody is told to take what is there.
    """
    said = []
    normalize = "" if norm == "batch" else "normalize (arch.norm=batch), "
    worst = max(saturated, key=lambda name: saturated[name], default="")
    if activation != "relu" and worst and saturated[worst] > SATURATING:
        said.append(f"saturating: {saturated[worst]:.0%} of {worst}'s values lie where {activation} is almost flat and "
                    "passes no gradient; bring the inputs to a deviation of 1 (arch.input.scale), draw smaller "
                    f"weights, {normalize}or take ReLUs (arch.activation=relu)")
    worst = max(dead, key=lambda name: dead[name], default="")
    if activation == "relu" and worst and dead[worst] > DYING:
        said.append(f"dying: {dead[worst]:.0%} of {worst}'s units are zero for every image looked at, and get no "
                    f"gradient; lower the rate, {normalize}or give biases of 0.1 to 1 (conv.bias)")
    if ratio:
        fast, slow = max(ratio, key=lambda name: ratio[name]), min(ratio, key=lambda name: ratio[name])
        if ratio[fast] > TOO_FAST:
            said.append(f"too fast: a step changes {fast}'s weights by {ratio[fast]:.1%}, and a thousandth is usual; "
                        "lower the rate (--set recipe.learning_rate=...)")
        if ratio[slow] < TOO_SLOW:
            said.append(f"standing still: a step changes {slow}'s weights by {ratio[slow]:.1g} of their size; raise "
                        "the rate, or draw weights by fan-in (arch.initialization=kaiming)")
    return said


def verdicts(seen: ActivationReport, arch: Arch, steps: int | None) -> list[str]:
    """What a look says, in words: that all has exploded and nothing else, or all that is wrong, or that all is well.

    steps: how many the network has taken; None where nobody knows, as of weights from elsewhere.
    """
    if loss := exploding(seen.loss, arch.classes, steps):
        return [loss]
    if wild := next((one for one in seen.weights if not one.gradient < EXPLODED), None):
        return [f"the gradient of {wild.layer}'s weights is {wild.gradient:.1g}{_after(steps)}: it is exploding; lower "
                "the rate (--set recipe.learning_rate=...)"]
    said = [loss] if (loss := loss_verdict(seen.loss, arch.classes, steps, arch.norm)) else []
    said += unit_verdicts(
        arch.activation, {one.layer: one.saturated for one in seen.units}, {one.layer: one.dead for one in seen.units},
        {one.layer: one.ratio for one in seen.weights}, arch.norm)
    first, largest = seen.weights[0], max(one.gradient for one in seen.weights)
    if first.gradient < VANISHING * largest:
        remedies = ["units that do not saturate (arch.activation=relu)"] * (arch.activation != "relu") + [
            "normalization (arch.norm=batch)"] * (arch.norm != "batch")
        said.append(f"vanishing: the gradient of {first.layer}'s weights is {first.gradient:.1g}, the largest "
                    f"{largest:.1g}; {' or '.join(remedies) or 'fewer layers'} would let it pass")
    return said or [HEALTHY]


def loss_verdict(loss: float, classes: int, steps: int | None, norm: str = "") -> str | None:
    """A sentence with the likely cause and the remedy, or None where the loss looks healthy.

    loss: mean over the latest stretch of training, in nats; steps: how many were taken in all, None where nobody knows.
    norm: as for `unit_verdicts`.
    A network that has learnt nothing gives every class the same probability, and so the loss ln(classes).
    """
    if said := exploding(loss, classes, steps):
        return said
    chance = math.log(classes)
    if (steps is None or steps >= PATIENCE) and abs(loss - chance) < 0.01 * chance:
        remedy = "try another rate" if norm == "batch" else (
            "Gaussian weights with sigma 0.01 start this way and may need a thousand steps; if it lasts, try a "
            "batch-norm form (--arch paper-bn), biases of 0.1 (--arch caffe) or another rate")
        return (f"the loss is {loss:.3f}, still ln({classes}) = {chance:.3f}{_after(steps)}: every class gets the same "
                f"probability; {remedy}")
    return None


def exploding(loss: float, classes: int, steps: int | None) -> str | None:
    """The part of `loss_verdict` after which nothing else is worth saying."""
    if not math.isfinite(loss):
        return (f"the loss is {loss}{_after(steps)}: the weights have exploded; lower the rate "
                "(--set recipe.learning_rate=...), or train in fp32 if this was fp16")
    chance = math.log(classes)
    if (steps is None or steps >= 20) and loss > 3 * chance + 3:
        return (f"the loss is {loss:.3g}, far above ln({classes}) = {chance:.3f}{_after(steps)}: it is exploding; "
                "lower the rate (--set recipe.learning_rate=...)")
    return None


def _after(steps: int | None) -> str:
    return "" if steps is None else f" after {steps} step{'s' * (steps != 1)}"
