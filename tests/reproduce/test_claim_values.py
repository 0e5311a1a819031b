"""What a claim rests on: the last epoch and not the best one, Student's distribution, the views of a variant."""

import math
import statistics
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from alexnet.architecture.recipe import Recipe
from alexnet.data.preprocessing import Preprocess
from alexnet.inference.evaluate import evaluate
from alexnet.inference.metrics import Errors
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.response_norm import ResponseNorm
from alexnet.reproduce import weight_measures
from alexnet.reproduce.claim_networks import common_setup
from alexnet.reproduce.claims import CLAIMS
from alexnet.reproduce.quantities import measure_quantity
from alexnet.reproduce.runs import Job, RunStore
from alexnet.reproduce.t_tests import paired_t_test
from alexnet.reproduce.weight_measures import ensemble_errors, load, norm_weight, recolored_errors

pytestmark = pytest.mark.usefixtures("one_thread")

# Student's t for a two-sided 95% interval, by the number of values, as printed in tables of the distribution
# (NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, column 0.975, for one degree of freedom less).
T_TABLE = {2: 12.706, 3: 4.303, 8: 2.365, 10: 2.262, 20: 2.093, 31: 2.042}


@pytest.mark.parametrize(("count", "t"), T_TABLE.items())
def test_an_interval_has_the_published_value_of_students_t(count, t):
    values = [((7 * number) % count) ** 1.5 for number in range(count)]  # uneven steps
    error = statistics.stdev(values) / math.sqrt(count)
    found = paired_t_test(values)
    assert (found.high - found.low) / 2 == pytest.approx(t * error, rel=3e-4)
    assert (found.high + found.low) / 2 == pytest.approx(statistics.fmean(values))
    # A mean that is t standard errors away from 0 has a p-value of 5%.
    moved = [value - statistics.fmean(values) + t * error for value in values]
    assert paired_t_test(moved).p == pytest.approx(0.05, rel=2e-3)


@pytest.fixture
def run(packed, tiny, tmp_path, monkeypatch):
    """A finished run whose second epoch of three was the best: 30, 10 and 20 of 44 validation images were wrong."""
    errors = iter([30, 10, 20])
    monkeypatch.setattr("alexnet.training.trainer.evaluate", lambda *a, **k: Errors(44, 44.0, next(errors), 5))
    recipe = Recipe("r", epochs=3, batch_size=60, learning_rate=0.01, schedule="constant")
    return RunStore(packed, tmp_path, "fp32").train_all([Job(packed, tiny, recipe, 0, "a run")])[0]


def test_the_error_of_a_run_is_that_of_its_last_epoch_and_not_of_its_best(run, packed):
    assert checkpoint.load(run.folder / "best").errors["top1_error"] == pytest.approx(10 / 44)
    error = measure_quantity("top1", run, packed, target=None, views=1, device="cpu")
    assert error == pytest.approx(20 / 44)
    assert run.validated["epoch"] == 3
    assert run.curve[-1]["epoch"] == 3


def test_the_network_of_a_run_is_that_of_its_last_epoch(run, packed):
    network, preprocess = load(run, "cpu")
    last, best = (checkpoint.load(run.folder / name) for name in ("last", "best"))
    found = network.state_dict()
    assert all((found[key] == tensor).all() for key, tensor in last.weights.items())
    assert not all((found[key] == tensor).all() for key, tensor in best.weights.items())
    # The clean training error is that of these weights, in evaluation mode.
    clean = evaluate([(network, preprocess)], packed.split("train"))
    assert run.curve[-1]["train_error"] == pytest.approx(clean.top1_error)
    assert run.curve[-1]["train_loss"] == pytest.approx(clean.loss, rel=1e-5)


@pytest.mark.parametrize("views", [1, 10])
def test_an_ensemble_is_measured_with_the_views_that_are_asked_for(run, packed, views):
    models = [load(run, "cpu"), load(run, "cpu")]
    expected = evaluate(models, packed.split("val"), views=views)
    found = ensemble_errors([run, run], packed, views, "cpu")
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    other = evaluate(models, packed.split("val"), views=11 - views)
    assert found.loss != pytest.approx(other.loss, rel=1e-4)
    if views == 10:
        error = measure_quantity("top1", run, packed, target=None, views=10, device="cpu")
        assert error == pytest.approx(expected.top1_error), "two equal networks are one"


def test_overfitting_and_the_loss_are_of_the_last_epoch(run, packed):
    """20 of 44 validation images are wrong after the last epoch, with a loss of 44 over 44 images."""
    gap, loss = (measure_quantity(quantity, run, packed, target=None, views=1, device="cpu")
                 for quantity in ("gap", "loss"))
    assert gap == pytest.approx(20 / 44 - run.curve[-1]["train_error"])
    assert loss == pytest.approx(1.0)


def test_the_rise_by_recoloring_is_from_the_error_of_the_same_network(run, packed):
    recolored = recolored_errors(load(run, "cpu"), packed, "cpu").top1_error
    rise = measure_quantity("recolored_rise", run, packed, target=None, views=1, device="cpu")
    assert rise == pytest.approx(recolored - 20 / 44)


def test_what_an_older_measure_has_measured_is_measured_again(run, packed, monkeypatch):
    measured = []
    monkeypatch.setattr(weight_measures, "norm_weight", lambda *a: measured.append(1) or 0.5)

    def measure():
        return measure_quantity("norm", run, packed, target=None, views=1, device="cpu")

    assert (measure(), measure(), len(measured)) == (0.5, 0.5, 1)
    monkeypatch.setattr(weight_measures, "MEASURES_VERSION", weight_measures.MEASURES_VERSION + 1)
    assert (measure(), measure(), len(measured)) == (0.5, 0.5, 2)
    (run.folder / weight_measures.MEASURED).write_text('{"norm": 0.1}')  # of before there were versions
    assert measure() == 0.5


def test_the_weight_of_the_norms_sum_is_the_mean_over_both_norms_and_hundreds_of_images(packed):
    """By hand, from the inputs of each norm: alpha x (sum of squares over a window of five maps) / k."""
    arch, _ = common_setup(32, 1, settings=[*CLAIMS["lrn"].common, "arch.classes=4", "arch.towers=1"])
    network, preprocess = AlexNet(arch, 0).eval(), Preprocess.from_data(arch.input, packed.mean_HWC)
    inputs = []
    norms = [module for module in network.modules() if isinstance(module, ResponseNorm)]
    for norm in norms:
        norm.register_forward_pre_hook(lambda _, maps: inputs.append(maps[0].double().numpy()))
    split = packed.split("train")
    with torch.inference_mode():
        network(preprocess(torch.from_numpy(split.read(np.arange(len(split))))))
    weights = []
    for maps_NCHW in inputs[:2]:
        squares, maps = maps_NCHW**2, maps_NCHW.shape[1]
        sums = [squares[:, max(0, place - 2) : place + 3].sum(1).mean() for place in range(maps)]
        weights.append(1e-4 * float(np.mean(sums)) / 2)
    assert (len(norms), len(split)) == (2, 120)
    assert max(weights) > 1.05 * min(weights)
    many = SimpleNamespace(split=lambda name: split)
    assert norm_weight((network, preprocess), many, "cpu") == pytest.approx(statistics.fmean(weights), rel=1e-4)
    few = split.subset(split.sample(64))
    assert norm_weight((network, preprocess), SimpleNamespace(split=lambda name: few), "cpu") != pytest.approx(
        statistics.fmean(weights), rel=1e-4)
