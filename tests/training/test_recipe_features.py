"""Class weights, gradient clipping, weight averaging, early stopping: values, resume, impossible settings."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from alexnet.architecture.overrides import override
from alexnet.architecture.recipe import Recipe
from alexnet.errors import UserError
from alexnet.models import checkpoint
from alexnet.training.build import build
from alexnet.training.class_weights import class_weights
from alexnet.training.optimizer import SGD
from alexnet.training.precision import MixedPrecision
from alexnet.training.spec import RunSpec
from alexnet.training.step import train_step
from alexnet.training.weight_average import WeightAverage

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = Recipe("quick", epochs=3, batch_size=16, learning_rate=0.05, schedule="linear", decay_biases=False)


class Killed(BaseException):
    """Stands for the end of the process."""


def events(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


# --- Class weights ---

def test_balanced_class_weights_are_inverse_to_the_counts_and_average_to_one():
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
    # 1/60 : 1/30 : 1/10 = 1 : 2 : 6; the sum over images is 60 + 60 + 60, so the mean is 1.8.
    assert class_weights(Recipe("r", class_weights="balanced"), labels, 3).tolist() == pytest.approx(
        [1 / 1.8, 2 / 1.8, 6 / 1.8])


def test_a_class_weight_is_capped():
    labels = np.array([0] * 90 + [1] * 10)
    # 1 : 9, capped at 4: the sum is 90 + 40.
    assert class_weights(Recipe("r", class_weights="balanced", class_weight_cap=4.0), labels, 2).tolist() == (
        pytest.approx([1 / 1.3, 4 / 1.3]))


@pytest.mark.parametrize(("counts", "balances"), [((30, 10), False), ((31, 10), True)])
def test_auto_balances_classes_of_which_one_has_over_three_times_the_images(counts, balances):
    labels = np.repeat([0, 1], counts)
    assert (class_weights(Recipe("r", class_weights="auto"), labels, 2) is not None) == balances
    assert class_weights(Recipe("r"), labels, 2) is None


def test_given_class_weights_keep_their_ratio_and_their_number_is_checked():
    labels = np.array([0, 0, 0, 1])
    assert class_weights(override(Recipe("r"), ["class_weights=1,5"]), labels, 2).tolist() == pytest.approx([0.5, 2.5])
    with pytest.raises(UserError, match="class_weights has 2 weights and the data has 3 classes"):
        class_weights(Recipe("r", class_weights=(1.0, 2.0)), labels, 3)


def test_the_weighted_loss_is_the_mean_of_each_images_loss_times_its_weight():
    layer = nn.Linear(4, 3)
    views, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 2, 1])
    weights = torch.tensor([0.5, 1.0, 2.0])
    logits = layer(views).detach()
    expected = -(torch.tensor([0.5, 1.0, 2.0, 2.0, 1.0]) * logits.log_softmax(1)[torch.arange(5), labels]).mean()
    precision = MixedPrecision("fp32", torch.device("cpu"))
    loss, _ = train_step(layer, SGD(layer, Recipe("r")), views, labels, 0.1, precision, class_weights_K=weights)
    torch.testing.assert_close(loss, expected)


def test_micro_batches_of_a_weighted_loss_add_up_to_the_batch():
    torch.manual_seed(0)
    whole, cut = nn.Linear(4, 3), nn.Linear(4, 3)
    cut.load_state_dict(whole.state_dict())
    views, labels, weights = torch.randn(6, 4), torch.tensor([0, 1, 2, 2, 1, 0]), torch.tensor([0.2, 1.0, 3.0])
    precision = MixedPrecision("fp32", torch.device("cpu"))
    train_step(whole, SGD(whole, Recipe("r")), views, labels, 0.1, precision, class_weights_K=weights)
    optimizer = SGD(cut, Recipe("r"))
    for part, last in ((slice(0, 2), False), (slice(2, 6), True)):
        train_step(cut, optimizer, views[part], labels[part], 0.1, precision, class_weights_K=weights, update=last,
                   batch_fraction=len(labels[part]) / 6)
    torch.testing.assert_close(cut.weight, whole.weight)


# --- Gradient clipping ---

@pytest.mark.parametrize("clip_norm", [0.5, 1e6])
def test_clipping_is_that_of_torch(clip_norm):
    torch.manual_seed(0)
    ours, theirs = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2)), nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2))
    theirs.load_state_dict(ours.state_dict())
    optimizer = SGD(ours, Recipe("r", lr_in_velocity=False, clip_norm=clip_norm, weight_decay=0.01))
    reference = torch.optim.SGD(theirs.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01)
    for _ in range(4):
        x = torch.randn(4, 6)
        for network in (ours, theirs):
            network.zero_grad()
            network(x).square().sum().backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), clip_norm)
        optimizer.step(0.01)
        reference.step()
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, other)


def test_the_norm_of_a_split_network_is_taken_over_all_its_parts():
    """This process has half of a weight of norm 5 (3, 4); the other half's squares are added by `sum_squares`."""
    half = nn.Linear(1, 1, bias=False)
    half.weight.data.zero_()
    optimizer = SGD(half, Recipe("r", clip_norm=1.0, momentum=0.0, weight_decay=0.0),
                    sum_squares=lambda names, own_T: own_T + 4.0**2)
    half.weight.grad = torch.tensor([[3.0]])
    optimizer.step(1.0)
    torch.testing.assert_close(half.weight.detach(), torch.tensor([[-3.0 / 5]]))


# --- Weight averaging ---

def test_the_average_is_the_formula():
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(1.0)
    average, expected = WeightAverage(layer, 0.5), 1.0
    for step, weight in enumerate([2.0, 3.0, 5.0, 7.0], 1):
        layer.weight.data.fill_(weight)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))  # 2/11, 3/12, 4/13, 5/14
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(average.average["weight"], torch.tensor([[expected]]))
    assert layer.weight.item() == 7.0
    with average.swapped():
        assert layer.weight.item() == pytest.approx(expected)
        assert average.trained["weight"].item() == 7.0
    assert layer.weight.item() == 7.0


def test_the_saved_network_has_the_average_and_is_the_one_that_was_evaluated(packed, tiny, tmp_path):
    run = build(RunSpec(packed, tiny, replace(QUICK, ema_decay=0.9), tmp_path / "run"))
    errors = run.fit()
    saved = checkpoint.load(tmp_path / "run" / "last", with_velocity=True)
    assert saved.raw_weights.keys() == saved.weights.keys()
    assert all(torch.equal(saved.weights[key], tensor) for key, tensor in run.average.average.items())
    assert all(torch.equal(saved.raw_weights[key], tensor) for key, tensor in run.network.state_dict().items())
    assert not torch.equal(saved.weights["features.conv1.weight"], saved.raw_weights["features.conv1.weight"])
    assert not checkpoint.load(tmp_path / "run" / "best", with_velocity=True).raw_weights
    again = checkpoint.load(tmp_path / "run" / "last")
    assert again.errors["loss"] == pytest.approx(errors.loss)
    from alexnet.inference.evaluate import evaluate
    assert evaluate([(again.network(), again.preprocess())], packed.split("val")).loss == pytest.approx(errors.loss)


# --- Early stopping ---

def test_training_ends_after_epochs_without_a_lower_error(packed, tiny, tmp_path, monkeypatch):
    from alexnet.inference.metrics import Errors

    errors = iter([30, 20, 25, 20, 10])
    monkeypatch.setattr("alexnet.training.trainer.evaluate", lambda *a, **k: Errors(44, 44.0, next(errors), 0))
    build(RunSpec(packed, tiny, replace(QUICK, epochs=8, early_stop_epochs=2), tmp_path / "run")).fit()
    log = events(tmp_path / "run")
    wrong = [round(44 * event["val_top1_error"]) for event in log if event["event"] == "epoch"]
    assert wrong == [30, 20, 25, 20]
    assert log[-1] == {"event": "end", "step": 32, "epoch": 4, "best_top1_error": 20 / 44, "stopped_early": True}
    build(RunSpec(packed, tiny, replace(QUICK, epochs=8, early_stop_epochs=2), tmp_path / "run", resume=True)).fit()
    assert events(tmp_path / "run")[-1]["epoch"] == 4, "a run that has stopped early stays so when it is resumed"


# --- Together ---

def test_all_of_them_resume_bit_for_bit(packed, tiny, tmp_path):
    recipe = replace(QUICK, ema_decay=0.99, clip_norm=1.0, class_weights=(1.0, 2.0, 3.0, 1.0), early_stop_epochs=2)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    build(RunSpec(packed, tiny, recipe, whole, seed=5)).fit()

    def die_at(event_kind, count):
        seen = []

        def on_event(event):
            seen.extend([event] if event["event"] == event_kind else [])
            if len(seen) == count:
                raise Killed
        return on_event

    for number, when in enumerate([("step", 3), ("validating", 1), ("step", 9)]):
        with pytest.raises(Killed):
            build(RunSpec(packed, tiny, recipe, broken, seed=5, resume=number > 0, save_minutes=0.0),
                  on_event=die_at(*when)).fit()
    build(RunSpec(packed, tiny, recipe, broken, seed=5, resume=True)).fit()
    one, other = (checkpoint.load(run / "last", with_velocity=True) for run in (whole, broken))
    for part in ("weights", "raw_weights", "velocity"):
        a, b = getattr(one, part), getattr(other, part)
        assert a.keys() == b.keys()
        assert a
        assert all(torch.equal(a[key], b[key]) for key in a), part
    assert one.training == other.training


def test_a_signal_while_validating_saves_the_trained_weights_and_not_their_average(packed, tiny, tmp_path):
    import os
    import signal

    from alexnet.training.state import Interrupted

    recipe = replace(QUICK, ema_decay=0.99)
    build(RunSpec(packed, tiny, recipe, tmp_path / "whole", seed=5)).fit()

    def stop(event):
        if event["event"] == "validating":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        build(RunSpec(packed, tiny, recipe, tmp_path / "run", seed=5), on_event=stop).fit()
    build(RunSpec(packed, tiny, recipe, tmp_path / "run", seed=5, resume=True)).fit()
    one, other = (checkpoint.load(tmp_path / run / "last", with_velocity=True) for run in ("whole", "run"))
    assert all(torch.equal(one.weights[key], other.weights[key]) for key in one.weights)
    assert all(torch.equal(one.raw_weights[key], other.raw_weights[key]) for key in one.raw_weights)


@pytest.mark.parametrize(("settings", "words"), [
    (["class_weights=1,-2"], "class_weights (1.0, -2.0) must be positive numbers"),
    (["class_weights=[]"], "class_weights () must be positive numbers"),
    (["class_weights=balance"], "is not one of off, auto, balanced or a list of numbers"),
    (["class_weight_cap=0.5"], "class_weight_cap 0.5 must be at least 1"),
    (["clip_norm=-1"], "clip_norm -1.0 must be at least 0"),
    (["clip_norm=1", "lars_trust=0.001"], "LARS divides each layer's gradient by its norm already"),
    (["ema_decay=1"], "ema_decay 1.0 must lie in 0 <= d < 1"),
    (["early_stop_epochs=90"], "early_stop_epochs 90 must lie in 0 <= e < 90, the number of epochs"),
    (["early_stop_epochs=3", "schedule=plateau"], "would end the run before the schedule `plateau` has lowered"),
    (["ema=0.9"], "did you mean recipe.ema_decay?"), (["early_stopping=3"], "did you mean recipe.early_stop_epochs?"),
])
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(UserError) as refused:
        override(Recipe("r"), settings, "recipe.")
    assert words in str(refused.value)


@pytest.mark.parametrize("name", ["paper", "code2012", "caffe", "torchvision", "modern", "lars", "finetune", "cifar"])
def test_no_preset_has_any_of_them(name):
    from alexnet.architecture.recipe_presets import recipe

    chosen = recipe(name)
    assert (chosen.class_weights, chosen.clip_norm, chosen.ema_decay, chosen.early_stop_epochs) == ("off", 0, 0, 0)
