"""`alexnet lr-find`: the learning rate range test (arXiv 1506.01186), the loss at a rate that rises with every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from alexnet.errors import Finding, plural, require
from alexnet.training.trainer import Trainer

SMOOTHING = 0.9
"""Share of the old average in the smoothed loss."""

DIVERGED = 3.0
"""The sweep ends where the smoothed loss is this many times its lowest value."""

SETTLED = 10
"""Steps until the smoothed loss is an average of about as many batches as later."""

CLEAR = 1.3
"""A fall is clear if it is this many standard deviations of a batch's loss. The smoothed loss has 0.23 of it, and the
lowest of its values falls by up to about 1.2 where the network learns nothing."""

SKIPPED = 5
"""Steps at the start whose smoothed loss spans too few batches to judge."""


@dataclass(frozen=True)
class RateSweep:
    """What a sweep of the learning rate measured."""

    rates: tuple[float, ...]
    """The learning rate of each step, rising exponentially. The last is the one at which the loss diverged, if any."""
    losses: tuple[float, ...]
    """The loss of each step's batch, in nats."""
    smoothed: tuple[float, ...]
    """Their exponential moving average, without the bias towards 0 of its first values."""
    diverged: bool
    """Whether the loss grew beyond `DIVERGED` times its lowest value, or was not finite."""
    lowest: float
    """The rate at which the smoothed loss is lowest."""
    rose: float | None
    """The rate from which the smoothed loss is above its start; None if it ends below."""
    suggestion: float | None
    """Where the smoothed loss falls fastest; of a loss that does not fall clearly, a tenth of `rose`. None without
    both."""
    findings: tuple[Finding, ...]


def check_range(low: float, high: float, steps: int) -> None:
    """Raise UserError for rates that do not rise, or too few steps. Arguments as for `sweep`."""
    require(0 < low < high < math.inf, f"the learning rates {low:g} to {high:g} must be above 0 and increasing",
            "give --from below --to")
    require(steps >= 4 * SKIPPED, f"{plural(steps, 'step')} {'is' if steps == 1 else 'are'} too few for a curve",
            f"give --steps {4 * SKIPPED} or more")


def sweep(
    trainer: Trainer, low: float, high: float, steps: int, on_progress: Callable[[int, int], object] | None = None,
) -> RateSweep:
    """Train from the trainer's weights with a rising learning rate. Writes nothing; the weights are spoiled.

    Args:
        trainer: a run that has not started. Its schedule plays no part.
        low, high: the first and the last learning rate.
        steps: batches; epochs follow each other if the data has fewer.
        on_progress: called with the steps done and all steps.

    Raises:
        UserError: impossible rates or too few steps.
    """
    check_range(low, high, steps)
    trainer.network.train()
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    average, diverged = 0.0, False
    while len(rates) < steps and not diverged:
        with closing(trainer.epoch_batches()) as source:
            for batch in source:
                rate = low * (high / low) ** (len(rates) / (steps - 1))
                loss = trainer.train_batch(batch, rate, rate)[0].item()
                trainer.state.step += 1
                rates.append(rate)
                losses.append(loss)
                average = SMOOTHING * average + (1 - SMOOTHING) * loss
                smoothed.append(average / (1 - SMOOTHING ** len(losses)))
                diverged = not math.isfinite(loss) or (
                    len(losses) > SKIPPED and smoothed[-1] > DIVERGED * min(smoothed))
                if on_progress:
                    on_progress(len(rates), steps)
                if diverged or len(rates) == steps:
                    break
        trainer.state.epoch += 1
    return judge(rates, losses, smoothed, diverged)


def judge(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], diverged: bool,
) -> RateSweep:
    """Find the suggestion in a curve. Arguments as in `RateSweep`."""
    finite = [step for step in range(len(smoothed)) if math.isfinite(smoothed[step])]
    lowest = min(finite[SETTLED:] or finite, key=lambda step: smoothed[step], default=0)
    first = min(SETTLED, lowest)
    start, spread = smoothed[first], _spread(losses[: max(lowest + 1, 2 * SETTLED)])
    fall = start - smoothed[lowest]
    above = len(smoothed)  # the first step of those at the end whose loss is above its start
    if not smoothed[-1] <= start + CLEAR * spread:  # also if it is not a number
        while above > lowest + 1 and not smoothed[above - 1] <= start:
            above -= 1
    rose = rates[above] if above < len(rates) else None
    findings = []
    suggestion = None
    if lowest > first and fall > max(0.02 * start, CLEAR * spread):
        # The rates are evenly spaced on a logarithmic axis, so the slope is a difference of smoothed losses. Between
        # neighboring steps it would depend on which images are in the batch.
        reach = max(1, len(rates) // 20)
        suggestion = rates[min(range(first, lowest + 1), key=lambda step: (
            smoothed[min(step + reach, lowest)] - smoothed[max(step - reach, first)]))]
    elif rose is not None:
        suggestion = rose / 10
        findings.append(Finding(
            "loss_did_not_fall", "", f"the loss did not fall clearly before it rose: by {fall:.2g}, while those of "
            f"single batches differ by about {spread:.2g}; so the suggestion is only a tenth of the rate at which it "
            "rose above its start", "give more --steps or a larger --batch-size, or keep the recipe's learning rate"))
    else:
        findings.append(Finding(
            "loss_did_not_fall", "", f"the loss did not fall clearly at any rate from {rates[0]:.1g} to "
            f"{rates[-1]:.1g}", "give a higher --to or more --steps; initial weights with standard deviation 0.01 "
            "(--arch paper) may need a thousand steps before the loss falls"))
    return RateSweep(tuple(rates), tuple(losses), tuple(smoothed), diverged, rates[lowest], rose, suggestion,
                     tuple(findings))


def _spread(losses: Sequence[float]) -> float:
    """Standard deviation of the losses of batches around a smooth curve, from their second differences."""
    bends = [before - 2 * loss + after for before, loss, after in zip(losses, losses[1:], losses[2:], strict=False)]
    bends = [bend for bend in bends if math.isfinite(bend)]
    return math.sqrt(sum(bend**2 for bend in bends) / (6 * len(bends))) if bends else 0.0
