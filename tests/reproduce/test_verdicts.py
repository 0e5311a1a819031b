"""Verdicts: supported, contradicted, and the many ways to be undecided; the results file."""

from __future__ import annotations

import json
import math
import statistics

import pytest

from alexnet.errors import UserError
from alexnet.reproduce.claims import CLAIMS, Claim, Comparison, Variant
from alexnet.reproduce.measures import Design, reproduce
from alexnet.reproduce.outcome import OutcomeJson
from alexnet.reproduce.quantities import quantity_names
from alexnet.reproduce.results import append, not_measured, read_outcomes
from alexnet.reproduce.runs import FinishedRun
from alexnet.reproduce.verdicts import judge

NAMES = quantity_names(CLAIMS["dropout"])


def claim_of(*comparisons):
    return Claim("c", "", "", "", (Variant("a"), Variant("b")), comparisons, 1)


def judged(reference, variant, sign=-1, paper=None, quantity="top1", others=(), no_verdict=""):
    """The comparison of b with a, beside others that belong to the same claim."""
    own = Comparison("b", "a", sign, paper, quantity)
    pairs = [list(zip(variant, reference, strict=True))] + [list(zip(y, x, strict=True)) for x, y in others]
    return judge(claim_of(own, *[Comparison("b", "a", -1)] * len(others)), pairs, NAMES, no_verdict)[0]


LOWER = (0.40, 0.42, 0.41, 0.43), (0.37, 0.385, 0.39, 0.395)
"""Differences of -3, -3.5, -2 and -3.5 points: mean -3, standard deviation 0.7071, t = -8.485 with 3 degrees."""


def test_fewer_errors_support_a_claim_of_fewer_and_contradict_one_of_more():
    comparison = judged(*LOWER)
    assert comparison["values"] == pytest.approx([-3, -3.5, -2, -3.5])
    assert comparison["mean"] == pytest.approx(-3)
    half_width = 3.182 * 0.70711 / 2  # the table's t for 3 degrees of freedom
    assert comparison["low"] == pytest.approx(-3 - half_width, abs=1e-3)
    assert comparison["high"] == pytest.approx(-3 + half_width, abs=1e-3)
    assert comparison["p"] == pytest.approx(0.00344, abs=5e-5)
    assert comparison["verdict"] == "supported"
    assert judged(*LOWER, sign=+1)["verdict"] == "contradicted"


@pytest.mark.parametrize(("paper", "place"), [
    (-2.5, "the interval contains the paper's -2.5 points"),
    (-1.4, "the effect is larger than the paper's -1.4 points"),
    (-9.0, "the effect is smaller than the paper's -9.0 points")])
def test_a_verdict_says_where_the_papers_number_lies(paper, place):
    assert judged(*LOWER, paper=paper)["reason"].endswith(place)


def test_differences_are_paired_by_seed():
    """The seeds differ by 30 points and the variants by about one: unpaired, nothing would be significant."""
    comparison = judged((0.1, 0.2, 0.3, 0.4), (0.09, 0.188, 0.291, 0.389))
    assert comparison["verdict"] == "supported"


def test_a_difference_that_may_be_chance_is_undecided_and_says_what_would_have_been_found():
    comparison = judged((0.40, 0.42, 0.41, 0.43), (0.41, 0.40, 0.42, 0.41), paper=-4.0)
    assert comparison["verdict"] == "undecided"
    # Differences 1, -2, 1, -2: standard deviation sqrt(3); (3.182 + 0.978) sqrt(3) / 2, by the table's t.
    assert comparison["minimum_detectable"] == pytest.approx(3.603, abs=3e-3)
    assert comparison["reason"] == ("no significant difference (p = 0.6); the test finds one of 3.6 points with a "
                                    "power of 80%; the effect is smaller than the paper's -4.0 points")


def test_holms_correction_counts_all_comparisons_of_a_claim():
    """Differences -3, -2, -4, -0.7: t = -3.44, p = 0.041; beside a second, null comparison it is doubled."""
    reference, variant = (0.4, 0.4, 0.4, 0.4), (0.37, 0.38, 0.36, 0.393)
    null = (0.40, 0.42, 0.41, 0.43), (0.41, 0.40, 0.42, 0.41)
    alone, beside = judged(reference, variant), judged(reference, variant, others=[null])
    assert alone["p"] == beside["p"] == pytest.approx(0.0412, abs=5e-4)
    assert alone["verdict"] == "supported"
    assert beside["p_holm"] == pytest.approx(2 * beside["p"])
    assert beside["p_holm"] > 0.05
    assert beside["verdict"] == "undecided"


def test_a_comparison_without_a_test_counts_for_the_correction_too():
    missing = (0.4, None), (0.3, 0.3)
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
    comparison = judged((10, 11, 12, 13), (100, 110, None, 130), sign=+1, quantity="epochs")
    assert comparison["verdict"] == "undecided"
    assert (comparison["mean"], comparison["low"], comparison["p"], comparison["p_holm"]) == (None,) * 4
    assert comparison["reason"] == ("of 1 of 4 seeds a run diverged or did not get to the 25% clean training error, "
                                    "and the others alone would mislead")
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

    def subset(self, images_per_class, *, tuning=False):
        return self.packed

    def trained(self, jobs):
        self.jobs += jobs
        return [self.run(job) for job in jobs]

    def run(self, job):
        error, clean, norm = self.errors(job)
        folder = self.folder / f"{len(self.jobs)}-{id(job)}"
        folder.mkdir()
        (folder / "measured.json").write_text(json.dumps({"norm": norm}))
        curve = tuple({"epoch": epoch, "train_error": value, "train_loss": value} for epoch, value in clean)
        validated = {"val_top1_error": error, "val_top5_error": error / 5, "val_loss": 4 * error}
        return FinishedRun(folder, False, curve, validated, 0.75, "here")


def played(claim, packed, tmp_path, errors, **options):
    runs = PlayedRuns(packed, tmp_path, errors)
    return reproduce(Design.of(claim, packed, **options), runs), runs


def test_dropout_is_judged_by_errors_and_by_epochs_at_each_variants_own_best_rate(packed, tmp_path):
    """Without dropout 0.003 is best and with it 0.1 is, so that grid is extended; the fresh seeds run at these."""
    best = {0.0: 0.01, 0.5: 0.1}

    def errors(job):
        dropout, rate = job.arch.dropout, job.recipe.learning_rate
        error = 0.4 - 0.03 * (dropout > 0) + abs(math.log10(rate / best[dropout])) / 10 + 0.002 * (job.seed % 3)
        slow = 2 + job.seed % 2 / 10 if dropout else 1
        return error, [(10 * slow, 0.25), (150, 0.01)], None

    outcome, runs = played(CLAIMS["dropout"], packed, tmp_path, errors, images_per_class=20)
    without, with_dropout = outcome["variants"]
    assert (without["rate"], without["interior"], len(without["tuning"])) == (0.01, True, 4)
    assert (with_dropout["rate"], with_dropout["interior"], len(with_dropout["tuning"])) == (0.1, True, 5)
    assert with_dropout["tuning"][-1]["rate"] == 0.3
    assert [run["seed"] for run in without["runs"]] == list(range(8))
    assert without["runs"][0] == {
        "seed": 0, "top1_error": 0.4, "top5_error": 0.08, "loss": 1.6, "train_error": 0.01, "train_loss": 0.01,
        "value": 0.4, "more": {"epochs to 25% clean training error": 10.0}}
    errors_, epochs = outcome["comparisons"]
    assert errors_["mean"] == pytest.approx(-3, abs=0.01)
    assert epochs["values"][:2] == pytest.approx([2.0, 2.1])
    assert epochs["verdict"] == "supported"
    fresh = {job.seed for job in runs.jobs if job.keep}
    assert fresh == set(range(8))
    assert {job.seed for job in runs.jobs if not job.keep} == {1000, 1001}


def lrn_errors(weight):
    def errors(job):
        has_sum = job.arch.norm == "lrn" and job.arch.lrn.alpha > 0
        edge = abs(math.log10(job.recipe.learning_rate / 0.001)) / 10
        return 0.4 + edge - 0.02 * has_sum + 0.001 * ((job.seed * (2 if has_sum else 3)) % 4), [(40, 0.1)], (
            weight if has_sum else 0.0)
    return errors


def test_response_normalization_that_is_a_constant_factor_is_not_judged(packed, tmp_path):
    outcome, _ = played(CLAIMS["lrn"], packed, tmp_path, lrn_errors(0.0099))
    for comparison in outcome["comparisons"]:
        assert comparison["verdict"] == "undecided"
        assert comparison["reason"].startswith("alpha x sum / k is 0.99% on average, under 1%")
        assert comparison["p_holm"] is None
    assert outcome["comparisons"][0]["reason"] in outcome["notes"]
    (folder := tmp_path / "more").mkdir()
    judged_, _ = played(CLAIMS["lrn"], packed, folder, lrn_errors(0.0101))
    assert [comparison["verdict"] for comparison in judged_["comparisons"]] == ["supported", "supported"]


def test_a_rate_at_the_limit_of_the_grid_is_said(packed, tmp_path):
    outcome, _ = played(CLAIMS["overlap"], packed, tmp_path,
                        lambda job: (0.5 - math.log10(job.recipe.learning_rate) / 100, [(40, 0.1)], None))
    assert [len(variant["tuning"]) for variant in outcome["variants"]] == [8, 8]
    assert not any(variant["interior"] for variant in outcome["variants"])
    assert outcome["notes"][0] == ("pooling 2x2: the best learning rate, 10, is the highest of the 8 that were tried, "
                                   "so a better one may exist")


# --- The results file -------------------------------------------------------------------------------------------------


def line(claim="dropout", **changes) -> OutcomeJson:
    return {"claim": claim, "section": "", "statement": "", "design": "", "against": "", "data": "d", "side": 64,
            "images": [1000, 3925], "epochs": 150, "seeds": [0], "tuning_seeds": [1000], "tuned_by": "",
            "value_name": "top-1 error", "value_unit": "fraction", "variants": [], "comparisons": [], "notes": [],
            "quick": False, "command": "", "machine": "", "precision": "fp32", **changes}


def test_the_latest_line_of_each_design_is_read_in_the_order_of_the_claims(tmp_path):
    results = tmp_path / "results.jsonl"
    for outcome in (line("figure1"), line(statement="early"), line(statement="late"), line(images=[500, 3925])):
        append(results, outcome)
    assert [(outcome["claim"], outcome["images"][0], outcome["statement"]) for outcome in read_outcomes(results)] == [
        ("dropout", 500, ""), ("dropout", 1000, "late"), ("figure1", 1000, "")]
    assert {"lrn", "biases"} <= {*not_measured(read_outcomes(results))}
    assert "dropout" not in not_measured(read_outcomes(results))


@pytest.mark.parametrize(("text", "problem"), [
    ("nothing", "is not JSON"), ("[]", "lacks against, claim"), (json.dumps(line("towers")), "has the claim towers")])
def test_a_line_of_another_version_is_refused_by_its_number(tmp_path, text, problem):
    results = tmp_path / "results.jsonl"
    append(results, line())
    with results.open("a") as file:
        file.write(text + "\n")
    with pytest.raises(UserError, match=f"line 2 of .*{problem}"):
        read_outcomes(results)
