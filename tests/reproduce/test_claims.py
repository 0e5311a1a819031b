"""The paper's claims: the variants of each, runs that are kept and shared, what is measured of them, the command."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from alexnet.architecture.arithmetic import explain
from alexnet.architecture.overrides import override
from alexnet.cli.reproduce import ClaimName
from alexnet.data.preprocessing import Preprocess
from alexnet.errors import UserError
from alexnet.inference.evaluate import evaluate
from alexnet.models.alexnet import AlexNet
from alexnet.reproduce import claim_networks, weight_measures
from alexnet.reproduce.claim import UNITS, Claim, Comparison, Variant
from alexnet.reproduce.claim_networks import common_setup, remove_conv
from alexnet.reproduce.claims import CLAIMS
from alexnet.reproduce.design import Design
from alexnet.reproduce.figures.figure1 import figure1
from alexnet.reproduce.measures import reproduce
from alexnet.reproduce.runs import RunStore
from alexnet.reproduce.weight_measures import norm_weight, recolored_errors
from command_line import alexnet as command

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def small_networks(monkeypatch):
    """The claims' networks with few maps, so that a run takes a second."""
    small = override(claim_networks.PAPER_SMALL, ["conv.width=8", "dense.width=16"])
    monkeypatch.setattr(claim_networks, "PAPER_SMALL", small)
    monkeypatch.setattr(claim_networks, "CIFAR", override(claim_networks.CIFAR, ["conv.width=8"]))


def quick_design(claim, packed, **changes):
    return replace(Design.of(claim, packed, quick=True), **changes)


def common_of(claim, side):
    return common_setup(side, 12, claim.network, claim.common, claim.crop)


def measured(outcome, name):
    return next(variant for variant in outcome["variants"] if variant["name"] == name)


# --- What the claims say ----------------------------------------------------------------------------------------------


def test_the_command_knows_every_claim():
    assert set(get_args(ClaimName)) == {*CLAIMS, "table"}


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_every_variant_of_a_claim_is_another_network_recipe_or_evaluation(claim, side):
    sides = [variant.apply(*common_of(claim, side)) for variant in claim.variants]
    assert len({str((both, variant.images_factor, variant.views, variant.averaged, variant.tuned_by))
                for both, variant in zip(sides, claim.variants, strict=True)}) == len(sides)
    for network, _ in sides:
        assert AlexNet(network).arch.input.side == side


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_every_comparison_is_of_two_variants_and_has_the_papers_sign(claim):
    names = [variant.name for variant in claim.variants]
    assert len(set(names)) == len(names)
    for comparison in claim.comparisons:
        assert comparison.variant != comparison.reference
        assert {comparison.variant, comparison.reference} <= {*names}
        no_effect = 1.0 if UNITS.get(comparison.quantity) == "times" else 0.0
        for effect in (comparison.paper, comparison.least):
            assert effect is None or (effect - no_effect) * comparison.sign > 0
        # A comparison without a size could not be contradicted by a precise null result.
        assert (comparison.paper is None) != (comparison.least is None)
        assert comparison.quantity != "epochs" or claim.target
    assert len({comparison.title for comparison in claim.comparisons}) == len(claim.comparisons)


def test_the_claim_names_the_rows_of_mishkins_table():
    """batchnorm.md, accuracies: 0.471 without; After 0.499, After + scale&bias 0.493; Before 0.474 and 0.478."""
    claim = CLAIMS["batch-norm"]
    assert "2.2 points after the ReLU and 0.7 before it (his rows with scale and bias)" in claim.statement
    for words in ('49.3% in the row "After + scale&bias"', "49.9% after the ReLU", "2.8 points less error"):
        assert words in claim.note


@pytest.mark.parametrize(("claim", "papers"), [
    ("figure1", [6.0]), ("dropout", [None, None, 2.0]), ("augmentation", [None] * 6), ("saturation", [None]),
    ("lrn", [-1.4 / 42.1, None]), ("overlap", [-0.4 / 41.1]), ("two-gpu", [-1.7 / 42.4]), ("depth", [2 / 40.7] * 3),
    ("ten-views", [37.5 / 39.0 - 1]), ("ensemble", [38.1 / 40.7 - 1]), ("lighting", [-1 / 41.7, None]),
    ("batch-norm", [(47.1 - 49.3) / 52.9, (47.1 - 47.8) / 52.9])])
def test_the_papers_numbers(claim, papers):
    """§3.1: six times faster. §3.2: 1.7%. §3.3: 1.4%. §3.4: 0.4%. §4.1: over 1%. §6: 39.0% against 37.5%. §4.2: roughly
    doubles. Table 2: 40.7% against 38.1%. §7: about 2%. ducha-aiki/caffenet-benchmark, batchnorm.md: accuracy 47.1%
    without normalization, with scale and bias 49.3% after the ReLU and 47.8% before it.

    Differences of errors are relative. What lowers the error of Table 2's one network, 40.7%, had more without it."""
    for comparison, paper in zip(CLAIMS[claim].comparisons, papers, strict=True):
        if comparison.quantity == "errors" and paper is not None:
            assert comparison.paper == pytest.approx(100 * paper, abs=0.05)
            assert comparison.words
        else:
            assert comparison.paper == paper


def test_the_least_effects_that_count_are_those_that_the_page_names():
    """1 point of top-1 error and of the rise by recoloring, 2.5% of the errors where these are compared, 0.5 points of
    clean training error, 10% of the epochs or of the loss, in the claim's direction; "several times slower": twice."""
    least = {(comparison.quantity, comparison.sign, comparison.least) for claim in CLAIMS.values()
             for comparison in claim.comparisons if comparison.least is not None}
    assert least == {("top1", -1, -1), ("errors", -1, -2.5), ("recolored_rise", -1, -1), ("train", -1, -0.5),
                     ("epochs", 1, 2.0), ("epochs", -1, 1 / 1.1), ("loss", -1, 1 / 1.1)}
    assert [comparison.is_bound for comparison in CLAIMS["lighting"].comparisons] == [True, False]


def test_numbers_that_are_not_the_papers_have_another_source():
    for claim in CLAIMS.values():
        for comparison in claim.comparisons:
            is_other = claim.section == "after the paper" and comparison.paper is not None
            assert (comparison.source != "the paper") == is_other


def test_dropout_and_augmentation_are_run_where_a_network_overfits():
    for name in ("dropout", "augmentation"):
        claim = CLAIMS[name]
        assert (claim.images_per_class, claim.epochs, claim.seeds) == (100, 150, 8)
    variants = CLAIMS["augmentation"].variants
    assert {variant.images_factor for variant in variants} == {0.5, 1.0, 3.0}
    assert all(variant.images_factor * variant.epochs_factor == pytest.approx(1) for variant in variants)  # equal steps


def test_at_least_eight_fresh_seeds_decide_a_claim_about_errors():
    for claim in CLAIMS.values():
        assert claim.seeds >= (3 if claim.name == "ensemble" else 5 if claim.name == "figure1" else 8)


def test_one_tower_has_half_the_kernels_except_in_conv5():
    """§3.2's footnote: the last convolution keeps its width, so that the classifier is as large."""
    claim = CLAIMS["two-gpu"]
    (one_tower, _), (two_towers, _) = (variant.apply(*common_of(claim, 32)) for variant in claim.variants)
    assert [2 * conv.width for conv in one_tower.conv[:4]] == [conv.width for conv in two_towers.conv[:4]]
    assert one_tower.conv[4].width == two_towers.conv[4].width


def test_removing_a_convolution_keeps_its_pooling():
    arch, _ = common_of(CLAIMS["depth"], 64)
    less = remove_conv(arch, "conv5")
    assert len(less.conv) == 4
    assert less.conv[3].post_ops == "act pool"
    assert explain(less).layers[-1].output_shape == explain(arch).layers[-1].output_shape


@pytest.mark.parametrize("side", [32, 64])
def test_both_poolings_of_overlap_have_maps_of_equal_sizes_and_leave_no_position_out(side):
    """24 -> 12 -> 6 -> 3 pixels: 3/2 rounded up is (24 - 3) / 2 + 1 = 11.5 -> 12, 2/2 is 24 / 2 = 12.

    Every position of the maps before a pooling, the last row and column included, reaches the pooling's output.
    """
    claim = CLAIMS["overlap"]
    for variant in claim.variants:
        arch, _ = variant.apply(*common_of(claim, side))
        sides = [layer.output_shape[-1] for layer in explain(arch).layers if layer.name.startswith("pool")]
        assert sides == [12, 6, 3]
        pools = [layer for layer in AlexNet(arch).modules() if isinstance(layer, torch.nn.MaxPool2d)]
        for before, pool in zip((24, 12, 6), pools, strict=True):
            for row in range(before):
                maps_NCHW = torch.zeros(1, 1, before, before)
                maps_NCHW[0, 0, row, row] = 1
                assert pool(maps_NCHW).max() == 1, (variant.name, before, row)


def test_poolings_whose_maps_differ_are_refused(packed):
    claim = replace(CLAIMS["overlap"], crop=7 / 8)  # pool5 would be 4 pixels, and 3 of windows of 3
    with pytest.raises(UserError, match="overlap compares feature maps of different sizes"):
        Design.of(claim, packed)


def test_a_variant_without_settings_is_the_common_setup():
    claim = Claim("c", "", "", "", (Variant("a"), Variant("b", ("arch.norm=none",))), (Comparison("b", "a", 1),), 3)
    arch, recipe = common_setup(32, 3)
    assert claim.variants[0].apply(arch, recipe) == (arch, recipe)
    assert claim.variants[1].apply(arch, recipe) == (replace(arch, norm="none"), recipe)


# --- LRN and color ----------------------------------------------------------------------------------------------------


def test_the_constant_factor_of_lrn_is_2_to_the_minus_three_quarters():
    claim = CLAIMS["lrn"]
    constant = claim.variants[1].apply(*common_of(claim, 32))[0]
    norm = dict(AlexNet(constant).features.named_children())["norm1"]
    maps_NCHW = 100 * torch.rand(2, 32, 3, 3)
    torch.testing.assert_close(norm(maps_NCHW), 0.5946036 * maps_NCHW)


def test_lrn_sees_activations_of_the_papers_scale():
    """The paper's: pixels of 0 to 255, standard deviations that give a unit's input the variance of the paper's widths.

    Fan-in of the paper by Figure 2: conv1 11*11*3, conv2 5*5*48, conv3 3*3*256, conv4 and conv5 3*3*192, fc6 6*6*256,
    fc7 and the output 4096; each with a standard deviation of 0.01.
    """
    arch, _ = common_of(CLAIMS["lrn"], 64)
    assert arch.input.scale == (1, 1, 1)
    own = (3 * 25, 16 * 25, 64 * 9, 48 * 9, 48 * 9, 64 * 9, 256, 256)
    papers = (363, 1200, 2304, 1728, 1728, 9216, 4096, 4096)
    stds = (*(conv.init_std for conv in arch.conv), *(dense.init_std for dense in arch.dense), arch.output_init_std)
    for std, fan_in, papers_fan_in in zip(stds, own, papers, strict=True):
        assert std**2 * fan_in == pytest.approx(1e-4 * papers_fan_in, rel=0.05)
    assert [conv.init_bias for conv in arch.conv] == [0, 1, 0, 1, 1]


def test_the_weight_of_the_norms_sum_is_alpha_times_the_sum_over_k(packed):
    arch = override(common_of(CLAIMS["lrn"], 32)[0], ["classes=4", "conv1.width=8", "conv2.post_ops=act pool"])
    network, preprocess = AlexNet(arch, 0), Preprocess.from_data(arch.input, packed.mean_HWC)
    split = packed.split("val")
    with torch.no_grad():
        maps_NCHW = network.features[:2](preprocess(torch.from_numpy(split.read(np.arange(len(split))))))
    squares = maps_NCHW.double().numpy() ** 2
    total = 0.0
    for tower in (0, 4):  # four maps in each tower; the window of five stays within it
        for place in range(4):
            total += squares[:, tower + max(0, place - 2) : tower + min(4, place + 3)].sum(1).mean()
    assert norm_weight((network, preprocess), packed, "cpu") == pytest.approx(1e-4 * total / 8 / 2, rel=1e-4)


def test_recolored_images_without_noise_are_the_images(packed, tiny, monkeypatch):
    network, preprocess = AlexNet(tiny, 0), Preprocess.from_data(tiny.input, packed.mean_HWC)
    strong = recolored_errors((network, preprocess), packed, "cpu")
    monkeypatch.setattr(weight_measures, "RECOLORING", 0.0)
    plain = recolored_errors((network, preprocess), packed, "cpu")
    expected = evaluate([(network, preprocess)], packed.split("val"))
    assert (plain.top1_wrong, plain.loss) == (expected.top1_wrong, pytest.approx(expected.loss, rel=1e-5))
    assert strong.loss != pytest.approx(plain.loss, rel=1e-3)


# --- Runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_networks")
def test_claims_share_runs_and_train_each_once(packed, tmp_path):
    steps = []
    runs = RunStore(packed, tmp_path, "fp32", on_event=lambda event: steps.append(event["event"]))
    design = quick_design(CLAIMS["two-gpu"], packed, epochs=1)
    first = reproduce(design, runs)
    assert steps.count("start") == 8  # of each variant two rates with a tuning seed, and two fresh seeds
    assert reproduce(design, runs) == first
    reproduce(quick_design(CLAIMS["lighting"], packed, epochs=1), runs)  # with color noise it is the network of before
    assert steps.count("start") == 12
    views = reproduce(quick_design(CLAIMS["ten-views"], packed, epochs=1), runs)
    assert steps.count("start") == 12
    assert ([run["value"] for run in measured(views, "one view")["runs"]]
            == [run["value"] for run in measured(first, "two towers")["runs"]])
    fresh = [run["seed"] for variant in first["variants"] for run in variant["runs"]]
    assert not {*fresh} & {*first["tuning_seeds"]}


@pytest.mark.usefixtures("small_networks")
def test_an_ensemble_is_compared_with_the_mean_of_its_own_members(packed, tmp_path):
    claim = replace(CLAIMS["ensemble"], variants=(
        CLAIMS["ensemble"].variants[0], replace(CLAIMS["ensemble"].variants[1], averaged=2)))
    outcome = reproduce(quick_design(claim, packed, epochs=2), RunStore(packed, tmp_path, "fp32"))
    members = [run["value"] for run in measured(outcome, "one network")["runs"]]
    ensembles = [run["value"] for run in measured(outcome, "five averaged")["runs"]]
    assert [run["seed"] for run in measured(outcome, "one network")["runs"]] == [0, 1, 2, 3]
    assert [run["seed"] for run in measured(outcome, "five averaged")["runs"]] == [0, 2]
    (comparison,) = outcome["comparisons"]
    assert comparison["values"] == pytest.approx([
        100 * (ensembles[0] / ((members[0] + members[1]) / 2) - 1),
        100 * (ensembles[1] / ((members[2] + members[3]) / 2) - 1)])


@pytest.mark.usefixtures("small_networks")
def test_figure1_searches_learning_rates_and_stops_at_the_training_error(packed, tmp_path):
    claim = replace(CLAIMS["figure1"], target=0.5)
    runs = RunStore(packed, tmp_path, "fp32")
    design = quick_design(claim, packed, rates=(1e-7, 0.03), epochs=40, images_per_class=None, seeds=2)
    outcome = reproduce(design, runs)
    for variant in outcome["variants"]:
        assert variant["rate"] == 0.03
        assert variant["tuning"][0]["errors"] == [None]  # at 1e-7 the target is not reached
        for run in variant["runs"]:
            assert 0 < run["value"] < 40
            assert run["train_error"] <= 0.5
            assert run["top1_error"] is None
    (comparison,) = outcome["comparisons"]
    relu, tanh = ([run["value"] for run in variant["runs"]] for variant in outcome["variants"])
    assert comparison["values"] == pytest.approx([tanh[0] / relu[0], tanh[1] / relu[1]])
    assert "epochs to 50% clean training error" not in outcome["fractions"]
    assert outcome["variants"][0]["tuned_by"] == outcome["value_name"] == "epochs to 50% clean training error"
    folders = [path.parent for path in sorted(tmp_path.glob("*/last/..*")) or sorted(tmp_path.glob("*-0/ended.json"))]
    assert figure1(folders).axes[0].shapes


@pytest.mark.usefixtures("small_networks")
def test_reproduce_prints_the_papers_number_and_ours(class_folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "out"
    assert command("reproduce", "lighting", "--data", class_folders, "--side", 32, "--quick", "--out", out) == 0
    printed = capsys.readouterr()
    text = " ".join(printed.out.split())
    assert "UNDECIDED: color noise against no color noise: " in text
    assert "top-1 error (2 seeds, no interval). --quick decides nothing" in text or "(95% interval " in text
    assert "--quick decides nothing. Published: beyond −2.4% (over 1 point of 41.7%)." in text
    assert "--quick decides nothing. Published: no number; least effect −1.0 points." in text
    assert "Would contradict it: color noise raises the error, or has no significant effect and 2.4%" in printed.err
    assert "lighting, color noise, rate 0.01, seed 1000: top-1 error " in printed.err
    assert (f"written: a line of {out / 'results.jsonl'}; `alexnet results {out / 'results.jsonl'}` shows all results "
            "in it\n") in printed.err
    assert printed.err.splitlines()[-1].startswith("note: --quick only shows that the command works")
    (line,) = (out / "results.jsonl").read_text().splitlines()
    outcome = json.loads(line)
    assert (outcome["claim"], outcome["images"], outcome["seeds"], outcome["quick"]) == (
        "lighting", [40, 44], [0, 1], True)
    assert "torch" in outcome["machine"]
    assert outcome["command"].split()[0] == "alexnet"
    run = outcome["variants"][0]["runs"][0]
    assert {"seed", "top1_error", "top5_error", "loss", "train_error", "train_loss", "value"} <= run.keys()
    assert -1 <= run["more"]["rise of the error by recoloring"] <= 1


def test_a_plan_says_what_is_compared_and_trains_nothing(class_folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["reproduce", "dropout", "--data", class_folders, "--side", 32, "--images-per-class", 20, "--plan"]
    assert command(*words, "--out", tmp_path / "out") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Would contradict it: dropout raises the validation error or the validation loss, or an effect" in text
    assert "Not the claim's own design: 20 training images of each class instead of 100. Networks:" in text
    assert "dropout against no dropout: expected less top-1 error; published: no number; least effect −1.0" in text
    assert "epochs with dropout against none: expected more epochs to 5% clean training error; published: 2" in text
    assert "20 training images of each class, 150 epochs" in text
    assert "Learning rates of each network: 0.003, 0.01, 0.03, extended until the best is not the lowest or " in text
    assert "Fresh seeds: 0 to 7" in text
    # Of two networks, three rates with two tuning seeds, and eight fresh seeds, if the lowest loss is at the rate of
    # the lowest error; the same again to the target.
    assert "Runs: 56 or more" in text
    assert "(of 'no dropout' and 'dropout') or by validation loss" in text
    assert "or by epochs to 5% clean training error (of 'no dropout, fastest' and 'dropout, fastest'), with" in text
    assert command(*words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["least_runs"] == 56
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("words", "sentence"), [
    (["lrn"], "reproduce lrn has no images to train its networks on; write: alexnet reproduce lrn --data DATA; "
     "`embedded` is the name of images in this package"),
    (["lrn", "--plan", "--seeds", 3], "write: alexnet reproduce lrn --data DATA --seeds 3 --plan; `embedded`"),
    (["lrn", "run", "data"], "trains its own networks, and takes their images by --data; write: alexnet reproduce lrn "
     "--data DATA"),
    (["lrn", "photos", "--quick"], "write: alexnet reproduce lrn --data DATA --quick"),
    (["lrn", "--data", "x", "--side", 48], "--side 48 must be 32 or 64"),
    (["lrn", "--data", "x", "--side", 0], "--side 0 must be 32 or 64"),
    (["lrn", "--data", "x", "--seeds", 0], "--seeds 0 must be at least 1"),
    (["lrn", "--data", "x", "--epochs", 0], "--epochs 0 must be at least 1"),
    (["lrn", "--data", "x", "--images-per-class", 0], "--images-per-class 0 must be at least 1"),
    (["lrn", "--data", "x", "--epochs", 2.5], "2.5 must be a whole number"),
    (["lrn", "--data", "x", "--batch-size", 0], "--batch-size 0 must be at least 1"),
    (["lrn", "--data", "x", "--batch-size", 5], "reproduce lrn takes no --batch-size; leave it out"),
    (["table", "run", "data", "--epochs", 5], "reproduce table takes no --epochs; leave it out"),
    (["table", "run", "data", "--plan"], "reproduce table takes no --plan; leave it out"),
    (["lrn", "--data", "x", "--results", "."], ". is a folder; name a file in it"),
])
def test_mistakes_are_one_sentence(words, sentence, capsys):
    assert command("reproduce", *words) == 2
    assert sentence in capsys.readouterr().err


def test_a_class_with_too_few_images_is_refused_before_anything_is_trained(packed):
    with pytest.raises(UserError, match="augmentation trains on 300 images per class, and the smallest class has 30; "
                                        "give --images-per-class 10 or fewer"):
        Design.of(CLAIMS["augmentation"], packed)
