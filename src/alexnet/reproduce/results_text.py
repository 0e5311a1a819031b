"""Results of claims in words and numbers, for the page docs/results.md, its figures and the command line."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from alexnet.inference.statistics import SIGNIFICANCE
from alexnet.reproduce.claim import EPOCHS_TO, Unit
from alexnet.reproduce.claims import CLAIMS
from alexnet.reproduce.outcome import ComparisonJson, ExpectationJson, OutcomeJson, RunJson, VariantJson

NO_DIFFERENCE: dict[Unit, float] = {"points": 0.0, "times": 1.0, "percent": 0.0}
"""The value of a comparison whose two sides are equal."""
THE_PAPER = "the paper"
"""The source of a number that the paper itself gives."""
SPECIALIZED = (0.1, 0.4)
"""Share of color in conv1's kernels below which a tower counts as color-agnostic, and above which as color-specific.
The paper gives no numbers."""
_COUNTS = {1: "one", 2: "two", 5: "five", 10: "ten"}


# --- Numbers ----------------------------------------------------------------------------------------------------------


def format_number(value: float, unit: Unit) -> str:
    """A difference with its sign and one decimal, or a ratio with two: "−1.4" points, "−3.3%", "2.04" times."""
    if unit == "times":
        return f"{value:.2f}"
    rounded = round(value, 1) + 0.0  # -0.04 is 0.0, without a sign
    return (f"{rounded:+.1f}" if rounded else "0.0").replace("-", "−") + "%" * (unit == "percent")


def with_unit(number: str, unit: Unit) -> str:
    """A formatted number with its unit: "−1.4 points", "2.04 times", "−3.3%"."""
    return number if unit == "percent" else f"{number} {unit}"


def format_interval(comparison: ComparisonJson) -> str:
    """A measured mean with its 95% interval: "−1.4 (−2.0 to −0.8)"."""
    unit = comparison["unit"]
    if comparison["mean"] is None:
        return "not compared"
    mean = f"{comparison.get('bound', '')} {format_number(comparison['mean'], unit)}".strip()
    if comparison["low"] is None or comparison["high"] is None:
        return f"{mean} (no interval)"
    return f"{mean} ({format_number(comparison['low'], unit)} to {format_number(comparison['high'], unit)})"


def format_measured(comparison: ComparisonJson) -> str:
    """`format_interval` with the unit: "−1.4 points (−2.0 to −0.8)"."""
    mean, bracket, rest = format_interval(comparison).partition(" (")
    return f"{with_unit(mean, comparison['unit'])}{bracket}{rest}" if bracket else mean


def format_published(expected: ExpectationJson, *, short: bool = False) -> str:
    """The published number without its source: "6 times", "−3.3% (1.4 points of 42.1%)"; "no number".

    Args:
        short: the number alone: "6", "−3.3%", "beyond −2.4%".
    """
    paper, unit = expected["paper"], expected["unit"]
    if paper is None:
        return "no number"
    number = "beyond " * expected["is_bound"] + (f"{paper:g}" if unit == "times" else format_number(paper, unit))
    words = f" ({expected['words']})" if expected["words"] else ""
    return number if short else with_unit(number, unit) + words


def format_expected(expected: ExpectationJson) -> str:
    """The published number with its source if that is not the paper; without one, the least effect that counts."""
    if expected["paper"] is None:
        least = expected["least"]
        unit = expected["unit"]
        counts = "" if least is None else f"; least effect {with_unit(format_number(least, unit), unit)}"
        return f"no number{counts}"
    source = "" if expected["source"] == THE_PAPER else f" ({expected['source']})"
    return format_published(expected) + source


def describe_size(expected: ExpectationJson) -> str:
    """The effect that a comparison is held against, in a sentence: "the paper's number, −1.4 points"."""
    if expected["paper"] is None and expected["least"] is not None:
        least = with_unit(format_number(expected["least"], expected["unit"]), expected["unit"])
        return f"the least effect that counts, {least}"
    whose = "the paper's number" if expected["source"] == THE_PAPER else f"the number of {expected['source']}"
    return f"{whose}, {format_published(expected)}"


def format_values(values: Iterable[float | None], *, percent: bool) -> str:
    """The value of each run: "41.2%, 40.8%", "9.21, none". None: it diverged, or did not reach its target."""
    return ", ".join("none" if value is None else f"{value:.1%}" if percent else f"{value:.2f}" for value in values)


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


def compared_quantities(outcome: OutcomeJson) -> list[str]:
    """What the comparisons of an outcome are about, each quantity once, in their order."""
    return list(dict.fromkeys(comparison["quantity"] for comparison in outcome["comparisons"]))


def run_value(run: RunJson, quantity: str, outcome: OutcomeJson) -> float | None:
    """What was measured of a run. None: it has no such value, or did not reach its target."""
    return run["value"] if quantity == outcome["value_name"] else run.get("more", {}).get(quantity)


def run_bound(run: RunJson, quantity: str) -> int | None:
    """The epochs of a run that is trained to a target and did not reach it: it needs more. None for all others."""
    return run.get("epochs_without_target") if quantity.startswith(EPOCHS_TO) else None


def format_runs(variant: VariantJson, quantity: str, outcome: OutcomeJson) -> str:
    """A quantity of a variant's runs: "39.3 ± 0.8%"; "at least 12.00 (1 of 3 runs did not reach it)"; "not reached"."""
    runs = variant["runs"]
    values = [run_value(run, quantity, outcome) for run in runs]
    bounds = [run_bound(run, quantity) for run in runs]
    least = [value if value is not None else bound for value, bound in zip(values, bounds, strict=True)]
    known = [value for value in least if value is not None]
    if any(bound is not None for bound in bounds) and len(known) == len(runs):
        late = sum(value is None for value in values)
        return f"at least {statistics.fmean(known):.2f} ({late} of {len(runs)} runs did not reach it)"
    if quantity.startswith(EPOCHS_TO) and not known and any(run["train_error"] is not None for run in runs):
        return "not reached"
    return format_mean_sd(values, percent=quantity in outcome["fractions"])


def format_seeds(seeds: Sequence[int]) -> str:
    """Seeds as a range where they are consecutive: "0 to 7"."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds)) or "none"


def describe_views(views: int) -> str:
    """Number of views in words: "one view", "ten views"."""
    return f"{_COUNTS.get(views, str(views))} view{'s' * (views != 1)}"


def error_views(variant: VariantJson) -> int:
    """Views with which the top-1 error, top-5 error and loss of a variant's runs were measured."""
    return variant["views"] if variant["averaged"] > 1 else 1


def tower_colors(outcome: OutcomeJson) -> list[tuple[float, float]]:
    """Share of color in the kernels of conv1's two towers, the lower first, of each run that was measured.

    Variants that differ only in their evaluation have the same runs, which count once.
    """
    return list(dict.fromkeys((color[0], color[1]) for variant in outcome["variants"] for run in variant["runs"]
                              if (color := run.get("tower_color"))))


# --- Sentences --------------------------------------------------------------------------------------------------------


def mark(outcome: OutcomeJson) -> str:
    """What stands beside each verdict of an outcome that is not the claim's own design; "" for one that is."""
    if outcome["quick"]:
        return "quick trial"
    return f"not the claim's own design: {', '.join(outcome['departures'])}" if outcome["departures"] else ""


def caution(claim: str, comparison: ComparisonJson) -> str:
    """Why a "supported" is little evidence (`Comparison.caution`); "" without a reason, and for other verdicts.

    Args:
        claim: the claim's name; "" if it is not known.
        comparison: one of its.
    """
    if not comparison["verdict"].startswith("supported") or claim not in CLAIMS:
        return ""
    return next((expected.caution for expected in CLAIMS[claim].comparisons
                 if expected.title == comparison["name"]), "")


def _footnote(claim: str, comparison: ComparisonJson) -> str:
    reason = caution(claim, comparison)
    return reason and f"{claim}, {comparison['name']}: {reason}"


def cautions(outcomes: Iterable[OutcomeJson]) -> list[str]:
    """The footnotes of a table of verdicts, each once, in the order of the table: comparison and reason."""
    return list(dict.fromkeys(
        footnote for outcome in outcomes for comparison in outcome["comparisons"]
        if (footnote := _footnote(outcome["claim"], comparison))))


def footnote_number(footnotes: Sequence[str], outcome: OutcomeJson, comparison: ComparisonJson) -> int:
    """The number, from 1, of a comparison's footnote in `cautions`; 0: it has none."""
    footnote = _footnote(outcome["claim"], comparison)
    return 1 + footnotes.index(footnote) if footnote else 0


def design_notes(outcome: OutcomeJson) -> list[str]:
    """How an outcome differs from a single result of the claim's own design, a sentence each."""
    notes = ["this is a quick trial, which decides nothing"] if outcome["quick"] else []
    if outcome["departures"]:
        notes.append(f"this is not the claim's own design: {', '.join(outcome['departures'])}")
    if earlier := outcome.get("replaces"):
        notes.append(f"of {len(earlier) + 1} results of this design in the file the last is shown; the earlier ones "
                     f"were measured on {', '.join(earlier)}")
    return notes


def tower_sentences(outcome: OutcomeJson) -> str:
    """In how many runs conv1's towers specialize as §6.1 says of every run; "" where it was not measured."""
    colors = tower_colors(outcome)
    if not colors:
        return ""
    gray, colored = SPECIALIZED
    number = sum(least < gray and most > colored for least, most in colors)
    least, most = (statistics.fmean(shares) for shares in zip(*colors, strict=True))
    return (f"in {number} of {len(colors)} runs of networks with two towers, the kernels of conv1 are color-agnostic "
            f"in one tower (under {gray:.0%} color) and color-specific in the other (over {colored:.0%}); the mean "
            f"shares of color are {least:.0%} and {most:.0%}, and random weights have 67% in both; §6.1 says that the "
            "towers specialize in every run; the limits of 10% and 40% are ours, so this is no verdict on that")


def verdict_sentences(comparison: ComparisonJson, claim: str = "") -> str:
    """What was measured and the reason of the verdict; for want of significance also what could have been found.

    Args:
        comparison: its numbers.
        claim: its name, for the `caution`; "": leave it out.
    """
    reason, smallest = comparison["reason"], comparison["minimum_detectable"]
    sentences = [f"{comparison['variant']} against {comparison['reference']}: {_measured(comparison)}.",
                 f"{reason[:1].upper()}{reason[1:].rstrip('.')}."]
    p = comparison["p_holm"]
    if smallest is not None and p is not None and p >= SIGNIFICANCE:
        sentences.append(_detectable(comparison, smallest))
    if reason := caution(claim, comparison):
        sentences.append(f"Caution: {reason}.")
    return " ".join(sentences)


def _measured(comparison: ComparisonJson) -> str:
    """The mean in words, with the intervals, the p value and the number of seeds in brackets."""
    mean, unit, quantity, seeds = (comparison["mean"], comparison["unit"], comparison["quantity"],
                                   len(comparison["values"]))
    if mean is None:
        return "not compared"
    if unit == "times":
        amount = f"{mean:.2f} times the {quantity}"
    elif round(mean, 1):
        size = f"{abs(mean):.1f}{'%' if unit == 'percent' else ' points'}"
        amount = f"{size} {'less' if mean < 0 else 'more'} {quantity}"
    else:
        amount = f"a difference of {with_unit('0.0' + '%' * (unit == 'percent'), unit)} in {quantity}"
    interval = _range(comparison["low"], comparison["high"], unit)
    if "bound" in comparison:
        return f"{comparison['bound']} {amount}"
    if not interval:
        return f"{amount} ({seeds} seed{'s' * (seeds != 1)}, no interval)"
    together, p = _range(comparison["low_all"], comparison["high_all"], unit), comparison["p_holm"]
    parts = [f"95% interval {interval}", f"simultaneous {together}" if together != interval else "",
             "" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.3f}", f"{seeds} seeds"]
    return f"{amount} ({', '.join(part for part in parts if part)})"


def _range(low: float | None, high: float | None, unit: Unit) -> str:
    return "" if low is None or high is None else f"{format_number(low, unit)} to {format_number(high, unit)}"


def _detectable(comparison: ComparisonJson, smallest: float) -> str:
    """Which difference the test finds with a power of 80%, and whether the expected one is that large."""
    expected = comparison["least"] if comparison["paper"] is None else comparison["paper"]
    if comparison["unit"] == "percent" and comparison["sign"] < 0:  # 25% more and 20% fewer are the same ratio
        smallest = 100 * (1 - 1 / (1 + smallest / 100))
    if comparison["unit"] != "times":
        found = f"a true difference of {smallest:.1f}{'%' if comparison['unit'] == 'percent' else ' points'} or more"
        is_large = expected is not None and abs(expected) >= smallest
    else:
        found = f"a true ratio of {smallest:.2f} or more, or of {1 / smallest:.2f} or less,"
        is_large = expected is not None and max(expected, 1 / expected) >= smallest
    sentence = f"The minimum detectable effect: {found} is found in 80% of such experiments"
    if expected is None:
        return f"{sentence}."
    large = "is that large" if is_large else "is smaller, and takes more seeds to find"
    return f"{sentence}; {describe_size(comparison)}, {large}."
