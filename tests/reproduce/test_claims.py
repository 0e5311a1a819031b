"""The paper's claims: the variants of each, runs that are kept and shared, measures, verdicts, the results file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from alexnet.reproduce.former_outcome import Outcome, VariantResult

from alexnet.architecture.arithmetic import explain
from alexnet.architecture.overrides import override
from alexnet.cli.paper import ClaimName
from alexnet.models.alexnet import AlexNet
from alexnet.reproduce import claims, measures
from alexnet.reproduce import results as results_module
from alexnet.reproduce import runs as runs_module
from alexnet.reproduce.claims import CLAIMS, Claim, Variant, common_setup, remove_conv
from alexnet.reproduce.figures.figure1 import figure1
from alexnet.reproduce.measures import reproduce
from alexnet.reproduce.runs import Runs
from alexnet.training.run_folder import logged
from command_line import alexnet as command

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def small_networks(monkeypatch):
    """The claims' networks with few maps, so that a run takes a second."""
    small = override(claims.PAPER_SMALL, ["conv.width=8", "dense.width=16"])
    monkeypatch.setattr(claims, "PAPER_SMALL", small)
    monkeypatch.setattr(claims, "CIFAR", override(claims.CIFAR, ["conv.width=8"]))


def outcome_of(claim: str, *values: tuple[float, ...], seeds: int = 3) -> Outcome:
    names = [variant.name for variant in CLAIMS[claim].variants] + ["more"]
    return Outcome(claim, "data", 64, (90, 10), 12, tuple(range(seeds)), "fp32", tuple(
        VariantResult(name, of_seeds) for name, of_seeds in zip(names, values, strict=False)))


def test_the_command_knows_every_claim():
    assert set(get_args(ClaimName)) == {*CLAIMS, "table"}


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_every_variant_of_a_claim_is_a_different_network(claim, side):
    arch, recipe = common_setup(claim, side, 12)
    sides = [variant.apply(arch, recipe) for variant in claim.variants]
    assert len({str(variant) for variant in sides}) == len(sides)
    for network, _ in sides:
        assert AlexNet(network).arch.input.side == side


def test_one_tower_has_half_the_kernels_except_in_conv5():
    """§3.2's footnote: the last convolution keeps its width, so that the classifier is as large."""
    claim = CLAIMS["two-gpu"]
    (one_tower, _), (two_towers, _) = (variant.apply(*common_setup(claim, 32, 12)) for variant in claim.variants)
    assert [2 * conv.width for conv in one_tower.conv[:4]] == [conv.width for conv in two_towers.conv[:4]]
    assert one_tower.conv[4].width == two_towers.conv[4].width


def test_removing_a_convolution_keeps_its_pooling():
    arch, _ = common_setup(CLAIMS["depth"], 64, 12)
    less = remove_conv(arch, "conv5")
    assert len(less.conv) == 4
    assert less.conv[3].post_ops == "act pool"
    assert explain(less).layers[-1].output_shape == explain(arch).layers[-1].output_shape


@pytest.mark.usefixtures("small_networks")
def test_claims_share_runs_and_train_each_once(packed, tmp_path):
    steps = []
    runs = Runs(packed, tmp_path, "fp32", on_event=lambda event: steps.append(event["event"]))
    first = reproduce(CLAIMS["lrn"], runs, seeds=(0, 1), epochs=2)
    assert steps.count("start") == 4
    assert reproduce(CLAIMS["lrn"], runs, seeds=(0, 1), epochs=2) == first
    reproduce(CLAIMS["overlap"], runs, seeds=(0, 1), epochs=2)  # its 3/2 is the network with norms of before
    assert steps.count("start") == 6
    views = reproduce(CLAIMS["ten-views"], runs, seeds=(0, 1), epochs=2)
    assert steps.count("start") == 6
    assert views.variants[0].values == pytest.approx(first.variants[1].values)
    averaged = reproduce(CLAIMS["ensemble"], runs, seeds=(0, 1), epochs=2)
    assert averaged.variants[0].values == views.variants[1].values
    assert len(averaged.variants[1].values) == 1
    with pytest.raises(ValueError, match="--seeds 2 or more"):
        reproduce(CLAIMS["ensemble"], runs, seeds=(0,), epochs=2)


@pytest.mark.usefixtures("small_networks")
def test_an_interrupted_run_is_resumed(packed, tmp_path):
    class Stop(Exception):
        pass

    def stop(event):
        if event["event"] == "validating" and event["run"].startswith("response"):
            raise Stop

    options = {"seeds": (0,), "epochs": 2}
    with pytest.raises(Stop):
        reproduce(CLAIMS["lrn"], Runs(packed, tmp_path / "stopped", "fp32", on_event=stop), **options)
    again = reproduce(CLAIMS["lrn"], Runs(packed, tmp_path / "stopped", "fp32"), **options)
    assert again == reproduce(CLAIMS["lrn"], Runs(packed, tmp_path / "whole", "fp32"), **options)


@pytest.mark.usefixtures("small_networks")
def test_figure1_searches_learning_rates_and_stops_at_the_training_error(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(measures, "LEARNING_RATES", (1e-7, 0.003))
    monkeypatch.setattr(measures, "TARGET_ERROR", 0.5)
    epochs = []
    runs = Runs(packed, tmp_path, "fp32", on_event=lambda event: epochs.append(event)
                if event["event"] == "epoch" else None)
    outcome = reproduce(CLAIMS["figure1"], runs, seeds=(0, 1), epochs=25)
    relu, tanh = outcome.variants
    assert "best learning rate 0.003 of 1e-07, 0.003" in relu.note
    assert "best learning rate 0.003 of 1e-07, 0.003" in tanh.note
    for value in relu.values:
        assert 0 < value < 25
    reached = [event for event in epochs if event["run"] == "ReLU, learning rate 0.003, seed 0"]
    assert reached[-1]["train_error"] <= 0.5
    assert all(event["train_error"] > 0.5 for event in reached[:-1])
    # Between two epochs by a straight line.
    before = reached[-2]["train_error"] if len(reached) > 1 else 0.75
    after = reached[-1]["train_error"]
    assert relu.values[0] == pytest.approx(len(reached) - 1 + (before - 0.5) / (before - after))
    assert outcome.unit == "times"
    drawn = figure1([tmp_path / variant.runs[0] for variant in outcome.variants]).get_axes()[0]
    assert drawn.get_lines()[1].get_xydata()[1:, 1].tolist() == [event["train_error"] for event in reached]


@pytest.mark.usefixtures("small_networks")
def test_a_run_that_stays_at_chance_level_is_given_up(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(runs_module, "GIVE_UP_EPOCHS", 3)
    epochs = []
    runs = Runs(packed, tmp_path, "fp32", on_event=lambda event: epochs.append(event)
                if event["event"] == "epoch" else None)
    arch, recipe = common_setup(CLAIMS["figure1"], 32, 20)
    arch, recipe = replace(arch, classes=4), replace(recipe, learning_rate=1e-12)
    for _ in range(2):  # the second time nothing is trained
        time = runs.train_until(arch, recipe, 0, "ReLU", 0.25)
        assert (time.reached, time.epochs, len(epochs)) == (False, 20, 3)


@pytest.mark.usefixtures("small_networks")
def test_a_learning_rate_slower_than_the_best_is_abandoned(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(measures, "LEARNING_RATES", (0.003, 1e-7))
    monkeypatch.setattr(measures, "TARGET_ERROR", 0.5)
    epochs = []
    runs = Runs(packed, tmp_path, "fp32", on_event=lambda event: epochs.append(event["run"])
                if event["event"] == "epoch" else None)
    relu = reproduce(CLAIMS["figure1"], runs, seeds=(0,), epochs=25).variants[0]
    assert "best learning rate 0.003 of 1e-07, 0.003" in relu.note
    assert epochs.count("ReLU, learning rate 1e-07, seed 0") == epochs.count("ReLU, learning rate 0.003, seed 0") < 25


@pytest.mark.usefixtures("small_networks")
def test_saturation_notes_the_share_of_values_without_gradient(packed, tmp_path):
    outcome = reproduce(CLAIMS["saturation"], Runs(packed, tmp_path, "fp32"), seeds=(0,), epochs=1)
    assert [variant.name for variant in outcome.variants] == ["ReLU", "tanh", "sigmoid"]
    for variant, word in zip(outcome.variants, ("zero at the end: relu1 ", "saturated at the end: tanh1 ",
                                            "saturated at the end: sigmoid1 "), strict=True):
        shares = [event for event in logged(tmp_path / variant.runs[0]) if event["event"] == "signals"][-1]["saturated"]
        assert f"{word}{next(iter(shares.values())):.0%}, " in variant.note


def test_differences_are_paired_by_seed_and_have_students_interval():
    outcome = outcome_of("lrn", (0.20, 0.22, 0.24), (0.19, 0.21, 0.22))
    (difference,) = outcome.differences
    assert difference.values == pytest.approx((-1, -1, -2))
    assert difference.mean == pytest.approx(-4 / 3)
    assert difference.half_width == pytest.approx(4.303 * (1 / 3) ** 0.5 / 3**0.5, rel=1e-3)


@pytest.mark.parametrize(("first", "second", "verdict"), [
    ((0.30, 0.31, 0.32), (0.20, 0.21, 0.22),
     "same sign as the claim, significant over 3 seeds; larger than the paper's"),
    ((0.30, 0.31, 0.32), (0.299, 0.309, 0.319),
     "same sign as the claim, significant over 3 seeds; smaller than the paper's"),
    ((0.20, 0.21, 0.22), (0.30, 0.31, 0.32), "opposite sign, significant over 3 seeds; smaller than the paper's"),
    ((0.20, 0.30, 0.25), (0.21, 0.20, 0.26),
     "same sign as the claim, not significant over 3 seeds; the interval contains the paper's number"),
    ((0.2,), (0.1,), "same sign as the claim; one seed, so no interval"),
    ((0.2,), (0.2,), "no difference; one seed, so no interval"),
])
def test_verdicts(first, second, verdict):
    assert str(outcome_of("lrn", first, second, seeds=len(first)).verdict) == verdict


def test_outcomes_are_read_back_and_the_page_shows_the_latest(tmp_path):
    results, page = tmp_path / "results.jsonl", tmp_path / "page.md"
    about = {"command": "alexnet reproduce lrn", "machine": "a machine", "precision_used": "fp32", "seconds": 90.0}
    early = outcome_of("lrn", (0.5, 0.5, 0.5), (0.4, 0.4, 0.4))
    late = outcome_of("lrn", (0.3, 0.31, 0.32), (0.2, 0.21, 0.22))
    figure1_outcome = outcome_of("figure1", (5.0, 6.0, 7.0), (25.0, 30.0, 35.0))
    for outcome in (early, late, figure1_outcome):
        results_module.append(results, outcome, about)
    assert [record.outcome for record in results_module.read(results)] == [figure1_outcome, late]
    page.write_text(f"before\n{results_module.BEGIN}old\n{results_module.END}after\n")
    results_module.write_page(page, results_module.read(results))
    written = page.read_text()
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "| `lrn` | -1.4 points | -10.0 points (-10.0 to -10.0) | same sign as the claim, significant" in written
    assert "| `figure1` | 6 times | 5.0 times (5.0 to 5.0) |" in written
    assert "50.0%" not in written
    page.write_text("nothing")
    with pytest.raises(ValueError, match="add the two lines"):
        results_module.write_page(page, [])


@pytest.mark.usefixtures("small_networks")
def test_reproduce_prints_the_papers_number_and_ours(class_folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "out"
    assert command("reproduce", "lighting", "--data", class_folders, "--side", 32, "--quick", "--out", out) == 0
    printed = capsys.readouterr()
    assert "the paper: -1.0 points; ours: " in printed.out
    assert "120 training and 44 validation images, 2 epochs, seeds 0" in " ".join(printed.out.split())
    assert "color noise, seed 0: training error" in printed.err
    assert f"written: a line of {out / 'results.jsonl'}\n" in printed.err
    assert printed.err.splitlines()[-1].startswith("note: --quick only shows that the command works")
    (line,) = (out / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["claim"] == "lighting"
    assert json.loads(line)["machine"]


@pytest.mark.parametrize(("words", "sentence"), [
    (["lrn"], "reproduce lrn trains its own networks; alexnet reproduce lrn --data DATA"),
    (["lrn", "run", "data"], "trains its own networks"),
    (["lrn", "--data", "x", "--side", 48], "--side 48 must be 32 or 64"),
    (["lrn", "--data", "x", "--side", 0], "--side 0 must be 32 or 64"),
    (["lrn", "--data", "x", "--seeds", 0], "--seeds 0 must be at least 1"),
    (["lrn", "--data", "x", "--epochs", 0], "--epochs 0 must be at least 1"),
    (["lrn", "--data", "x", "--epochs", 2.5], "2.5 must be a whole number"),
    (["lrn", "--data", "x", "--batch-size", 0], "--batch-size 0 must be at least 1"),
    (["lrn", "--data", "x", "--batch-size", 5], "reproduce lrn takes no --batch-size; leave it out"),
    (["table", "run", "data", "--epochs", 5], "reproduce table takes no --epochs; leave it out"),
    (["lrn", "--data", "x", "--page", "nosuch.md"], "there is no page nosuch.md; make it, with the lines"),
    (["lrn", "--data", "x", "--results", "."], ". is a folder; name a file in it"),
])
def test_mistakes_are_one_sentence(words, sentence, capsys):
    assert command("reproduce", *words) == 2
    assert sentence in capsys.readouterr().err


def test_a_variant_without_settings_is_the_common_setup():
    claim = Claim("c", "", "", (Variant("a"), Variant("b", ("arch.norm=none",))))
    arch, recipe = common_setup(claim, 32, 3)
    assert claim.variants[0].apply(arch, recipe) == (arch, recipe)
    assert claim.variants[1].apply(arch, recipe) == (replace(arch, norm="none"), recipe)


def test_docs_results_page_matches_the_results_file():
    docs = Path(__file__).parents[2] / "docs"
    published = (docs / "results.md").read_text().partition(results_module.BEGIN)[2].partition(results_module.END)[0]
    assert published == results_module.markdown(results_module.read(docs / "results.jsonl"))
