"""Verdict of a comparison: paired t test over seeds, corrected p, simultaneous intervals, and the reason."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from alexnet.inference.statistics import SIGNIFICANCE, holm
from alexnet.reproduce.claim import UNITS, Claim, Comparison, Unit
from alexnet.reproduce.outcome import Bound, Bounded, ComparisonJson, ExpectationJson, Verdict
from alexnet.reproduce.results_text import THE_PAPER, describe_size
from alexnet.reproduce.t_tests import TTest, paired_t_test

Pairs = Sequence[tuple[float | None, float | None]]
"""For each seed, the variant's value and the reference's; None where a run has none."""


@dataclass(frozen=True)
class _Tested:
    """A comparison before its correction."""

    expected: ExpectationJson
    quantity: str
    values: list[float]
    missing: int
    """Pairs of which a run has no value."""
    test: TTest | None
    """On the scale of `_to_scale`. None: values are missing, or there is no spread to test against."""
    bound: Bound | None
    """What the mean is of the true one, where runs of one side ended before they reached the target."""
    late: int
    """Pairs of which a run did so."""
    refusal: str
    """Why it is not judged; "" if it is."""

    def back(self, number: float) -> float:
        """From the test's scale to the comparison's unit: the inverse of `_to_scale`."""
        unit = self.expected["unit"]
        return number if unit == "points" else math.exp(number) if unit == "times" else 100 * math.expm1(number)

    @property
    def needed(self) -> float:
        """The effect that the comparison is held against, on the test's scale and positive in the claim's direction."""
        expected = self.expected
        size = expected["least"] if expected["paper"] is None else expected["paper"]
        if size is None:
            return -math.inf
        return expected["sign"] * _to_scale(size, expected["unit"])

    def effects(self, test: TTest) -> tuple[float, float]:
        """The smallest and the largest effect in the simultaneous interval, in the same way."""
        weakest, strongest = sorted(self.expected["sign"] * end for end in (test.low_all, test.high_all))
        return weakest, strongest


def expectation(comparison: Comparison) -> ExpectationJson:
    """What a claim expects of a comparison, as data."""
    return {"name": comparison.title, "variant": comparison.variant, "reference": comparison.reference,
            "unit": UNITS.get(comparison.quantity, "points"), "paper": comparison.paper, "words": comparison.words,
            "is_bound": comparison.is_bound, "source": comparison.source, "least": comparison.least,
            "sign": comparison.sign}


def judge(
    claim: Claim, pairs: Sequence[Pairs], names: Mapping[str, str], no_verdict: str = "",
    edge_variants: Collection[str] = (), unfinished_epochs: Sequence[Pairs] | None = None,
) -> list[ComparisonJson]:
    """Compare what a claim compares.

    Args:
        claim: its comparisons, and the number of seeds that it plans.
        pairs: for each comparison, the values seed by seed: fractions, epochs or losses.
        names: of the quantities.
        no_verdict: why nothing is judged; "" where there is no such reason.
        edge_variants: names of the variants whose best learning rate is an end of its grid. They are not judged.
        unfinished_epochs: for each comparison, the epochs of the runs that ended before they reached the target, seed
            by seed.
    """
    unfinished_epochs = unfinished_epochs or [[(None, None)] * len(values) for values in pairs]
    tested = [_test(comparison, values, late, names[comparison.quantity], len(claim.comparisons),
                    no_verdict or _refusal(claim, comparison, len(values), edge_variants))
              for comparison, values, late in zip(claim.comparisons, pairs, unfinished_epochs, strict=True)]
    # A comparison that is not judged counts for the correction, too: it was planned.
    corrected = holm([one.test.p if one.test and not one.refusal else 1.0 for one in tested])
    return [_to_json(one, p, len(tested)) for one, p in zip(tested, corrected, strict=True)]


def _refusal(claim: Claim, comparison: Comparison, seeds: int, edge_variants: Collection[str]) -> str:
    """Why the runs that were made cannot decide a comparison; "" if they can."""
    reasons = []
    if seeds < claim.seeds:
        reasons.append(f"the claim plans {claim.seeds} seeds, {seeds} {'was' if seeds == 1 else 'were'} run: stopping "
                       "early can mislead")
    if ends := [name for name in (comparison.variant, comparison.reference) if name in edge_variants]:
        reasons.append(f"the best learning rate of {' and of '.join(ends)} is an end of the rates that were tried, so "
                       "a better one may exist")
    return "; ".join(reasons)


def _test(
    comparison: Comparison, pairs: Pairs, unfinished_epochs: Pairs, quantity: str, comparisons: int, refusal: str,
) -> _Tested:
    expected = expectation(comparison)
    unit = expected["unit"]
    bounded, bound = _with_unfinished(pairs, unfinished_epochs)
    values, compared = _compare(pairs, unit), _compare(bounded, unit)
    scaled = [_to_scale(value, unit) for value in compared]
    missing = len(pairs) - len(compared)
    # Equal differences of counts differ as floats in the last digits, which is no spread.
    has_spread = len({round(value, 9) for value in scaled}) > 1
    if missing:
        reached = " or did not reach the target" if comparison.quantity == "epochs" else ""
        refusal = refusal or (f"in {missing} of {len(pairs)} seeds a run diverged{reached}, and the others alone would "
                              "mislead")
    elif not has_spread:
        refusal = refusal or ("one seed gives no interval" if len(compared) == 1 else
                              "all seeds give the same number, so there is no spread to test against")
    test = paired_t_test(scaled, comparisons) if has_spread and not missing else None
    return _Tested(expected, quantity, values, missing, test, bound, len(compared) - len(values), refusal)


def _compare(pairs: Pairs, unit: Unit) -> list[float]:
    """The comparison, in its unit, of the pairs that have both values."""
    whole = [(variant, reference) for variant, reference in pairs if variant is not None and reference is not None]
    if unit == "points":
        return [100 * (variant - reference) for variant, reference in whole]
    return [variant / reference if unit == "times" else 100 * (variant / reference - 1) for variant, reference in whole]


def _to_scale(value: float, unit: Unit) -> float:
    """From a comparison's unit to the test's scale: points stay, ratios and relative differences become logarithms."""
    return value if unit == "points" else math.log(value) if unit == "times" else math.log1p(value / 100)


def _with_unfinished(pairs: Pairs, unfinished_epochs: Pairs) -> tuple[Pairs, Bound | None]:
    """Let a run that did not reach the target count with the epochs that it had, if such runs are on one side only.

    The mean is then a bound of the true one. A test that finds it on the far side of "no difference" is conservative.
    """
    late = {side for pair, epochs in zip(pairs, unfinished_epochs, strict=True) for side in (0, 1)
            if pair[side] is None and epochs[side] is not None}
    if len(late) != 1:
        return pairs, None
    filled = [tuple(epochs if value is None else value for value, epochs in zip(pair, epochs_pair, strict=True))
              for pair, epochs_pair in zip(pairs, unfinished_epochs, strict=True)]
    return [(variant, reference) for variant, reference in filled], "at least" if 0 in late else "at most"


def _to_json(one: _Tested, p_holm: float, comparisons: int) -> ComparisonJson:
    verdict, reason = _decide(one, p_holm, comparisons)
    back, test, judged = one.back, one.test, None if one.refusal else one.test
    interval = None if one.bound else test  # a bound is known of the mean alone
    only_mean = one.values[0] if one.values and not one.missing else None
    bound: Bounded = {"bound": one.bound} if one.bound and test else {}
    return {
        **one.expected, "quantity": one.quantity, "values": one.values,
        "mean": back(test.mean) if test else only_mean, **bound,
        "low": back(interval.low) if interval else None, "high": back(interval.high) if interval else None,
        "low_all": back(interval.low_all) if interval else None,
        "high_all": back(interval.high_all) if interval else None,
        "p": judged.p if judged else None, "p_holm": p_holm if judged else None,
        "minimum_detectable": back(judged.minimum_detectable) if judged and interval else None,
        "verdict": verdict, "reason": reason}


def _decide(one: _Tested, p_holm: float, comparisons: int) -> tuple[Verdict, str]:
    """The verdict, and its reason."""
    if one.refusal or one.test is None:
        return "undecided", one.refusal
    if one.bound:
        return _verdict_of_bound(one, one.test, p_holm)
    return _verdict(one, one.test, p_holm, comparisons)


def _verdict_of_bound(one: _Tested, test: TTest, p_holm: float) -> tuple[Verdict, str]:
    """The rules of `Verdict` where only a bound of the ratio is known: the true effect may be larger, not smaller."""
    slow = one.expected["variant" if one.bound == "at least" else "reference"]
    late = (f"in {one.late} of {one.late + len(one.values)} seeds {slow} did not reach the target, and counts with the "
            "epochs that it had")
    is_conservative = test.mean > 0 if one.bound == "at least" else test.mean < 0
    if p_holm >= SIGNIFICANCE or not is_conservative:
        return "undecided", f"{late}, which decides nothing"
    if one.expected["sign"] * test.mean < 0:
        return "contradicted", f"the ratio is significant and has the opposite sign; {late}"
    if one.effects(test)[0] > one.needed > -math.inf:
        return "supported", (f"the ratio is significant and has the claim's sign, and the interval of the bound lies "
                             f"beyond {describe_size(one.expected)}: {late}")
    return "supported in sign", f"the ratio is significant and has the claim's sign; its size is open: {late}"


def _verdict(one: _Tested, test: TTest, p_holm: float, comparisons: int) -> tuple[Verdict, str]:
    """The rules of `Verdict`."""
    expected = one.expected
    noun = "ratio" if expected["unit"] == "times" else "difference"
    interval = "simultaneous interval" if comparisons > 1 else "interval"
    (weakest, strongest), needed = one.effects(test), one.needed
    is_smaller, has_size = strongest < needed, needed > -math.inf
    smaller = f"its whole {interval} is a smaller effect than {describe_size(expected)}" if is_smaller else ""
    is_significant = p_holm < SIGNIFICANCE
    if is_significant and expected["sign"] * test.mean < 0:
        return "contradicted", f"the {noun} is significant and has the opposite sign"
    if is_smaller and expected["paper"] is None:  # such an effect counts as none, significant or not
        found = "significant, but" if is_significant else "not significant, and"
        return "contradicted", f"no effect of a size that counts: the {noun} is {found} {smaller}"
    if is_significant:
        if is_smaller:
            return "supported in sign", f"the {noun} is significant and has the claim's sign, but {smaller}"
        place = "lies beyond" if weakest > needed else "reaches"
        reached = f", and its {interval} {place} {describe_size(expected)}" if has_size else ""
        return "supported", f"the {noun} is significant and has the claim's sign{reached}"
    if is_smaller:
        whose = "paper's" if expected["source"] == THE_PAPER else "published"
        return "contradicted", f"no effect of the {whose} size: the {noun} is not significant, and {smaller}"
    both = f", and its {interval} contains both no difference and {describe_size(expected)}" if has_size else ""
    return "undecided", f"the {noun} is not significant{both}"
