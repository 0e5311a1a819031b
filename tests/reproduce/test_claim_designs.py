"""Designs of claims: what each variant is tuned by, draws of images, initialization, batch norm, time to a target."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from alexnet.data.overlap import Overlap
from alexnet.models.alexnet import AlexNet
from alexnet.reproduce.claim import Claim
from alexnet.reproduce.claims import CLAIMS
from alexnet.reproduce.design import Design
from alexnet.reproduce.finished_run import FinishedRun
from alexnet.reproduce.measures import data_refusal, reproduce
from alexnet.reproduce.results import departures
from alexnet.reproduce.results_text import format_measured, verdict_sentences
from alexnet.reproduce.runs import Job, RunStore

pytestmark = pytest.mark.usefixtures("one_thread")


class InventedRuns(RunStore):
    """Runs that are not trained: `result` gives the validation error and the curve of each job."""

    def __init__(self, packed, folder, result, machine=lambda job: "here"):
        super().__init__(packed, folder, "fp32")
        self.result, self.machine, self.jobs = result, machine, []

    def train_all(self, jobs):
        self.jobs += jobs
        return [self.finished(job) for job in jobs]

    def finished(self, job):
        error, curve, *loss = self.result(job)
        points = tuple({"epoch": epoch, "train_error": value, "train_loss": value} for epoch, value in curve)
        validated = error and {"val_top1_error": error, "val_top5_error": error / 5,
                               "val_loss": loss[0] if loss else 4 * error}
        return FinishedRun(self.folder, points, validated, 0.75, "last epoch", "", self.machine(job), "fp32")


def steps_from(job: Job, best: float) -> float:
    """Distance of a job's rate from the best one, in powers of 10."""
    return abs(math.log10(job.recipe.learning_rate / best))


def setups(name: str, side: int = 64):
    claim: Claim = CLAIMS[name]
    return {variant.name: Design(claim, side, 40, None, 8, 1, (0.01,), 8).setup(variant)
            for variant in claim.variants}


# --- Tuning -----------------------------------------------------------------------------------------------------------


def test_dropout_compares_errors_losses_and_epochs_each_at_its_own_best_rate(packed, tmp_path):
    """The lowest error is at 0.01, the lowest loss at 0.003, the fewest epochs to 5% are at 0.03.

    Error and loss are chosen from the same tuning runs. Those to the target have a constant rate and twice the epochs.
    """
    def result(job):
        if job.target:
            assert (job.target, job.recipe.schedule, job.recipe.epochs, job.curve_epochs) == (0.05, "constant", 300, 1)
            return None, [(10 * (1 + steps_from(job, 0.03)), 0.05)]
        assert (job.recipe.schedule, job.recipe.epochs) == ("linear", 150)
        return 0.4 + steps_from(job, 0.01) / 10, [(150, 0.01)], 2 + steps_from(job, 0.003)

    runs = InventedRuns(packed, tmp_path, result)
    outcome = reproduce(Design.of(CLAIMS["dropout"], packed, images_per_class=20), runs)
    rates = {variant["name"]: variant["rate"] for variant in outcome["variants"]}
    assert rates == {"no dropout": 0.01, "dropout": 0.01, "no dropout, lowest loss": 0.003,
                     "dropout, lowest loss": 0.003, "no dropout, fastest": 0.03, "dropout, fastest": 0.03}
    grids = {variant["name"]: {trial["rate"]: trial["errors"] for trial in variant["tuning"]}
             for variant in outcome["variants"]}
    assert grids["dropout"][0.01] == [0.4, 0.4]
    assert grids["dropout, lowest loss"][0.003] == [2, 2]
    assert grids["dropout, fastest"][0.03] == pytest.approx([10, 10])
    trained = {runs.name(job) for job in runs.jobs if job.seed >= 1000}
    # Two networks, two seeds: four rates below and at 0.03 for error and loss, four up to 0.1 for the epochs.
    assert len(trained) == 2 * 2 * (4 + 4)
    assert [(one["quantity"], one["unit"]) for one in outcome["comparisons"]] == [
        ("top-1 error", "points"), ("validation loss", "times"), ("epochs to 5% clean training error", "times")]
    assert all("overfitting gap" in run["more"] for variant in outcome["variants"] for run in variant["runs"])


def test_a_rate_at_which_a_run_never_gets_to_the_target_is_not_the_fastest(packed, tmp_path):
    def result(job):
        return 0.4, [(5, 0.06), (300, 0.06)] if job.recipe.learning_rate < 0.01 else [(140, 0.04)]

    outcome = reproduce(Design.of(CLAIMS["dropout"], packed, images_per_class=20),
                        InventedRuns(packed, tmp_path, result))
    fastest = outcome["variants"][4]
    assert fastest["rate"] >= 0.01
    assert fastest["tuning"][0]["errors"] == [None, None]


def test_weight_decay_is_tuned_by_the_clean_training_error_that_it_compares(packed, tmp_path):
    def result(job):
        return 0.4 + steps_from(job, 0.01), [(40, 0.1 + steps_from(job, 0.03))]

    outcome = reproduce(Design.of(CLAIMS["weight-decay"], packed), InventedRuns(packed, tmp_path, result))
    assert [variant["rate"] for variant in outcome["variants"]] == [0.03, 0.03]
    assert outcome["variants"][0]["tuning"][0]["errors"] == pytest.approx([0.1 + 1] * 2)
    assert outcome["tuned_by"] == "clean training error, with other seeds"


@pytest.mark.parametrize("name", ["figure1", "saturation", "biases"])
def test_claims_that_stop_at_a_target_are_tuned_by_the_epochs_to_it(name, packed):
    claim = CLAIMS[name]
    assert {variant.tuned_by for variant in claim.variants} == {"epochs"}
    assert claim.stops_at_target
    assert Design.of(claim, packed).tuned_by.startswith("epochs to ")


def test_a_rate_is_chosen_by_two_seeds():
    assert {claim.tuning_seeds for claim in CLAIMS.values()} == {2}


# --- Images -----------------------------------------------------------------------------------------------------------


def test_both_sides_of_a_pair_train_on_the_same_draw_of_images_and_each_seed_on_another(packed, tmp_path):
    runs = InventedRuns(packed, tmp_path, lambda job: (0.4 + steps_from(job, 0.01), [(150, 0.1)]))
    reproduce(Design.of(CLAIMS["augmentation"], packed, images_per_class=10, seeds=3), runs)
    drawn: dict[tuple[int, int], set[tuple[str, ...]]] = {}
    for job in runs.jobs:
        names = job.data.split("train").names
        drawn.setdefault((job.seed, len(names)), set()).add(tuple(names))
    assert all(len(images) == 1 for images in drawn.values())  # whatever the variant and the rate
    assert {seed for seed, _ in drawn} == {0, 1, 2, 1000, 1001}
    whole = [drawn[seed, 40] for seed in (0, 1, 2)]  # 10 of four classes
    assert len(set.union(*whole)) == 3
    for seed in (0, 1, 2):
        (half,), (all_,) = drawn[seed, 20], drawn[seed, 40]
        assert {*half} < {*all_}


def test_tuning_runs_of_few_images_train_on_as_many_and_are_validated_on_others(packed):
    runs = RunStore(packed, packed.path, "fp32")
    tuning, fresh = runs.subset(10, draw=1000, tuning=True), runs.subset(10, draw=0)
    assert len(tuning.split("train")) == len(fresh.split("train")) == 40
    held_out = {*tuning.split("val").names}
    assert not held_out & {*tuning.split("train").names}
    assert held_out <= {*packed.split("train").names}


# --- Networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["figure1", "saturation"])
def test_each_activation_has_weights_that_keep_the_variance_of_the_signal(name):
    """He et al., arXiv 1502.01852: 2 / fan-in. Glorot and Bengio, AISTATS 2010: 1 / fan-in for a derivative of 1 at 0,
    as tanh's."""
    squared_gains = {"ReLU": 2, "tanh": 1}
    for variant, (arch, _) in setups(name).items():
        assert arch.input.scale == (58, 58, 58)
        layers = list(AlexNet(arch, 0).weight_layers())
        for layer, module in layers[:-1]:
            fan_in = module.weight[0].numel()
            assert module.weight.var().item() * fan_in == pytest.approx(squared_gains[variant], rel=0.1), layer
        assert layers[-1][1].weight.std().item() == pytest.approx(0.01, rel=0.1)


def test_batch_norm_before_and_after_the_relu_differ_in_the_place_alone():
    networks = {name: AlexNet(arch, 0) for name, (arch, _) in setups("batch-norm").items()}
    after, before = networks["batch norm after ReLU"], networks["batch norm before ReLU"]
    assert {*after.layer_names()} == {*before.layer_names()}
    assert [name for name in after.layer_names() if name.startswith("norm")] == [f"norm{n}" for n in range(1, 6)]
    for network, first, second in ((after, "relu", "norm"), (before, "norm", "relu")):
        names = network.layer_names()
        assert all(names.index(f"{second}{number}") == names.index(f"{first}{number}") + 1 for number in range(1, 6))
    assert not [name for name in networks["no normalization"].layer_names() if name.startswith("norm")]
    assert {comparison.reference for comparison in CLAIMS["batch-norm"].comparisons} == {"no normalization"}


# --- Time to a target -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "images", "epochs"), [
    ("figure1", 50_000, 41), ("figure1", 9_469, 217), ("saturation", 9_469, 55), ("biases", 9_469, 55)])
def test_runs_to_a_target_have_the_same_steps_on_any_data(name, images, epochs):
    """Batches of 128: 391 steps an epoch of CIFAR-10, 74 of Imagenette. 16,000 / 391 = 40.9; 4,000 / 74 = 54.1."""
    claim = CLAIMS[name]
    assert (claim.epochs_on(images), claim.stops_at_target) == (epochs, True)


def test_a_run_that_did_not_get_to_the_target_says_how_long_it_tried(packed, tmp_path):
    def result(job):
        return None, [(10, 0.2)] if job.arch.activation == "relu" else [(200, 0.3)]

    outcome = reproduce(Design.of(CLAIMS["figure1"], packed, epochs=200), InventedRuns(packed, tmp_path, result))
    relu, tanh = (variant["runs"] for variant in outcome["variants"])
    assert all("epochs_without_target" not in run for run in relu)
    assert [(run["value"], run["epochs_without_target"]) for run in tanh] == [(None, 200)] * 5
    assert "tanh: 5 of 5 runs with fresh seeds did not reach 25% clean training error in 200 epochs" in outcome["notes"]


# --- Machines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("machine", "is_noted"), [
    (lambda job: "here", False), (lambda job: "there" if job.seed >= 1000 else "here", False),
    (lambda job: "there" if job.recipe.lighting and job.seed < 4 else "here", True)])
def test_runs_that_were_trained_on_different_machines_are_noted(machine, is_noted, packed, tmp_path, monkeypatch):
    monkeypatch.setattr("alexnet.reproduce.measures.measure_quantity", lambda *a, **k: 0.4)
    runs = InventedRuns(packed, tmp_path, lambda job: (0.4 + steps_from(job, 0.01), [(40, 0.1)]), machine)
    notes = reproduce(Design.of(CLAIMS["lighting"], packed), runs)["notes"]
    found = [note for note in notes if "different machines" in note]
    assert found == [
        "the runs with fresh seeds were trained on different machines or in different precisions, which may change "
        "results: no color noise: here, fp32; color noise: here, fp32 and there, fp32"] * is_noted


def test_variants_of_augmentation_with_the_same_network_cost_as_many_runs_as_the_plan_says(packed):
    """Eight networks or recipes, three rates with two tuning seeds, eight fresh seeds. Two more variants differ only in
    what their rate is chosen by."""
    assert Design.of(CLAIMS["augmentation"], packed, images_per_class=10).least_runs == 8 * (3 * 2 + 8)


# --- Runs that did not get to the target ------------------------------------------------------------------------------


def epochs_of_figure1(packed, tmp_path, relu, tanh):
    """The comparison of Figure 1, if the variants take so many epochs with each seed; None: more than 200."""
    def result(job):
        times = relu if job.arch.activation == "relu" else tanh
        epochs = times[job.seed] if job.seed < 1000 else next(filter(None, times), 100)
        steps = steps_from(job, 0.003)
        return None, [(200, 0.3)] if epochs is None else [(epochs * (1 + steps), 0.25)]

    outcome = reproduce(Design.of(CLAIMS["figure1"], packed, epochs=200), InventedRuns(packed, tmp_path, result))
    assert [variant["rate"] for variant in outcome["variants"]] == [0.003, 0.003]
    (comparison,) = outcome["comparisons"]
    return comparison


RELU = (10, 11, 12, 10, 11)


def test_a_slow_side_that_never_got_there_supports_what_its_bound_exceeds(packed, tmp_path):
    comparison = epochs_of_figure1(packed, tmp_path, RELU, (150, 165, None, 190, None))
    assert (comparison["verdict"], comparison["bound"]) == ("supported", "at least")
    assert comparison["reason"] == (
        "the ratio is significant and has the claim's sign, and the interval of the bound lies beyond the paper's "
        "number, 6 times: in 2 of 5 seeds tanh did not reach the target, and counts with the epochs that it had")
    ratios = (15, 15, 200 / 12, 19, 200 / 11)
    assert comparison["mean"] == pytest.approx(math.exp(sum(map(math.log, ratios)) / 5))
    assert comparison["values"] == pytest.approx([15, 15, 19])
    assert (comparison["low"], comparison["high"], comparison["minimum_detectable"]) == (None, None, None)
    assert format_measured(comparison) == f"at least {comparison['mean']:.2f} times (no interval)"
    assert f"tanh against ReLU: at least {comparison['mean']:.2f} times the epochs" in verdict_sentences(comparison)


def test_a_bound_below_the_papers_number_leaves_the_size_open(packed, tmp_path):
    comparison = epochs_of_figure1(packed, tmp_path, (60, 61, 62, 60, 61), (150, 165, None, 190, None))
    assert (comparison["verdict"], comparison["bound"]) == ("supported in sign", "at least")
    assert comparison["reason"] == (
        "the ratio is significant and has the claim's sign; its size is open: in 2 of 5 seeds tanh did not reach the "
        "target, and counts with the epochs that it had")


@pytest.mark.parametrize(("relu", "tanh", "bound"), [
    ((100, 110, None, 105, None), (10, 11, 12, 10, 11), "at most"),  # the paper's fast side is the slow one
    ((10, 180, 12, 190, 200), (190, 12, None, 11, 10), "at least")])  # no sign
def test_where_the_bound_is_not_conservative_or_not_significant_it_supports_nothing(relu, tanh, bound, packed,
                                                                                    tmp_path):
    comparison = epochs_of_figure1(packed, tmp_path, relu, tanh)
    expected = "contradicted" if bound == "at most" else "undecided"
    assert (comparison["verdict"], comparison["bound"]) == (expected, bound)


def test_a_fast_side_that_never_got_there_is_undecided(packed, tmp_path):
    """The ratios are 9 with four seeds, and at most 0.9 with one: significant, but the mean is too large."""
    comparison = epochs_of_figure1(packed, tmp_path, (20, 21, None, 22, 21), (190, 195, 180, 190, 185))
    assert comparison["p_holm"] < 0.05
    assert (comparison["verdict"], comparison["bound"]) == ("undecided", "at most")
    assert comparison["reason"] == ("in 1 of 5 seeds ReLU did not reach the target, and counts with the epochs that it "
                                    "had, which decides nothing")


def test_runs_that_did_not_get_there_on_both_sides_decide_nothing(packed, tmp_path):
    comparison = epochs_of_figure1(packed, tmp_path, (10, None, 12, 11, 10), (150, 160, None, 190, 150))
    assert (comparison["verdict"], comparison["mean"]) == ("undecided", None)
    assert "bound" not in comparison


def test_a_diverged_run_counts_as_one_that_did_not_get_there(packed, tmp_path, monkeypatch):
    def result(job):
        return None, [(10 + job.seed % 3, 0.25)] if job.arch.activation == "relu" else [(150 + job.seed % 7, 0.25)]

    runs = InventedRuns(packed, tmp_path, result)
    finished = runs.finished

    def diverging(job):
        run = finished(job)
        return replace(run, ended="diverged", curve=()) if job.arch.activation == "tanh" and job.seed == 2 else run

    runs.finished = diverging
    outcome = reproduce(Design.of(CLAIMS["figure1"], packed, epochs=200), runs)
    assert outcome["variants"][1]["runs"][2]["epochs_without_target"] == 200
    (comparison,) = outcome["comparisons"]
    assert comparison["bound"] == "at least"
    assert len(comparison["values"]) == 4


def test_data_other_than_that_of_the_sentence_are_a_departure(packed):
    found = departures(Design.of(CLAIMS["figure1"], packed), packed)
    assert found[0] == f"{Path(packed.source).name} instead of cifar10"
    assert not departures(Design.of(CLAIMS["two-gpu"], packed), packed)


# --- Data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("overlap", "is_refused"), [
    (Overlap(10_000, 7), False), (Overlap(10_000, 20), False), (Overlap(10_000, 21), True),
    (Overlap(3_925), False), (Overlap(3_955, 20, 10), True),
    (Overlap(1_000, 0, 3, "a.jpg"), True), (Overlap(1_000, 0, 3, "a.jpg", usual_share=0.01), False)])
def test_validation_images_that_are_known_from_training_leave_no_verdict(overlap, is_refused, packed, tmp_path):
    """More than two in a thousand; images that are alike by nature do not count."""
    refusal = data_refusal(overlap)
    assert bool(refusal) == is_refused
    runs = InventedRuns(packed, tmp_path, lambda job: (
        0.4 + steps_from(job, 0.01) + (0.1 if job.arch.towers == 1 else 0) + job.seed % 3 / 1000, [(40, 0.1)]))
    (comparison,) = reproduce(Design.of(CLAIMS["two-gpu"], packed), runs, refusal)["comparisons"]
    assert comparison["verdict"] == ("undecided" if is_refused else "supported")
    assert comparison["reason"].startswith(refusal)
