"""Values of training steps: smoothed labels, the moment whose learning rate a step has, dropout's draws, epoch sums."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from alexnet.architecture.recipe import Recipe
from alexnet.data.mixing import MixedLabels
from alexnet.training.build import build
from alexnet.training.optimizer import SGD
from alexnet.training.precision import MixedPrecision
from alexnet.training.schedule import learning_rate
from alexnet.training.spec import RunSpec
from alexnet.training.state import State
from alexnet.training.step import train_step

pytestmark = pytest.mark.usefixtures("one_thread")

PRECISION = MixedPrecision("fp32", torch.device("cpu"))


# --- Label smoothing (arXiv 1512.00567, section 7) ---

LOGITS = [[2.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.0]]


def log_softmax(logits: list[float]) -> list[float]:
    total = math.log(sum(math.exp(value) for value in logits))
    return [value - total for value in logits]


def smoothed_loss(logits: list[float], label: int, smoothing: float) -> float:
    """Cross-entropy with the distribution (1 - s) [k = label] + s / K, class by class."""
    shares = [smoothing / len(logits) + (1 - smoothing) * (k == label) for k in range(len(logits))]
    return -sum(share * value for share, value in zip(shares, log_softmax(logits), strict=True))


def network_with(logits: list[list[float]]) -> nn.Linear:
    """Its output for unit vector i is row i of `logits`."""
    layer = nn.Linear(len(logits), len(logits[0]), bias=False)
    layer.weight.data = torch.tensor(logits).T.contiguous()
    return layer


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_smoothed_labels_give_the_loss_and_the_gradient_of_the_formula(smoothing):
    layer, labels = network_with(LOGITS), [0, 3]
    optimizer = SGD(layer, Recipe("r", label_smoothing=smoothing, momentum=0.0, weight_decay=0.0))
    before = layer.weight.detach().clone()
    loss, wrong = train_step(layer, optimizer, torch.eye(2), torch.tensor(labels), 1.0, PRECISION)
    expected = [smoothed_loss(row, label, smoothing) for row, label in zip(LOGITS, labels, strict=True)]
    assert loss.item() == pytest.approx(sum(expected) / 2, rel=1e-6)
    assert wrong.item() == 1
    # The gradient with respect to a logit is its probability minus its share of the label; the batch has two images.
    for image, (row, label) in enumerate(zip(LOGITS, labels, strict=True)):
        for k, value in enumerate(log_softmax(row)):
            share = smoothing / 4 + (1 - smoothing) * (k == label)
            moved = (before - layer.weight.detach())[k, image].item()
            assert moved == pytest.approx((math.exp(value) - share) / 2, abs=1e-6)


def test_smoothing_a_label_by_a_tenth_by_hand():
    """Four even logits: every class has probability 1/4, so the loss is ln 4 with any smoothing. With logits ln 3, 0, 0
    and 0 they are 1/2 and three times 1/6: 0.925 ln 2 + 0.075 ln 6."""
    for logits, expected in (([0.0] * 4, math.log(4)),
                             ([math.log(3), 0.0, 0.0, 0.0], 0.925 * math.log(2) + 0.075 * math.log(6))):
        layer = network_with([logits])
        loss, _ = train_step(layer, SGD(layer, Recipe("r", label_smoothing=0.1)), torch.eye(1), torch.tensor([0]), 0.0,
                             PRECISION)
        assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_both_labels_of_a_mixed_view_are_smoothed_and_weighted_by_their_class():
    layer, mixed = network_with(LOGITS), MixedLabels(torch.tensor([1, 2]), torch.tensor([0.7, 0.2]))
    weights = [0.5, 1.0, 2.0, 4.0]
    loss, _ = train_step(layer, SGD(layer, Recipe("r", label_smoothing=0.1)), torch.eye(2), torch.tensor([0, 3]), 0.0,
                         PRECISION, class_weights_K=torch.tensor(weights), mixed=mixed)
    parts = [(0, 0, 0.7), (0, 1, 0.3), (1, 3, 0.2), (1, 2, 0.8)]
    assert loss.item() == pytest.approx(sum(
        share * weights[label] * smoothed_loss(LOGITS[image], label, 0.1) for image, label, share in parts) / 2)


# --- The moment at which a step's learning rate is taken ---

def rates_of_a_run(packed, tiny, folder, recipe, monkeypatch):
    """What each step's update was given: (rate, conv1's rate), and the events of the run."""
    given, events, begin_step = [], [], SGD.begin_step

    def record(self, rate, conv1_rate=None):
        given.append((rate, conv1_rate))
        begin_step(self, rate, conv1_rate)

    monkeypatch.setattr(SGD, "begin_step", record)
    build(RunSpec(packed, tiny, recipe, folder), on_event=events.append).fit()
    return given, events


def test_a_step_has_the_learning_rate_of_its_middle(packed, tiny, tmp_path, monkeypatch):
    """120 images in batches of at most 50: three steps an epoch, whose middles are at 1/6, 3/6 and 5/6."""
    recipe = Recipe("r", epochs=2, batch_size=50, learning_rate=0.06, schedule="linear", warmup_epochs=0.5)
    given, events = rates_of_a_run(packed, tiny, tmp_path / "run", recipe, monkeypatch)
    # Linear to 0 at epoch 2: 1 - 1/12, 1 - 3/12, ...; the first step is a third into the warm-up of half an epoch.
    expected = [0.06 * factor for factor in (1 / 3 * 11 / 12, 9 / 12, 7 / 12, 5 / 12, 3 / 12, 1 / 12)]
    assert [rate for rate, _ in given] == pytest.approx(expected)
    assert [event["learning_rate"] for event in events if event["event"] == "step"] == pytest.approx(expected)
    epochs = [event["learning_rate"] for event in events if event["event"] == "epoch"]
    assert epochs == pytest.approx([expected[2], expected[5]]), "an epoch's rate is that of its last step"


def test_the_first_step_of_a_drops_epoch_has_the_lower_rate(packed, tiny, tmp_path, monkeypatch):
    recipe = Recipe("r", epochs=3, batch_size=60, learning_rate=0.01, schedule="steps", drop_epochs=(1, 2),
                    conv1_slow_epoch=1, conv1_stop_epoch=2)
    given, _ = rates_of_a_run(packed, tiny, tmp_path / "run", recipe, monkeypatch)
    assert given == [(pytest.approx(rate), pytest.approx(conv1)) for rate, conv1 in (
        (1e-2, 1e-2), (1e-2, 1e-2), (1e-3, 1e-5), (1e-3, 1e-5), (1e-4, 0.0), (1e-4, 0.0))]


def test_the_plateau_lowers_the_rate_from_the_next_epoch_on(packed, tiny, tmp_path, monkeypatch):
    from alexnet.inference.metrics import Errors

    errors = iter([30, 30, 30, 20, 20])
    monkeypatch.setattr("alexnet.training.trainer.evaluate", lambda *a, **k: Errors(44, 44.0, next(errors), 0))
    recipe = replace(Recipe("r"), epochs=5, batch_size=120, patience=2, learning_rate=0.01)
    given, events = rates_of_a_run(packed, tiny, tmp_path / "run", recipe, monkeypatch)
    # Epochs 2 and 3 do not improve on the first: the rate drops after the third.
    assert [rate for rate, _ in given] == pytest.approx([1e-2, 1e-2, 1e-2, 1e-3, 1e-3])
    assert [event["learning_rate"] for event in events if event["event"] == "epoch"] == pytest.approx(
        [1e-2, 1e-2, 1e-2, 1e-3, 1e-3])


def test_the_cosine_and_the_quadratic_schedule_by_hand():
    """Of 12 epochs, at 0, a third, a half, two thirds and the end: cosines of 0, 60, 90, 120 and 180 degrees."""
    moments = (0, 4, 6, 8, 12)
    for schedule, factors in (("cosine", (1, 3 / 4, 1 / 2, 1 / 4, 0)), ("poly", (1, 4 / 9, 1 / 4, 1 / 9, 0)),
                              ("linear", (1, 2 / 3, 1 / 2, 1 / 3, 0)), ("constant", (1, 1, 1, 1, 1))):
        recipe = Recipe("r", epochs=12, learning_rate=0.36, schedule=schedule)
        assert [learning_rate(recipe, moment) for moment in moments] == pytest.approx(
            [0.36 * factor for factor in factors], abs=1e-12)


# --- Dropout's draws and the sums of an epoch ---

def dropout_masks(packed, tiny, folder, seed):
    """The mask that dropout draws, step by step."""
    recipe = Recipe("r", epochs=2, batch_size=60, learning_rate=0.001, schedule="constant")
    trainer = build(RunSpec(packed, tiny, recipe, folder, seed=seed))
    masks = []
    for layer in trainer.network.modules():
        if isinstance(layer, nn.Dropout):
            layer.register_forward_pre_hook(lambda layer, inputs: masks.append(
                layer.forward(torch.ones_like(inputs[0])).bool().numpy().tobytes()) if layer.training else None)
    trainer.fit()
    return masks


def test_dropout_draws_another_mask_in_every_step_and_with_every_seed(packed, tiny, tmp_path):
    first = dropout_masks(packed, tiny, tmp_path / "first", seed=1)
    assert len(first) == 4
    assert first == dropout_masks(packed, tiny, tmp_path / "again", seed=1)
    other = dropout_masks(packed, tiny, tmp_path / "other", seed=2)
    assert len({*first, *other}) == 8


def test_an_epochs_loss_and_error_count_every_image_once():
    """Batches of 2, 2 and 3 images with mean losses 1, 2 and 4: (2 + 4 + 12) / 7, and 1 + 0 + 2 wrong of 7."""
    state = State(seed=0, data="", precision="fp32")
    for images, loss, wrong in ((2, 1.0, 1), (2, 2.0, 0), (3, 4.0, 2)):
        state.count(images, loss, wrong)
    assert state.epoch_loss_sum / state.epoch_images == pytest.approx(18 / 7)
    assert state.epoch_wrong / state.epoch_images == pytest.approx(3 / 7)


def test_an_epochs_logged_loss_is_that_of_its_images_in_uneven_micro_batches(packed, tiny, tmp_path):
    """Without an update that counts, the loss of an epoch is that of its images, however they are divided."""
    arch = replace(tiny, norm="none", dense_norm=False, dropout=0.0, conv=tuple(
        replace(conv, post_ops=conv.post_ops.replace("norm ", "")) for conv in tiny.conv))
    recipe = Recipe("r", epochs=1, batch_size=70, learning_rate=1e-12, schedule="constant", crop="center", mirror=False,
                    lighting=0.0)
    losses = []
    for number, options in enumerate(({}, {"micro_batch": 25}, {"micro_batch": 7})):  # 60 images: 20 x 3; 9 x 6.67
        spec = RunSpec(packed, arch, recipe, tmp_path / str(number), seed=3, **options)
        build(spec, on_event=lambda event: losses.append(event["train_loss"]) if event["event"] == "epoch" else None
              ).fit()
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    from alexnet.inference.evaluate import evaluate
    trainer = build(RunSpec(packed, arch, recipe, tmp_path / "fresh", seed=3))
    whole = evaluate([(trainer.network, trainer.preprocess)], trainer.training)
    assert losses[0] == pytest.approx(whole.loss, rel=1e-5)


def test_the_update_of_uneven_micro_batches_is_that_of_the_whole_batch(packed, tiny, tmp_path):
    """60 images in parts of 6 and 7: an image counts with 1 / 60, whichever part it is in."""
    arch = replace(tiny, norm="none", dense_norm=False, dropout=0.0, conv=tuple(
        replace(conv, post_ops=conv.post_ops.replace("norm ", "")) for conv in tiny.conv))
    recipe = Recipe("r", epochs=1, batch_size=60, learning_rate=0.01, schedule="constant")
    weights = []
    for number, micro_batch in enumerate((None, 7)):
        trainer = build(RunSpec(packed, arch, recipe, tmp_path / str(number), seed=3, micro_batch=micro_batch))
        before = torch.cat([one.detach().flatten().clone() for one in trainer.network.parameters()])
        trainer.fit()
        weights.append(torch.cat([one.detach().flatten() for one in trainer.network.parameters()]) - before)
    whole, parts = weights
    assert (parts - whole).norm() < 1e-4 * whole.norm()
