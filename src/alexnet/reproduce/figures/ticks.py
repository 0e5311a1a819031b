"""Tick values and their labels: the 1-2-5 rule on linear axes, powers of ten on logarithmic ones."""

from __future__ import annotations

import math
from collections.abc import Sequence


def linear_ticks(low: float, high: float, most: int = 6, *, whole: bool = False) -> list[float]:
    """The multiples of 1, 2 or 5 times a power of ten in a range, as many as possible but not more than `most`.

    Args:
        low, high: the range.
        most: ticks.
        whole: integers only.
    """
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10, 20):
        step = max(factor * power, 1.0) if whole else factor * power
        # A little more than the range, as 3 * 0.1 is not 0.3.
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """The powers of ten in a range; with twice and five times them if they are less than two."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for factors in ((1,), (1, 2, 5)):
        ticks = [tick for exponent in exponents for factor in factors
                 if low * (1 - 1e-9) <= (tick := float(f"{factor}e{exponent}")) <= high * (1 + 1e-9)]
        if len(ticks) >= 2:
            break
    return ticks


def number_labels(ticks: Sequence[float]) -> list[str]:
    """Numbers with the decimals that the ticks need, the same for all; small ones with an exponent."""
    if 0 < max(map(abs, ticks), default=0.0) < 1e-4:
        return [f"{tick:g}".replace("-", "−") for tick in ticks]
    decimals = max((len(f"{tick:.10f}".rstrip("0").partition(".")[2]) for tick in ticks), default=0)
    return [f"{tick:,.{decimals}f}".replace("-", "−") for tick in ticks]


def percent_labels(ticks: Sequence[float]) -> list[str]:
    """Fractions as percentages."""
    return [f"{label}%" for label in number_labels([round(100 * tick, 10) for tick in ticks])]
