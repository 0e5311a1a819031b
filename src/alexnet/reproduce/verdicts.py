"""Verdict of a comparison: paired test over seeds, Holm's correction, and a reason in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alexnet.reproduce.claims import RATIOS, Claim, Comparison
from alexnet.reproduce.outcome import ComparisonJson, Unit, Verdict
from alexnet.reproduce.significance import LEVEL, PairedTest, holm, paired_test

Pairs = Sequence[tuple[float | None, float | None]]
"""For each seed, the variant's value and the reference's; None where a run has none."""


@dataclass(frozen=True)
class _Tested:
    """A comparison before its correction."""

    comparison: Comparison
    quantity: str
    unit: Unit
    values: list[float]
    missing: int
    """Pairs of which a run has no value."""
    test: PairedTest | None
    """On points, or on logarithms of ratios. None: some are missing, or there is no spread to test against."""

    def back(self, number: float) -> float:
        """From the test's scale to the comparison's unit."""
        return math.exp(number) if self.unit == "times" else number

    def text(self, number: float) -> str:
        """A number in the comparison's unit."""
        return f"{number:.2f} times" if self.unit == "times" else f"{number:+.1f} points"


def judge(
    claim: Claim, pairs: Sequence[Pairs], names: Mapping[str, str], no_verdict: str = "",
) -> list[ComparisonJson]:
    """Compare what a claim compares.

    Args:
        claim: its comparisons.
        pairs: for each comparison, the values seed by seed: fractions, or epochs.
        names: of the quantities.
        no_verdict: why nothing is judged; "" where there is no such reason.
    """
    tested = [_test(comparison, values, names[comparison.quantity])
              for comparison, values in zip(claim.comparisons, pairs, strict=True)]
    # A comparison without a test counts for the correction, too: it was planned.
    corrected = holm([one.test.p if one.test else 1.0 for one in tested])
    return [_to_json(one, p, no_verdict) for one, p in zip(tested, corrected, strict=True)]


def _test(comparison: Comparison, pairs: Pairs, quantity: str) -> _Tested:
    unit: Unit = "times" if comparison.quantity in RATIOS else "points"
    whole = [(variant, reference) for variant, reference in pairs if variant is not None and reference is not None]
    values = [variant / reference if unit == "times" else 100 * (variant - reference) for variant, reference in whole]
    missing = len(pairs) - len(whole)
    scaled = [math.log(value) for value in values] if unit == "times" else values
    # Equal differences of counts differ as floats in the last digits, which is no spread.
    spread = {round(value, 9) for value in scaled}
    test = paired_test(scaled) if len(spread) > 1 and not missing else None
    return _Tested(comparison, quantity, unit, values, missing, test)


def _to_json(one: _Tested, p_holm: float, no_verdict: str) -> ComparisonJson:
    test, comparison = one.test, one.comparison
    verdict, reason = _verdict(one, p_holm) if not no_verdict else ("undecided", no_verdict)
    is_judged = test is not None and not no_verdict
    return {
        "name": comparison.title, "variant": comparison.variant, "reference": comparison.reference,
        "quantity": one.quantity, "unit": one.unit, "paper": comparison.paper, "sign": comparison.sign,
        "values": one.values,
        "mean": one.back(test.mean) if test else one.values[0] if one.values and not one.missing else None,
        "low": one.back(test.low) if test else None, "high": one.back(test.high) if test else None,
        "p": test.p if test and is_judged else None, "p_holm": p_holm if is_judged else None,
        "minimum_detectable": one.back(test.minimum_detectable) if test and is_judged else None,
        "verdict": verdict, "reason": reason}


def _verdict(one: _Tested, p_holm: float) -> tuple[Verdict, str]:
    test, comparison = one.test, one.comparison
    if one.missing:
        total = one.missing + len(one.values)
        return "undecided", (f"of {one.missing} of {total} seeds a run diverged or did not get to the "
                             f"{one.quantity.removeprefix('epochs to ')}, and the others alone would mislead")
    if test is None:
        return "undecided", "one seed gives no interval" if len(one.values) == 1 else (
            "all seeds give the same number, so there is no spread to test against")
    same_sign = test.mean * comparison.sign > 0
    if p_holm < LEVEL:
        reason = f"the {'ratio' if one.unit == 'times' else 'difference'} has the " + (
            "claim's sign" if same_sign else "opposite sign") + f" and is significant (p = {p_holm:.2g})"
        return "supported" if same_sign else "contradicted", reason + _against_paper(one, test)
    detectable = one.text(one.back(test.minimum_detectable)).lstrip("+")
    return "undecided", (f"no significant difference (p = {p_holm:.2g}); the test finds one of {detectable} with a "
                         f"power of 80%{_against_paper(one, test)}")


def _against_paper(one: _Tested, test: PairedTest) -> str:
    paper = one.comparison.paper
    if paper is None:
        return ""
    low, high = one.back(test.low), one.back(test.high)
    if low <= paper <= high:
        return f"; the interval contains the paper's {one.text(paper)}"
    beyond = (low - paper if paper < low else high - paper) * one.comparison.sign > 0
    return f"; the effect is {'larger' if beyond else 'smaller'} than the paper's {one.text(paper)}"
