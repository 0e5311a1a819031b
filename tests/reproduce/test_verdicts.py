"""Verdicts: supported, supported in sign only, contradicted, and the many ways to be undecided."""

from __future__ import annotations

import json
import math
import statistics

import pytest

from alexnet.reproduce.claim import Claim, Comparison, Variant
from alexnet.reproduce.claims import CLAIMS
from alexnet.reproduce.design import Design
from alexnet.reproduce.finished_run import FinishedRun
from alexnet.reproduce.measures import reproduce
from alexnet.reproduce.quantities import quantity_names
from alexnet.reproduce.verdicts import judge
from alexnet.reproduce.weight_measures import MEASURES_VERSION

NAMES = quantity_names(CLAIMS["dropout"])


def claim_of(*comparisons, seeds):
    return Claim("c", "", "", "", (Variant("a"), Variant("b")), comparisons, 1, seeds=seeds)


def judged(reference, variant, sign=-1, paper=None, quantity="top1", others=(), no_verdict="", edge_variants=(),
           seeds=None, **expected):
    """The comparison of b with a, beside others that belong to the same claim."""
    own = Comparison("b", "a", sign, paper, quantity, **expected)
    pairs = [list(zip(variant, reference, strict=True))] + [list(zip(y, x, strict=True)) for x, y in others]
    claim = claim_of(own, *[Comparison("d", "c", -1)] * len(others), seeds=seeds or len(reference))
    return judge(claim, pairs, NAMES, no_verdict, edge_variants)[0]


LOWER = (0.40, 0.42, 0.41, 0.43), (0.37, 0.385, 0.39, 0.395)
"""Differences of -3, -3.5, -2 and -3.5 points: mean -3, standard deviation 0.7071, t = -8.485 with 3 degrees.
The interval is -3 +- 3.182 * 0.35355, or -4.125 to -1.875; of two comparisons, -3 +- 4.177 * 0.35355, or -4.477 to
-1.523 (t at 1 - 0.05 / 4)."""
NULL = (0.400, 0.400, 0.400, 0.400), (0.401, 0.398, 0.401, 0.399)
"""Differences of 0.1, -0.2, 0.1 and -0.1 points: mean -0.025, standard deviation 0.15. The interval is -0.264 to 0.214;
of two comparisons, -0.338 to 0.288."""
WIDE = (0.40, 0.42, 0.41, 0.43), (0.41, 0.40, 0.42, 0.41)
"""Differences of 1, -2, 1 and -2 points: mean -0.5, standard deviation sqrt(3), interval -3.26 to 2.26."""


def test_fewer_errors_support_a_claim_of_fewer_and_contradict_one_of_more():
    comparison = judged(*LOWER)
    assert comparison["values"] == pytest.approx([-3, -3.5, -2, -3.5])
    assert comparison["mean"] == pytest.approx(-3)
    for ends in (("low", "high"), ("low_all", "high_all")):  # the same for a single comparison
        assert [comparison[end] for end in ends] == pytest.approx([-4.125, -1.875], abs=1e-3)
    assert comparison["p"] == pytest.approx(0.00344, abs=5e-5)
    assert comparison["verdict"] == "supported"
    opposite = judged(*LOWER, sign=+1, paper=2.0)
    assert (opposite["verdict"], opposite["reason"]) == (
        "contradicted", "the difference is significant and has the opposite sign")


def test_errors_are_compared_as_relative_differences():
    """Ratios 0.925, 0.916667, 0.951220, 0.918605, so 7.5% to 4.9% fewer. Their logarithms have the mean -0.074971 and
    the standard deviation 0.017084; the interval is -0.074971 +- 3.1824 * 0.008542, or -9.71% to -4.67%."""
    comparison = judged(*LOWER, quantity="errors", paper=-4.9)
    assert comparison["unit"] == "percent"
    assert comparison["values"] == pytest.approx([-7.5, -8.3333, -4.8780, -8.1395], abs=1e-3)
    assert [comparison[key] for key in ("mean", "low", "high")] == pytest.approx([-7.223, -9.711, -4.666], abs=2e-3)
    assert (comparison["verdict"], comparison["reason"]) == (
        "supported", f"{SIGNIFICANT}, and its interval reaches the paper's number, −4.9%")
    assert judged(*LOWER, quantity="errors", paper=-4.6)["reason"].endswith("lies beyond the paper's number, −4.6%")
    assert judged(*LOWER, quantity="errors", paper=-9.8)["verdict"] == "supported in sign"


SIGNIFICANT = "the difference is significant and has the claim's sign"


@pytest.mark.parametrize(("expected", "verdict", "reason"), [
    ({"paper": -2.5}, "supported", ", and its interval reaches the paper's number, −2.5 points"),
    ({"paper": -4.1}, "supported", ", and its interval reaches the paper's number, −4.1 points"),
    ({"paper": -1.4}, "supported", ", and its interval lies beyond the paper's number, −1.4 points"),
    ({"paper": -1.0, "is_bound": True}, "supported",
     ", and its interval lies beyond the paper's number, beyond −1.0 points"),
    ({"least": -1.0}, "supported", ", and its interval lies beyond the least effect that counts, −1.0 points"),
    ({"paper": -4.2}, "supported in sign",
     ", but its whole interval is a smaller effect than the paper's number, −4.2 points"),
    ({"paper": -4.2, "source": "somebody"}, "supported in sign",
     ", but its whole interval is a smaller effect than the number of somebody, −4.2 points")])
def test_a_significant_difference_supports_the_claim_or_only_its_sign(expected, verdict, reason):
    comparison = judged(*LOWER, **expected)
    assert (comparison["verdict"], comparison["reason"]) == (verdict, SIGNIFICANT + reason)


@pytest.mark.parametrize(("expected", "verdict", "reason"), [
    ({"paper": -1.4}, "contradicted", "no effect of the paper's size: the difference is not significant, and its whole "
     "interval is a smaller effect than the paper's number, −1.4 points"),
    ({"paper": 0.3, "sign": +1}, "contradicted", "no effect of the paper's size: the difference is not significant, "
     "and its whole interval is a smaller effect than the paper's number, +0.3 points"),
    ({"paper": -1.4, "source": "somebody"}, "contradicted", "no effect of the published size: the difference is not "
     "significant, and its whole interval is a smaller effect than the number of somebody, −1.4 points"),
    ({"least": -1.0}, "contradicted", "no effect of a size that counts: the difference is not significant, and its "
     "whole interval is a smaller effect than the least effect that counts, −1.0 points"),
    ({"paper": -0.2}, "undecided", "the difference is not significant, and its interval contains both no difference "
     "and the paper's number, −0.2 points"),
    ({}, "undecided", "the difference is not significant")])
def test_a_precise_null_contradicts_and_excludes_effects_of_the_papers_size(expected, verdict, reason):
    comparison = judged(*NULL, **expected)
    assert (comparison["verdict"], comparison["reason"]) == (verdict, reason)


def test_a_significant_effect_that_is_smaller_than_the_least_that_counts_counts_as_none():
    comparison = judged(*LOWER, least=-5.0)
    assert (comparison["verdict"], comparison["reason"]) == (
        "contradicted", "no effect of a size that counts: the difference is significant, but its whole interval is a "
        "smaller effect than the least effect that counts, −5.0 points")
    assert judged(*LOWER, least=-4.1)["verdict"] == "supported"


def test_an_imprecise_null_decides_nothing_however_small_its_mean_is():
    assert judged(*WIDE, paper=-3.2)["verdict"] == "undecided"
    assert judged(*WIDE, paper=-3.3)["verdict"] == "contradicted"  # -3.26 is the end of the interval


def test_sizes_are_judged_by_the_simultaneous_interval_of_all_comparisons():
    comparison = judged(*LOWER, paper=-4.3, others=[WIDE])
    assert [comparison[end] for end in ("low", "high")] == pytest.approx([-4.125, -1.875], abs=1e-3)
    assert [comparison[end] for end in ("low_all", "high_all")] == pytest.approx([-4.477, -1.523], abs=1e-3)
    assert judged(*LOWER, paper=-4.3)["verdict"] == "supported in sign"
    assert comparison["verdict"] == "supported"
    assert comparison["reason"].endswith("its simultaneous interval reaches the paper's number, −4.3 points")
    assert judged(*NULL, paper=-0.3)["verdict"] == "contradicted"
    assert judged(*NULL, paper=-0.3, others=[WIDE])["verdict"] == "undecided"


@pytest.mark.parametrize(("sign", "expected"), [(+1, {"least": 1.1}), (-1, {"least": 1 / 1.1}), (+1, {"paper": 6.0})])
def test_a_ratio_of_nearly_1_contradicts_effects_on_both_sides(sign, expected):
    """Ratios of 1.02, 0.98, 1.01 and 0.99: logarithms with a standard deviation of 0.0183, interval 0.971 to 1.029."""
    equal, larger = (100, 100, 100, 100), (102, 98, 101, 99)
    comparison = judged(equal, larger, sign=sign, quantity="epochs", **expected)
    assert (comparison["low"], comparison["high"]) == pytest.approx((0.971, 1.029), abs=1e-3)
    assert comparison["verdict"] == "contradicted"
    assert judged(equal, larger, sign=sign, quantity="epochs", least=1.02**sign)["verdict"] == "undecided"


@pytest.mark.parametrize(("expected", "verdict"), [
    ({"least": 1.1}, "supported"), ({"paper": 4.5}, "supported"), ({"paper": 4.7}, "supported in sign"),
    ({}, "supported in sign")])
def test_runs_that_do_not_reach_the_target_support_an_effect_that_their_bound_exceeds(expected, verdict):
    """Ratios of 5, 8, 6 and 8, of which both 8s are runs that ended: logarithms 1.6094, 2.0794, 1.7918 and 2.0794, mean
    1.8900, standard deviation 0.2324, so the interval of the bound begins at exp(1.8900 - 3.182 * 0.1162) = 4.57."""
    slow, fast = (50.0, None, 60.0, None), (10.0, 10.0, 10.0, 10.0)
    pairs, unfinished = [[*zip(slow, fast, strict=True)]], [[(80.0, 80.0)] * 4]
    claim = claim_of(Comparison("slow", "fast", 1, quantity="epochs", **expected), seeds=4)
    (comparison,) = judge(claim, pairs, NAMES, unfinished_epochs=unfinished)
    assert (comparison["verdict"], comparison["bound"]) == (verdict, "at least")
    assert comparison["mean"] == pytest.approx(1920**0.25)
    inverse = {key: 1 / value for key, value in expected.items()}
    claim = claim_of(Comparison("fast", "slow", -1, quantity="epochs", **inverse), seeds=4)
    (comparison,) = judge(claim, [[*zip(fast, slow, strict=True)]], NAMES, unfinished_epochs=unfinished)
    assert (comparison["verdict"], comparison["bound"]) == (verdict, "at most")
    opposite = claim_of(Comparison("fast", "slow", 1, quantity="epochs", least=1.1), seeds=4)
    (comparison,) = judge(opposite, [[*zip(fast, slow, strict=True)]], NAMES, unfinished_epochs=unfinished)
    assert comparison["verdict"] == "contradicted"


def test_what_is_expected_is_data():
    comparison = judged(*LOWER, paper=-1.0, words="one fewer", is_bound=True, source="somebody")
    expected = {"name": "b against a", "variant": "b", "reference": "a", "unit": "points", "sign": -1, "paper": -1.0,
                "words": "one fewer", "is_bound": True, "source": "somebody", "least": None}
    assert expected.items() <= comparison.items()


def test_differences_are_paired_by_seed():
    """The seeds differ by 30 points and the variants by about one: unpaired, nothing would be significant."""
    comparison = judged((0.1, 0.2, 0.3, 0.4), (0.09, 0.188, 0.291, 0.389))
    assert comparison["verdict"] == "supported"


def test_an_undecided_comparison_has_the_effect_that_would_have_been_found():
    comparison = judged(*WIDE, paper=-3.0)
    assert (comparison["verdict"], comparison["p_holm"]) == ("undecided", pytest.approx(0.604, abs=1e-3))
    # SciPy's nct, 3 degrees: t > 3.182 in 80% of tests at a shift of 4.2559 standard errors of sqrt(3) / 2 points;
    # beside a second comparison the test needs p < 0.025: t > 4.177, at a shift of 5.4321.
    assert comparison["minimum_detectable"] == pytest.approx(3.686, abs=1e-3)
    assert judged(*WIDE, others=[NULL])["minimum_detectable"] == pytest.approx(5.4321 * 3**0.5 / 2, abs=1e-3)


def test_fewer_seeds_than_the_claim_plans_decide_nothing_and_more_do():
    comparison = judged(*LOWER, seeds=8)
    assert (comparison["verdict"], comparison["reason"]) == (
        "undecided", "the claim plans 8 seeds, 4 were run: stopping early can mislead")
    assert (comparison["p"], comparison["p_holm"], comparison["minimum_detectable"]) == (None,) * 3
    assert comparison["low"] == pytest.approx(-4.125, abs=1e-3)
    assert judged(*LOWER, seeds=3)["verdict"] == "supported"


@pytest.mark.parametrize(("edge_variants", "names"), [({"b"}, "b"), ({"a", "b"}, "b and of a")])
def test_a_network_whose_best_rate_is_an_end_of_its_grid_is_not_judged(edge_variants, names):
    comparison = judged(*LOWER, edge_variants=edge_variants)
    assert (comparison["verdict"], comparison["reason"]) == (
        "undecided", f"the best learning rate of {names} is an end of the rates that were tried, so a better one may "
        "exist")
    assert comparison["p_holm"] is None
    assert judged(*LOWER, edge_variants={"c"})["verdict"] == "supported"


def test_what_is_not_judged_counts_for_the_correction_too():
    """Both differences are significant alone; the second network's rate is an end, and its p counts as 1."""
    lowest = (0.4, 0.4, 0.4, 0.4), (0.37, 0.371, 0.369, 0.37)  # t = -73: the smaller p of the two
    assert judged(*LOWER, others=[lowest])["p_holm"] == pytest.approx(0.00344, abs=5e-5)
    comparison = judged(*LOWER, others=[lowest], edge_variants={"d"})
    assert comparison["p_holm"] == pytest.approx(2 * comparison["p"])
    assert comparison["verdict"] == "supported"


def test_holms_correction_counts_all_comparisons_of_a_claim():
    """Differences -3, -2, -4, -0.7: t = -3.44, p = 0.041; beside a second, null comparison it is doubled."""
    reference, variant = (0.4, 0.4, 0.4, 0.4), (0.37, 0.38, 0.36, 0.393)
    alone, beside = judged(reference, variant), judged(reference, variant, others=[WIDE])
    assert alone["p"] == beside["p"] == pytest.approx(0.0412, abs=5e-4)
    assert alone["verdict"] == "supported"
    assert beside["p_holm"] == pytest.approx(2 * beside["p"])
    assert beside["p_holm"] > 0.05
    assert beside["verdict"] == "undecided"


def test_a_comparison_without_a_test_counts_for_the_correction_too():
    missing = (0.4, None, 0.4, 0.4), (0.3, 0.3, 0.3, 0.3)
    comparison = judged(*LOWER, others=[missing])
    assert comparison["p_holm"] == pytest.approx(2 * comparison["p"])


def test_epochs_are_compared_as_logarithms_of_ratios():
    """Ratios 1, 2, 4 and 8: the geometric mean is 2^1.5, and 1.5 / (1.291 / 2) = 2.324 standard errors."""
    comparison = judged((10, 10, 5, 2), (10, 20, 20, 16), sign=+1, paper=2.0, quantity="epochs")
    assert comparison["unit"] == "times"
    assert comparison["values"] == [1, 2, 4, 8]
    assert comparison["mean"] == pytest.approx(2**1.5)
    assert comparison["p"] == pytest.approx(0.1027, abs=5e-4)
    half_width = 3.182 * math.log(2) * statistics.stdev([0, 1, 2, 3]) / 2
    assert comparison["high"] == pytest.approx(2**1.5 * math.exp(half_width), rel=1e-3)
    assert comparison["minimum_detectable"] > 1
    assert comparison["verdict"] == "undecided"


def test_a_run_that_did_not_get_there_makes_the_comparison_undecided():
    comparison = judged((10, 11, 12, 13), (100, 120, None, 150), sign=+1, quantity="epochs")
    assert comparison["verdict"] == "undecided"
    assert (comparison["mean"], comparison["low"], comparison["p"], comparison["p_holm"]) == (None,) * 4
    assert comparison["reason"] == ("in 1 of 4 seeds a run diverged or did not reach the target, and the others alone "
                                    "would mislead")
    error = judged((0.4, 0.41, 0.42, 0.43), (0.3, 0.31, None, 0.33))
    assert error["reason"] == "in 1 of 4 seeds a run diverged, and the others alone would mislead"
    nothing = judged((None, None), (None, None), quantity="epochs")
    assert (nothing["verdict"], nothing["mean"], nothing["values"]) == ("undecided", None, [])


@pytest.mark.parametrize(("reference", "variant", "reason"), [
    ((0.4,), (0.3,), "one seed gives no interval"),
    ((1000 / 3925, 914 / 3925), (1100 / 3925, 1014 / 3925), "all seeds give the same number, so there is no spread to "
     "test against"),  # 100 errors more each time, in floats 2.547770700636942 and 2.5477707006369394
    ((0.4, 0.4), (0.4, 0.4), "all seeds give the same number, so there is no spread to test against")])
def test_without_a_spread_nothing_is_decided(reference, variant, reason):
    comparison = judged(reference, variant)
    assert (comparison["verdict"], comparison["reason"], comparison["low"]) == ("undecided", reason, None)


def test_what_is_not_judged_has_its_numbers_and_no_p():
    comparison = judged(*LOWER, no_verdict="--quick decides nothing")
    assert (comparison["verdict"], comparison["reason"]) == ("undecided", "--quick decides nothing")
    assert comparison["mean"] == pytest.approx(-3)
    assert (comparison["p"], comparison["p_holm"], comparison["minimum_detectable"]) == (None,) * 3


# --- From runs to an outcome, with runs that are made up --------------------------------------------------------------


class PlayedRuns:
    """Runs whose errors are given: by the variant's name, the rate and the seed."""

    device, precision = "cpu", "fp32"

    def __init__(self, packed, folder, errors):
        self.packed, self.folder, self.errors = packed, folder, errors
        self.jobs = []

    def subset(self, images_per_class, *, draw=0, tuning=False):
        return self.packed

    def train_all(self, jobs):
        self.jobs += jobs
        return [self.run(job) for job in jobs]

    def run(self, job):
        error, clean, norm = self.errors(job)
        folder = self.folder / f"{len(self.jobs)}-{id(job)}"
        folder.mkdir()
        (folder / "measured.json").write_text(json.dumps({"version": MEASURES_VERSION, "norm": norm}))
        curve = tuple({"epoch": epoch, "train_error": value, "train_loss": value} for epoch, value in clean)
        validated = {"val_top1_error": error, "val_top5_error": error / 5, "val_loss": 4 * error}
        return FinishedRun(folder, curve, validated, 0.75, "last epoch", "", "here", "fp32")


def played(claim, packed, tmp_path, errors, **options):
    runs = PlayedRuns(packed, tmp_path, errors)
    return reproduce(Design.of(claim, packed, **options), runs), runs


def test_dropout_is_judged_by_errors_and_by_epochs_at_each_variants_own_best_rate(packed, tmp_path):
    """Without dropout 0.01 is best and with it 0.1 is, so that grid is extended; the fresh seeds run at these."""
    best = {0.0: 0.01, 0.5: 0.1}

    def errors(job):
        dropout, rate = job.arch.dropout, job.recipe.learning_rate
        error = 0.4 - 0.03 * (dropout > 0) + abs(math.log10(rate / best[dropout])) / 10 + 0.002 * (job.seed % 3)
        slow = 2 + job.seed % 2 / 10 if dropout else 1
        return error, [(10 * slow, 0.05), (150, 0.01)], None

    outcome, runs = played(CLAIMS["dropout"], packed, tmp_path, errors, images_per_class=20)
    without, with_dropout, *_ = outcome["variants"]
    assert (without["rate"], without["interior"], len(without["tuning"])) == (0.01, True, 3)
    assert (with_dropout["rate"], with_dropout["interior"], len(with_dropout["tuning"])) == (0.1, True, 5)
    assert with_dropout["tuning"][-1]["rate"] == 0.3
    assert [run["seed"] for run in without["runs"]] == list(range(8))
    assert without["runs"][0] == {
        "seed": 0, "top1_error": 0.4, "top5_error": 0.08, "loss": 1.6, "train_error": 0.01, "train_loss": 0.01,
        "value": 0.4, "more": {"overfitting gap": 0.4 - 0.01, "validation loss": 1.6,
                               "epochs to 5% clean training error": 10.0}}
    errors_, loss, epochs = outcome["comparisons"]
    assert (errors_["unit"], loss["unit"]) == ("points", "times")
    assert loss["values"][0] == pytest.approx(1.48 / 1.6)  # 4 x 0.37 and 4 x 0.4
    assert errors_["mean"] == pytest.approx(-3, abs=0.01)
    assert epochs["values"][:2] == pytest.approx([2.0, 2.1])
    assert epochs["verdict"] == "supported"
    fresh = {job.seed for job in runs.jobs if job.keep_weights}
    assert fresh == set(range(8))
    assert {job.seed for job in runs.jobs if not job.keep_weights} == {1000, 1001}


def lrn_errors(weight):
    def errors(job):
        has_sum = job.arch.norm == "lrn" and job.arch.lrn.alpha > 0
        edge = abs(math.log10(job.recipe.learning_rate / 0.001)) / 10
        return 0.4 + edge - 0.02 * has_sum + 0.001 * ((job.seed * (2 if has_sum else 3)) % 4), [(40, 0.1)], (
            weight if has_sum else 0.0)
    return errors


def test_response_normalization_that_is_a_constant_factor_is_not_judged(packed, tmp_path):
    outcome, _ = played(CLAIMS["lrn"], packed, tmp_path, lrn_errors(0.0999))
    for comparison in outcome["comparisons"]:
        assert comparison["verdict"] == "undecided"
        assert comparison["reason"].startswith("alpha x sum / k is 9.99% on average, under 10%")
        assert comparison["p_holm"] is None
    assert outcome["comparisons"][0]["reason"] in outcome["notes"]
    (folder := tmp_path / "more").mkdir()
    judged_, _ = played(CLAIMS["lrn"], packed, folder, lrn_errors(0.1001))
    assert [comparison["verdict"] for comparison in judged_["comparisons"]] == ["supported", "supported"]


def test_a_rate_at_the_limit_of_the_grid_is_said(packed, tmp_path):
    outcome, _ = played(CLAIMS["overlap"], packed, tmp_path,
                        lambda job: (0.5 - math.log10(job.recipe.learning_rate) / 100, [(40, 0.1)], None))
    assert [len(variant["tuning"]) for variant in outcome["variants"]] == [8, 8]
    assert not any(variant["interior"] for variant in outcome["variants"])
    (comparison,) = outcome["comparisons"]
    assert comparison["verdict"] == "undecided"
    assert comparison["reason"].startswith("the best learning rate of pooling 3x3 and of pooling 2x2 is an end of ")
    assert outcome["notes"][1] == ("pooling 2x2: the best learning rate, 10, is the highest of the 8 that were tried, "
                                   "so a better one may exist")
