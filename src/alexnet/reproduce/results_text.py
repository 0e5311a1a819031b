"""Results of claims in words and numbers, for the page docs/results.md, its figures and the command line."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from alexnet.reproduce.outcome import ComparisonJson, Unit
from alexnet.reproduce.significance import LEVEL

NO_DIFFERENCE: dict[Unit, float] = {"points": 0.0, "times": 1.0}
"""The value of a comparison whose two sides are equal."""


def format_number(value: float, unit: Unit) -> str:
    """A difference with its sign and one decimal, or a ratio with two: "−1.4" points, "2.04" times."""
    if unit == "times":
        return f"{value:.2f}"
    rounded = round(value, 1) + 0.0  # -0.04 is 0.0, without a sign
    return (f"{rounded:+.1f}" if rounded else "0.0").replace("-", "−")


def format_interval(comparison: ComparisonJson) -> str:
    """A measured mean with its 95% interval: "−1.4 (−2.0 to −0.8)"."""
    unit = comparison["unit"]
    if comparison["mean"] is None:
        return "not compared"
    mean = format_number(comparison["mean"], unit)
    if comparison["low"] is None or comparison["high"] is None:
        return f"{mean} (no interval)"
    return f"{mean} ({format_number(comparison['low'], unit)} to {format_number(comparison['high'], unit)})"


def format_measured(comparison: ComparisonJson) -> str:
    """`format_interval` with the unit: "−1.4 points (−2.0 to −0.8)"."""
    mean, bracket, rest = format_interval(comparison).partition(" (")
    return f"{mean} {comparison['unit']}{bracket}{rest}" if bracket else mean


def format_paper(comparison: ComparisonJson, *, with_unit: bool = True) -> str:
    """The paper's number: "−1.4 points", "6 times"."""
    paper, unit = comparison["paper"], comparison["unit"]
    if paper is None:
        return "no number"
    return (f"{paper:g}" if unit == "times" else format_number(paper, unit)) + (f" {unit}" if with_unit else "")


def format_mean_sd(values: Iterable[float | None], *, percent: bool) -> str:
    """Mean and standard deviation over runs: "39.3 ± 0.8%". Runs without a value are left out and counted."""
    runs = list(values)
    measured = [value for value in runs if value is not None]
    if not measured:
        return "not measured"
    scale, decimals, sign = (100, 1, "%") if percent else (1, 2, "")
    numbers = [statistics.fmean(measured), *([statistics.stdev(measured)] if len(measured) > 1 else [])]
    missing = f" ({len(measured)} of {len(runs)} runs)" if len(measured) < len(runs) else ""
    return " ± ".join(f"{scale * number:.{decimals}f}" for number in numbers) + sign + missing


def verdict_sentences(comparison: ComparisonJson) -> str:
    """What was measured, in plain words; for an undecided comparison also what it could have shown, or why not."""
    p, reason = comparison["p_holm"], comparison["reason"]
    sentences = [f"{comparison['variant']} against {comparison['reference']}: {_measured(comparison)}."]
    place = _place_of_paper(comparison)
    if comparison["verdict"] != "undecided":
        sentences += place
    elif p is None or p < LEVEL or comparison["minimum_detectable"] is None:
        sentences.append(f"{reason[:1].upper()}{reason[1:].rstrip('.')}.")  # not for want of significance
    else:
        sentences += place  # a narrow interval around no difference may exclude the paper's number
        sentences.append(f"This may be chance. {_detectable(comparison, comparison['minimum_detectable'])}")
    return " ".join(sentences)


def _place_of_paper(comparison: ComparisonJson) -> list[str]:
    """Whether the paper's number is in the interval, as a sentence; none without a number or an interval."""
    paper, low, high = comparison["paper"], comparison["low"], comparison["high"]
    if paper is None or low is None or high is None:
        return []
    place = "inside" if low <= paper <= high else "outside"
    return [f"The paper's number, {format_paper(comparison)}, is {place} the interval."]


def _measured(comparison: ComparisonJson) -> str:
    """The mean in words, with the interval, the p value and the number of seeds in brackets."""
    mean, unit, quantity, seeds = (comparison["mean"], comparison["unit"], comparison["quantity"],
                                   len(comparison["values"]))
    if mean is None:
        return "not compared"
    if unit == "points":
        amount = f"{abs(mean):.1f} points {'less' if mean < 0 else 'more'} {quantity}"
    else:
        amount = f"{mean:.2f} times the {quantity}"
    if comparison["low"] is None or comparison["high"] is None or comparison["p_holm"] is None:
        return f"{amount} ({seeds} seed{'s' * (seeds != 1)}, no interval)"
    low, high, p = format_number(comparison["low"], unit), format_number(comparison["high"], unit), comparison["p_holm"]
    return f"{amount} (95% interval {low} to {high}, {'p < 0.001' if p < 0.001 else f'p = {p:.3f}'}, {seeds} seeds)"


def _detectable(comparison: ComparisonJson, smallest: float) -> str:
    """Which difference the test finds with a power of 80%, and whether the paper's is that large."""
    paper = comparison["paper"]
    if comparison["unit"] == "points":
        found = f"A true difference of {smallest:.1f} points or more"
        is_large = paper is not None and abs(paper) >= smallest
    else:
        found = f"A true ratio of {smallest:.2f} or more, or of {1 / smallest:.2f} or less,"
        is_large = paper is not None and max(paper, 1 / paper) >= smallest
    sentence = f"{found} would have been found in 80% of such experiments"
    if paper is None:
        return f"{sentence}."
    return f"{sentence}; the paper's number, {format_paper(comparison)}, is {'' if is_large else 'not '}that large."
