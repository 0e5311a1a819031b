"""The results file: which line replaces which, lines of another kind, and what differs from a claim's own design."""

from __future__ import annotations

import json

import pytest

from alexnet.errors import UserError
from alexnet.reproduce.claims import CLAIMS
from alexnet.reproduce.design import Design
from alexnet.reproduce.outcome import OutcomeJson
from alexnet.reproduce.results import append, departures, not_measured, plan_json, read_outcomes, to_outcome


def line(claim="dropout", **changes) -> OutcomeJson:
    return {"claim": claim, "section": "", "statement": "", "design": "", "against": "", "departures": [], "data": "d",
            "fingerprint": "f", "side": 64, "images": [1000, 3925], "epochs": 150, "seeds": [0], "tuning_seeds": [1000],
            "tuned_by": "", "value_name": "top-1 error", "fractions": ["top-1 error"],
            "variants": [], "comparisons": [], "notes": [], "quick": False, "command": "", "machine": "",
            "precision": "fp32", "date": "2026-11-29", **changes}


def variant(**changes):
    return {"name": "a", "settings": [], "images": 1000, "views": 1, "averaged": 1, "tuned_by": "top-1 error",
            "rate": 0.1, "tuning": [], "interior": True, "runs": [], **changes}


@pytest.fixture
def written(tmp_path):
    """Write outcomes to a results file; return its path."""
    def write(*outcomes):
        for outcome in outcomes:
            append(tmp_path / "results.jsonl", outcome)
        return tmp_path / "results.jsonl"
    return write


def test_the_latest_line_of_each_design_is_read_in_the_order_of_the_claims(written):
    results = written(line("figure1"), line(statement="early"), line(statement="late"), line(images=[500, 3925]))
    assert [(outcome["claim"], outcome["images"][0], outcome["statement"]) for outcome in read_outcomes(results)] == [
        ("dropout", 500, ""), ("dropout", 1000, "late"), ("figure1", 1000, "")]
    assert {"lrn", "biases"} <= {*not_measured(read_outcomes(results))}
    assert "dropout" not in not_measured(read_outcomes(results))


@pytest.mark.parametrize("change", [
    {"seeds": [0, 1]}, {"tuning_seeds": [1000, 1001]}, {"precision": "bf16"}, {"epochs": 20}, {"images": [500, 3925]},
    {"images": [1000, 100]}, {"side": 32}, {"data": "e"}, {"fingerprint": "g"}, {"quick": True},
    {"design": "another network"}, {"variants": [variant(settings=["arch.dropout=0"])]}])
def test_a_result_of_another_design_replaces_nothing(written, change):
    outcomes = [line(variants=[variant()]), line(variants=[variant()], **change) if "variants" not in change else
                line(**change)]
    found = read_outcomes(written(*outcomes))
    assert len(found) == 2
    assert all(outcome in found for outcome in outcomes)


def test_the_last_of_several_results_of_one_design_says_which_it_replaces(written):
    dates = ["2026-11-20", "2026-11-24", "2026-11-22"]
    found = read_outcomes(written(*(line(date=date, machine=f"machine {date}") for date in dates)))
    assert found == [line(date=dates[2], machine=f"machine {dates[2]}", replaces=dates[:2])]


@pytest.mark.parametrize(("text", "problem"), [
    ("nothing", "is not JSON"), ("[]", "lacks against, claim"), (json.dumps(line("towers")), "has the claim towers"),
    (json.dumps({key: value for key, value in line().items() if key != "date"}), "lacks date"),
    (json.dumps(line(comparisons=[{"name": "a"}])), "lacks high, high_all, is_bound, least"),
    (json.dumps(line(comparisons=3)), "lacks high, high_all"),
    (json.dumps(line(variants=[variant(), {"name": "a"}])), "lacks averaged, images, interior")])
def test_a_line_of_another_version_is_refused_by_its_number(written, text, problem):
    results = written(line())
    with results.open("a") as file:
        file.write(text + "\n")
    with pytest.raises(UserError, match=f"line 2 of .*{problem}"):
        read_outcomes(results)


# --- The claim's own design -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "expected"), [
    ({"images_per_class": 10}, ["10 training images of each class instead of 100"]),
    ({"images_per_class": 10, "epochs": 20, "seeds": 3}, [
        "20 epochs instead of 150", "3 seeds instead of 8", "10 training images of each class instead of 100"]),
    ({"images_per_class": 10, "epochs": 150, "seeds": 12}, [
        "12 seeds instead of 8", "10 training images of each class instead of 100"]),
    ({"quick": True}, [])])
def test_what_differs_from_the_claims_own_design_is_said(packed, options, expected):
    design = Design.of(CLAIMS["dropout"], packed, **options)
    assert departures(design, packed) == plan_json(design, packed)["departures"] == expected
    measured = {"notes": [], "variants": [], "comparisons": []}
    outcome = to_outcome(design, packed, measured, {"command": "", "machine": "", "precision": "", "date": "d"}, [])
    assert (outcome["departures"], outcome["fingerprint"], outcome["date"]) == (expected, packed.fingerprint, "d")


def test_a_claim_on_all_images_with_some_of_them_is_not_its_own_design(packed):
    assert departures(Design.of(CLAIMS["lrn"], packed), packed) == []
    assert departures(Design.of(CLAIMS["lrn"], packed, images_per_class=5), packed) == [
        "5 training images of each class instead of all"]


def test_a_plan_has_what_is_expected_of_each_comparison(packed):
    first, second = plan_json(Design.of(CLAIMS["lighting"], packed), packed)["comparisons"]
    assert (first["paper"], first["is_bound"], first["least"], first["unit"]) == (-2.4, True, None, "percent")
    assert first["words"] == "over 1 point of 41.7%"
    assert (second["paper"], second["is_bound"], second["least"]) == (None, False, -1.0)
