"""Figure of a claim in docs/results.md: the published number, ours with its intervals, every seed, the tuning."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby, zip_longest

from alexnet.reproduce.figures.axes import SMALL, Axes, Key, Marker, Scale, draw_legend
from alexnet.reproduce.figures.drawing import Color, Drawing
from alexnet.reproduce.figures.fonts import text_width
from alexnet.reproduce.figures.ticks import linear_ticks, number_labels, percent_labels
from alexnet.reproduce.outcome import Bound, ComparisonJson, OutcomeJson
from alexnet.reproduce.results_text import (
    NO_DIFFERENCE,
    THE_PAPER,
    compared_quantities,
    format_interval,
    format_number,
    format_published,
    run_bound,
    run_value,
)

WIDTH, NAMES, RUNS = 600.0, 169.0, 191.0
"""Points: the figure (800 pixels), the column of names on its left, and the panel of runs."""
ROW, VARIANT_ROW, GAP, KEY = 40.0, 22.0, 66.0, 30.0
"""Points: a row of a comparison, of a variant, the space around a panel's title and axis, the key of symbols."""
DASHES = (3.0, 2.0)
BOUND_MARKERS: dict[Bound | None, Marker] = {"at least": "right", "at most": "left"}
"""A triangle points to where the true mean is, if the measured one is only a bound of it."""

COLORS: tuple[Color, ...] = ("ink", "blue", "red", "quiet")
MARKERS: tuple[Marker, ...] = ("circle", "square", "diamond", "up", "down", "plus")
"""Of the variants in turn, so that no two look the same among the first twelve."""


def claim_dots(outcome: OutcomeJson) -> Drawing:
    """Draw an outcome: its comparisons, above every run and the tuning; one panel a quantity.

    The variants differ in color and marker, which are the same in all lower panels.
    """
    panels = [list(group) for _, group in groupby(
        outcome["comparisons"], key=lambda comparison: (comparison["quantity"], comparison["unit"]))]
    tuned_by = list(dict.fromkeys(variant["tuned_by"] for variant in outcome["variants"]))
    run_panels = _run_panels(outcome)
    run_rows = sum(map(len, run_panels.values()))
    # Both lower columns have the same height.
    lower = max(100.0 * len(tuned_by) + GAP * (len(tuned_by) - 1),
                100.0 * len(run_panels) + GAP * (len(run_panels) - 1),
                VARIANT_ROW * run_rows + GAP * (len(run_panels) - 1))
    heights = [*(len(panel) * ROW for panel in panels), lower]
    drawing = Drawing(WIDTH, KEY + sum(heights) + GAP * len(heights), f"Outcome of the claim {outcome['claim']}")
    _draw_key(drawing, outcome["comparisons"])
    top = KEY + 29
    for panel, tall in zip(panels, heights, strict=False):
        _draw_comparisons(drawing, top, tall, panel)
        top += tall + GAP
    run_top, row_height = top, (lower - GAP * (len(run_panels) - 1)) / run_rows
    for quantity, shown in run_panels.items():
        _draw_runs(drawing, run_top, row_height * len(shown), outcome, quantity, shown)
        run_top += row_height * len(shown) + GAP
    tuning_height = (lower + GAP) / len(tuned_by) - GAP
    for quantity in tuned_by:
        _draw_tuning(drawing, top, tuning_height, outcome, quantity)
        top += tuning_height + GAP
    return drawing


def _run_panels(outcome: OutcomeJson) -> dict[str, list[int]]:
    """By quantity, the places of the variants that are compared by it; those of no comparison have the main quantity.

    Panels without a variant are left out.
    """
    names = [variant["name"] for variant in outcome["variants"]]
    compared = [(one["quantity"], {one["variant"], one["reference"]}) for one in outcome["comparisons"]]
    found = {quantity: {name for other, pair in compared if other == quantity for name in pair}
             for quantity in compared_quantities(outcome)}
    alone = set(names) - {name for pair in found.values() for name in pair}
    if alone:
        found[outcome["value_name"]] = found.get(outcome["value_name"], set()) | alone
    panels = {quantity: [row for row, name in enumerate(names) if name in shown] for quantity, shown in found.items()}
    return {quantity: rows for quantity, rows in panels.items() if rows}


def _draw_comparisons(drawing: Drawing, top: float, height: float, comparisons: Sequence[ComparisonJson]) -> None:
    """One row a comparison: the side that the claim predicts, seeds, mean and intervals, and the published number."""
    unit, quantity = comparisons[0]["unit"], comparisons[0]["quantity"]
    neutral = NO_DIFFERENCE[unit]
    x = _padded(value for comparison in comparisons for value in _values(comparison))
    numbers = 14 + 1.1 * max(text_width(format_interval(comparison), SMALL) for comparison in comparisons)
    axes = Axes(drawing, NAMES, top, WIDTH - NAMES - max(144.0, numbers), height, x,
                Scale(len(comparisons) - 0.5, -0.5))
    for row, comparison in enumerate(comparisons):
        ends = (neutral, x.high) if comparison["sign"] > 0 else (x.low, neutral)
        (left, above), (right, below) = axes.place(ends[0], row - 0.5), axes.place(ends[1], row + 0.5)
        axes.rectangle(left, above, right - left, below - above, "faint", 0.55)
    ticks = linear_ticks(x.low, x.high, 7)
    axes.x_axis(ticks, [_tick(label, unit) for label in number_labels(ticks)], grid=True)
    _name_rows(axes, [comparison["name"] for comparison in comparisons], 3)
    axes.title(f"Ratio of {quantity} (below 1: less)" if unit == "times" else
               f"Relative difference in {quantity} (negative: less)" if unit == "percent" else
               f"Difference in {quantity}, in points (negative: less)")
    axes.line([axes.place(neutral, -0.5), axes.place(neutral, len(comparisons) - 0.5)], "ink", 1.2)
    for row, comparison in enumerate(comparisons):
        _draw_size(axes, row, comparison, comparisons[row - 1] if row else None)
        axes.marks(comparison["values"], [row + 0.27] * len(comparison["values"]), "blue", 2.2)
        for low_end, high_end, width in ((comparison["low_all"], comparison["high_all"], 1.2),
                                         (comparison["low"], comparison["high"], 4.0)):
            if low_end is not None and high_end is not None:
                axes.plot([low_end, high_end], [row, row], "blue", width)
        if comparison["mean"] is not None:
            axes.marks([comparison["mean"]], [row], "blue", 4.2, BOUND_MARKERS.get(comparison.get("bound"), "circle"),
                       fill="blue")
        _, middle = axes.place(neutral, row)
        axes.text(axes.right + 8, middle - 2, comparison["verdict"], bold=True)
        axes.text(axes.right + 8, middle + 10, format_interval(comparison), SMALL)


def _draw_size(axes: Axes, row: int, comparison: ComparisonJson, before: ComparisonJson | None) -> None:
    """The published number, or without one the least effect that counts, as a line through the row.

    It is labeled unless the row above has the same line.
    """
    paper, least = comparison["paper"], comparison["least"]
    size = least if paper is None else paper
    if size is None:
        return
    x, top = axes.place(size, row - 0.5)
    _, bottom = axes.place(size, row + 0.5)
    axes.line([(x, top), (x, bottom)], "red", 1.4 if paper is None else 2.2, dashes=DASHES if paper is None else ())
    if before is not None and (before["paper"], before["least"]) == (paper, least):
        return
    text = f"least effect {format_number(size, comparison['unit'])}" if paper is None else (
        f"{'paper' if comparison['source'] == THE_PAPER else 'published'} "
        f"{format_published(comparison, short=True)}")
    # To the right of the line, unless the text would cross the line of no difference or the right edge.
    neutral, _ = axes.place(NO_DIFFERENCE[comparison["unit"]], row)
    width = 4 + 1.1 * text_width(text, SMALL)
    is_right = x - width < axes.left or not (x < neutral < x + width or x + width > axes.right)
    axes.text(x + (4 if is_right else -4), top + 10, text, SMALL, "red", anchor="start" if is_right else "end")


def _draw_runs(
    drawing: Drawing, top: float, height: float, outcome: OutcomeJson, quantity: str, shown: Sequence[int],
) -> None:
    """One row a variant: the value of each seed, and a line at their mean.

    A run that did not reach its target is a triangle at the epochs that it had. Then there is no line.

    Args:
        drawing, top, height: the drawing, and where the panel is.
        outcome: has the variants.
        quantity: what is drawn of each run.
        shown: places of the variants among those of the outcome, which give their colors and markers.
    """
    variants = [outcome["variants"][place] for place in shown]
    reached = [[value for run in variant["runs"] if (value := run_value(run, quantity, outcome)) is not None]
               for variant in variants]
    bounds: list[list[float]] = [
        [bound for run in variant["runs"] if (bound := run_bound(run, quantity)) is not None] for variant in variants]
    x = _padded(value for row in (*reached, *bounds) for value in row)
    axes = Axes(drawing, NAMES, top, RUNS, height, x, Scale(len(variants) - 0.5, -0.5))
    ticks = linear_ticks(x.low, x.high, 5)
    axes.x_axis(ticks, _value_labels(ticks, outcome, quantity), grid=True)
    counts = [(len(values) + len(late), len(variant["runs"]))
              for variant, values, late in zip(variants, reached, bounds, strict=True)]
    _name_rows(axes, [variant["name"] for variant in variants], 2,
               ["" if drawn == runs else f"({drawn} of {runs} runs)" for drawn, runs in counts])
    axes.title(textwrap.fill(f"Every run: {quantity}", 34, max_lines=2))
    for row, (place, values, late) in enumerate(zip(shown, reached, bounds, strict=True)):
        if values and not late:
            mean = sum(values) / len(values)
            axes.line([axes.place(mean, row - 0.36), axes.place(mean, row + 0.36)], _color(place), 1.8)
        axes.marks(values, [row] * len(values), _color(place), 2.5, _marker(place))
        axes.marks(late, [row] * len(late), _color(place), 3.5, BOUND_MARKERS["at least"], fill=_color(place))


def _draw_tuning(drawing: Drawing, top: float, height: float, outcome: OutcomeJson, quantity: str) -> None:
    """What rates are chosen by, over the learning rate: the mean of the tuning seeds, one curve a variant.

    The chosen rate is filled. A cross at the upper edge is a rate at which a run diverged or did not reach the target.
    """
    tuned = {row: variant for row, variant in enumerate(outcome["variants"]) if variant["tuned_by"] == quantity}
    means = {row: {point["rate"]: _mean(point["errors"]) for point in variant["tuning"]}
             for row, variant in tuned.items()}
    rates = sorted({rate for tried in means.values() for rate in tried}) or [1.0]
    y = _padded(mean for tried in means.values() for mean in tried.values())
    ticks = linear_ticks(y.low, y.high, 5) if any(mean is not None for tried in means.values()
                                                  for mean in tried.values()) else []
    left = NAMES + RUNS + 54
    axes = Axes(drawing, left, top, WIDTH - left - 14, height,
                Scale(rates[0] / 1.15, rates[-1] * 1.15, logarithmic=True), y)
    axes.y_axis(ticks, _value_labels(ticks, outcome, quantity))
    shown = rates[:: 1 + (len(rates) - 1) // 4]
    axes.x_axis(shown, [f"{rate:g}" for rate in shown], "learning rate")
    axes.title(textwrap.fill(f"Tuning by {quantity}", 34, max_lines=2))
    for row, variant in tuned.items():
        curve = {rate: mean for rate, mean in sorted(means[row].items()) if mean is not None}
        axes.plot([*curve], [*curve.values()], _color(row), 1.0)
        axes.marks([*curve], [*curve.values()], _color(row), 2.0, _marker(row), fill="paper")
        if variant["rate"] in curve:
            axes.marks([variant["rate"]], [curve[variant["rate"]]], _color(row), 3.0, _marker(row), fill=_color(row))
        failed = [rate for rate, mean in means[row].items() if mean is None]
        axes.marks(failed, [y.low + 0.97 * (y.high - y.low)] * len(failed), _color(row), 2.8, "cross")


def _draw_key(drawing: Drawing, comparisons: Sequence[ComparisonJson]) -> None:
    """What each symbol means, above all panels."""
    keys = [Key("mean and 95% interval", "blue", 4.0, marker="circle", radius=4.2),
            Key("one seed", "blue", 0.0, marker="circle", radius=2.2, filled=False),
            Key("no difference", "ink", 1.2),
            Key("side that the claim predicts", "faint", 0.0, area=0.55)]
    if len(comparisons) > 1:
        keys.append(Key("simultaneous 95% interval", "blue", 1.2))
    if any(comparison["paper"] is not None for comparison in comparisons):
        keys.append(Key("published number", "red", 2.2))
    if any(comparison["paper"] is None for comparison in comparisons):
        keys.append(Key("least effect that counts", "red", 1.4, DASHES))
    draw_legend(drawing, keys, 2.0, 0.0, columns=4)


def _name_rows(axes: Axes, names: Sequence[str], lines: int, notes: Sequence[str] = ()) -> None:
    """Name the rows of a panel from top to bottom. A note takes the last of a name's lines."""
    axes.y_axis(range(len(names)), [
        "\n".join([textwrap.fill(name, 31, max_lines=lines - bool(note), placeholder=" …"), *([note] if note else [])])
        for name, note in zip_longest(names, notes, fillvalue="")], color="ink", grid=False)


def _color(row: int) -> Color:
    return COLORS[row % len(COLORS)]


def _marker(row: int) -> Marker:
    return MARKERS[row % len(MARKERS)]


def _tick(label: str, unit: str) -> str:
    """The label of a tick, with a sign if it is a difference."""
    if unit == "times":
        return label
    return ("" if label.startswith("−") or not label.strip("0.") else "+") + label + "%" * (unit == "percent")


def _value_labels(ticks: Sequence[float], outcome: OutcomeJson, quantity: str) -> list[str]:
    return percent_labels(ticks) if quantity in outcome["fractions"] else number_labels(ticks)


def _mean(values: Sequence[float | None]) -> float | None:
    """None if a value is missing: a rate at which a run diverged has no mean."""
    measured = [value for value in values if value is not None]
    return sum(measured) / len(measured) if measured and len(measured) == len(values) else None


def _values(comparison: ComparisonJson) -> list[float | None]:
    """All numbers that a comparison's row shows."""
    size = comparison["least"] if comparison["paper"] is None else comparison["paper"]
    return [*comparison["values"], comparison["low"], comparison["high"], comparison["low_all"], comparison["high_all"],
            size, comparison["mean"], NO_DIFFERENCE[comparison["unit"]]]


def _padded(values: Iterable[float | None]) -> Scale:
    """The range of the values that exist, and a margin on both sides."""
    numbers = [value for value in values if value is not None] or [0.0]
    margin = 0.07 * (max(numbers) - min(numbers)) or 0.05 * abs(max(numbers)) or 1.0
    return Scale(min(numbers) - margin, max(numbers) + margin)
