"""Figure of a claim in docs/results.md: the published number, ours with its intervals, every seed, the tuning."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from alexnet.reproduce.figures.style import BLUE, FAINT, INK, PAPER, QUIET, RED, STYLE
from alexnet.reproduce.outcome import Bound, ComparisonJson, OutcomeJson
from alexnet.reproduce.results_text import (
    NO_DIFFERENCE,
    THE_PAPER,
    format_interval,
    format_number,
    format_published,
)

WIDTH, NAMES, NUMBERS, RUNS = 8.33, 2.35, 2.0, 2.65
"""Inches: the figure (800 pixels at 96 dots an inch), the column of names on its left, of numbers on its right,
and the panel of runs."""
ROW, VARIANT_ROW, GAP, KEY = 0.56, 0.3, 0.85, 0.42
"""Inches: a row of a comparison, of a variant, the space around a panel's title and axis, the key of symbols."""
SMALL = 9.0
DASHES = (0, (3, 2))
BOUND_MARKERS: dict[Bound | None, str] = {"at least": ">", "at most": "<"}
"""A triangle points to where the true mean is, if the measured one is only a bound of it."""
PERCENT = FuncFormatter(lambda fraction, _: f"{100 * fraction:g}%")


@matplotlib.rc_context(STYLE)
def claim_dots(outcome: OutcomeJson) -> Figure:
    """Draw an outcome: its comparisons, one panel a quantity, above the value of every run and the tuning.

    The variants differ in color and marker, which are the same in both lower panels.
    """
    panels = [list(group) for _, group in groupby(
        outcome["comparisons"], key=lambda comparison: (comparison["quantity"], comparison["unit"]))]
    tuned_by = list(dict.fromkeys(variant["tuned_by"] for variant in outcome["variants"]))
    heights = [len(panel) * ROW for panel in panels] + [max(1.4, len(outcome["variants"]) * VARIANT_ROW / len(tuned_by))
                                                        for _ in tuned_by]
    height = KEY + sum(heights) + GAP * len(heights)
    figure = Figure(figsize=(WIDTH, height))

    def add_axes(left: float, top: float, width: float, tall: float) -> Axes:
        return figure.add_axes((left / WIDTH, 1 - (top + tall) / height, width / WIDTH, tall / height))

    top = KEY + 0.4
    for panel, tall in zip(panels, heights, strict=False):
        _draw_comparisons(add_axes(NAMES, top, WIDTH - NAMES - NUMBERS, tall), panel)
        top += tall + GAP
    low = heights[len(panels):]
    _draw_runs(add_axes(NAMES, top, RUNS, sum(low) + GAP * (len(low) - 1)), outcome)
    left = NAMES + RUNS + 0.75
    for quantity, tall in zip(tuned_by, low, strict=True):
        _draw_tuning(add_axes(left, top, WIDTH - left - 0.2, tall), outcome, quantity)  # the last tick's label
        top += tall + GAP
    _draw_key(figure, [comparison for panel in panels for comparison in panel])
    return figure


def _draw_comparisons(axes: Axes, comparisons: Sequence[ComparisonJson]) -> None:
    """One row a comparison: the side that the claim predicts, seeds, mean and intervals, and the published number."""
    unit, quantity = comparisons[0]["unit"], comparisons[0]["quantity"]
    neutral = NO_DIFFERENCE[unit]
    low, high = _padded(value for comparison in comparisons for value in _values(comparison))
    axes.set_xlim(low, high)
    for row, comparison in enumerate(comparisons):
        claimed = (neutral, high) if comparison["sign"] > 0 else (low, neutral)
        axes.fill_between(claimed, row - 0.5, row + 0.5, color=FAINT, alpha=0.55, linewidth=0)
        _draw_size(axes, row, comparison, comparisons[row - 1] if row else None)
        axes.plot(comparison["values"], [row + 0.27] * len(comparison["values"]), "o", markersize=4.5,
                  markerfacecolor="none", markeredgecolor=BLUE, zorder=4)
        for low_end, high_end, width in ((comparison["low_all"], comparison["high_all"], 1.2),
                                         (comparison["low"], comparison["high"], 4.0)):
            if low_end is not None and high_end is not None:
                axes.plot([low_end, high_end], [row, row], color=BLUE, linewidth=width, solid_capstyle="butt", zorder=4)
        if comparison["mean"] is not None:
            axes.plot(comparison["mean"], row, BOUND_MARKERS.get(comparison.get("bound"), "o"), markersize=9,
                      color=BLUE, zorder=5)
        axes.annotate(comparison["verdict"], (1, row), (8, 2), xycoords=axes.get_yaxis_transform(),
                      textcoords="offset points", fontweight="bold")
        axes.annotate(format_interval(comparison), (1, row), (8, -10), xycoords=axes.get_yaxis_transform(),
                      textcoords="offset points", fontsize=SMALL)
    axes.axvline(neutral, color=INK, linewidth=1.2)
    _name_rows(axes, [comparison["name"] for comparison in comparisons], 3)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, unit)))
    axes.set_title(f"Ratio of {quantity} (below 1: less)" if unit == "times" else
                   f"Relative difference in {quantity} (negative: less)" if unit == "percent" else
                   f"Difference in {quantity}, in points (negative: less)")


def _draw_size(axes: Axes, row: int, comparison: ComparisonJson, above: ComparisonJson | None) -> None:
    """The published number, or without one the least effect that counts, as a line through the row.

    It is labeled unless the row above has the same line.
    """
    paper, least = comparison["paper"], comparison["least"]
    size = least if paper is None else paper
    if size is None:
        return
    axes.plot([size, size], [row - 0.5, row + 0.5], color=RED, linewidth=1.4 if paper is None else 2.2, zorder=3,
              linestyle=DASHES if paper is None else "-", solid_capstyle="butt")
    if above is not None and (above["paper"], above["least"]) == (paper, least):
        return
    text = f"least effect {format_number(size, comparison['unit'])}" if paper is None else (
        f"{'paper' if comparison['source'] == THE_PAPER else 'published'} "
        f"{format_published(comparison, short=True)}")
    low, high = axes.get_xlim()
    is_left = size < low + 0.6 * (high - low)
    axes.annotate(text, (size, row - 0.5), (4 if is_left else -4, -9), textcoords="offset points", color=RED,
                  fontsize=SMALL, ha="left" if is_left else "right")


def _draw_runs(axes: Axes, outcome: OutcomeJson) -> None:
    """One row a variant: the measured value of each seed, and a line at their mean."""
    variants = outcome["variants"]
    for row, variant in enumerate(variants):
        values = [run["value"] for run in variant["runs"] if run["value"] is not None]
        if values:
            mean = sum(values) / len(values)
            axes.plot([mean, mean], [row - 0.36, row + 0.36], color=_color(row), linewidth=1.8)
        axes.plot(values, [row] * len(values), _marker(row), markersize=5, markerfacecolor="none",
                  markeredgecolor=_color(row))
    axes.set_xlim(*_padded(run["value"] for variant in variants for run in variant["runs"]))
    _name_rows(axes, [variant["name"] for variant in variants], 2)
    if outcome["value_name"] in outcome["fractions"]:
        axes.xaxis.set_major_formatter(PERCENT)
    axes.set_title(textwrap.fill(f"Every run: {outcome['value_name']}", 34, max_lines=2))


def _draw_tuning(axes: Axes, outcome: OutcomeJson, quantity: str) -> None:
    """What rates are chosen by, over the learning rate: the mean of the tuning seeds, one curve a variant.

    The chosen rate is filled. A cross at the upper edge is a rate at which a run diverged or did not reach the target.
    """
    tuned = {row: variant for row, variant in enumerate(outcome["variants"]) if variant["tuned_by"] == quantity}
    for row, variant in tuned.items():
        means = {point["rate"]: _mean(point["errors"]) for point in variant["tuning"]}
        curve = {rate: mean for rate, mean in sorted(means.items()) if mean is not None}
        axes.plot(list(curve), list(curve.values()), _marker(row) + "-", color=_color(row), linewidth=1.0, markersize=4,
                  markerfacecolor=PAPER)
        if variant["rate"] in curve:
            axes.plot(variant["rate"], curve[variant["rate"]], _marker(row), color=_color(row), markersize=6.5)
        failed = [rate for rate, mean in means.items() if mean is None]
        axes.plot(failed, [0.97] * len(failed), "x", color=_color(row), transform=axes.get_xaxis_transform())
    axes.set_xscale("log")
    rates = sorted({point["rate"] for variant in tuned.values() for point in variant["tuning"]})
    shown = rates[:: 1 + (len(rates) - 1) // 4]
    axes.set_xticks(shown, [f"{rate:g}" for rate in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if quantity in outcome["fractions"]:
        axes.yaxis.set_major_formatter(PERCENT)
    axes.tick_params(labelsize=SMALL)
    axes.set_xlabel("learning rate", fontsize=SMALL)
    axes.set_title(textwrap.fill(f"Tuning by {quantity}", 34, max_lines=2))


def _draw_key(figure: Figure, comparisons: Sequence[ComparisonJson]) -> None:
    """What each symbol means, above all panels."""
    symbols: list[Line2D | Patch] = [
        Line2D([], [], color=BLUE, marker="o", markersize=9, linewidth=4.0, label="mean and 95% interval"),
        Line2D([], [], color=BLUE, marker="o", markersize=4.5, markerfacecolor="none", linestyle="none",
               label="one seed"),
        Line2D([], [], color=INK, linewidth=1.2, label="no difference"),
        Patch(facecolor=FAINT, alpha=0.55, label="side that the claim predicts")]
    if len(comparisons) > 1:
        symbols.append(Line2D([], [], color=BLUE, linewidth=1.2, label="simultaneous 95% interval"))
    if any(comparison["paper"] is not None for comparison in comparisons):
        symbols.append(Line2D([], [], color=RED, linewidth=2.2, label="published number"))
    if any(comparison["paper"] is None for comparison in comparisons):
        symbols.append(Line2D([], [], color=RED, linewidth=1.4, linestyle=DASHES, label="least effect that counts"))
    figure.legend(handles=symbols, loc="upper left", bbox_to_anchor=(0, 1), ncols=4, fontsize=SMALL,
                  labelcolor=INK, borderaxespad=0, columnspacing=1.4)


def _name_rows(axes: Axes, names: Sequence[str], lines: int) -> None:
    """Name the rows of a panel from top to bottom."""
    axes.set_yticks(range(len(names)), [textwrap.fill(name, 31, max_lines=lines, placeholder=" …") for name in names],
                    color=INK, fontsize=SMALL, linespacing=1.05)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")


def _color(row: int) -> str:
    return (INK, BLUE, RED, QUIET)[row % 4]


def _marker(row: int) -> str:
    return "osD^vP"[row % 6]


def _tick(value: float, unit: str) -> str:
    sign = "%" * (unit == "percent")
    return (f"{value:+g}".replace("-", "−") if unit != "times" and value else f"{value:g}") + sign


def _mean(values: Sequence[float | None]) -> float | None:
    """None if a value is missing: a rate at which a run diverged has no mean."""
    measured = [value for value in values if value is not None]
    return sum(measured) / len(measured) if measured and len(measured) == len(values) else None


def _values(comparison: ComparisonJson) -> list[float | None]:
    """All numbers that a comparison's row shows."""
    size = comparison["least"] if comparison["paper"] is None else comparison["paper"]
    return [*comparison["values"], comparison["low"], comparison["high"], comparison["low_all"], comparison["high_all"],
            size, comparison["mean"], NO_DIFFERENCE[comparison["unit"]]]


def _padded(values: Iterable[float | None]) -> tuple[float, float]:
    """The range of the values that exist, and a margin on both sides."""
    numbers = [value for value in values if value is not None] or [0.0]
    margin = 0.07 * (max(numbers) - min(numbers)) or 0.05 * abs(max(numbers)) or 1.0
    return min(numbers) - margin, max(numbers) + margin
