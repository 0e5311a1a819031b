"""Training with TrivialAugment, random erasing, mixup and CutMix: loss, resume, micro-batches, refusals."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from alexnet.architecture.overrides import override
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import RECIPES
from alexnet.data.mixing import MixedLabels
from alexnet.errors import UserError
from alexnet.models import checkpoint
from alexnet.reproduce.report.page import write_report
from alexnet.training.build import build
from alexnet.training.optimizer import SGD
from alexnet.training.parallel.process_group import single_process
from alexnet.training.precision import MixedPrecision
from alexnet.training.preflight import check_network
from alexnet.training.spec import RunSpec
from alexnet.training.step import train_step
from report_runs import words

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = Recipe("quick", epochs=2, batch_size=16, learning_rate=0.05, schedule="linear", decay_biases=False)
ALL = replace(QUICK, trivial_augment=True, erase_probability=0.5, mixup_alpha=0.2, cutmix_alpha=1.0)


class Killed(BaseException):
    """Stands for the end of the process."""


def loss_of(logits: torch.Tensor, label: int) -> float:
    return -float(logits.log_softmax(0)[label])


# --- The loss ---

def test_a_mixed_views_loss_is_the_weighted_mean_of_those_of_its_labels():
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    views, labels = torch.randn(2, 4), torch.tensor([0, 1])
    mixed = MixedLabels(torch.tensor([2, 2]), torch.tensor([0.75, 0.2]))
    first, second = layer(views).detach()
    weights = torch.tensor([0.5, 1.0, 2.0])
    precision = MixedPrecision("fp32", torch.device("cpu"))
    loss, _ = train_step(layer, SGD(layer, Recipe("r")), views, labels, 0.0, precision, mixed=mixed)
    assert loss.item() == pytest.approx(
        (0.75 * loss_of(first, 0) + 0.25 * loss_of(first, 2) + 0.2 * loss_of(second, 1) + 0.8 * loss_of(second, 2)) / 2)
    loss, _ = train_step(layer, SGD(layer, Recipe("r")), views, labels, 0.0, precision, mixed=mixed,
                         class_weights_K=weights)
    assert loss.item() == pytest.approx((0.75 * 0.5 * loss_of(first, 0) + 0.25 * 2 * loss_of(first, 2)
                                         + 0.2 * loss_of(second, 1) + 0.8 * 2 * loss_of(second, 2)) / 2)


def test_the_training_error_counts_the_label_of_larger_weight():
    layer = nn.Linear(3, 3)
    layer.weight.data, layer.bias.data = torch.eye(3), torch.zeros(3)
    views, labels = torch.eye(3)[[0, 0, 0]], torch.tensor([0, 0, 1])  # predictions 0, 0, 0
    mixed = MixedLabels(torch.tensor([1, 1, 0]), torch.tensor([0.6, 0.4, 0.3]))
    precision = MixedPrecision("fp32", torch.device("cpu"))
    _, wrong = train_step(layer, SGD(layer, Recipe("r")), views, labels, 0.0, precision, mixed=mixed)
    assert wrong.item() == 1  # of the second one, the label 1 weighs 0.6


# --- Training ---

def test_all_of_them_resume_bit_for_bit(packed, tiny, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    build(RunSpec(packed, tiny, ALL, whole, seed=5)).fit()
    for number, steps in enumerate((3, 7)):
        seen = []

        def die(event, seen=seen, steps=steps):
            seen.extend([event] if event["event"] == "step" else [])
            if len(seen) == steps:
                raise Killed

        with pytest.raises(Killed):
            build(RunSpec(packed, tiny, ALL, broken, seed=5, resume=number > 0, save_minutes=0.0), on_event=die).fit()
    build(RunSpec(packed, tiny, ALL, broken, seed=5, resume=True)).fit()
    one, other = (checkpoint.load(run / "last", with_velocity=True) for run in (whole, broken))
    for part in ("weights", "velocity"):
        assert all(torch.equal(tensor, getattr(other, part)[key]) for key, tensor in getattr(one, part).items()), part
    assert one.training == other.training


@pytest.mark.parametrize("field", ["trivial_augment", "erase_probability", "mixup_alpha", "cutmix_alpha"])
def test_each_of_them_changes_training_and_is_logged(packed, tiny, tmp_path, field):
    recipe = replace(QUICK, epochs=1)
    build(RunSpec(packed, tiny, recipe, tmp_path / "off", seed=5)).fit()
    build(RunSpec(packed, tiny, replace(recipe, **{field: getattr(ALL, field)}), tmp_path / "on", seed=5)).fit()
    off, on = (checkpoint.load(tmp_path / run / "last") for run in ("off", "on"))
    assert not torch.equal(off.weights["features.conv1.weight"], on.weights["features.conv1.weight"])
    config = json.loads((tmp_path / "on" / "config.json").read_text())
    assert config["recipe"][field] == getattr(ALL, field)


def test_the_report_says_how_the_training_error_of_mixed_images_is_counted(packed, tiny, tmp_path):
    for alpha in (0.0, 0.2):
        run = tmp_path / str(alpha)
        build(RunSpec(packed, tiny, replace(QUICK, epochs=1, mixup_alpha=alpha), run, seed=5)).fit()
        page = words(write_report(run).read_text(encoding="utf-8"))
        assert ("mixed with another one (mixup or CutMix)" in page) == (alpha > 0)
        assert ("no mixup" in page) == (alpha == 0)


def test_micro_batches_show_the_views_and_labels_of_the_whole_batch(packed, tiny, tmp_path):
    def parts(micro_batch):
        trainer = build(RunSpec(packed, tiny, ALL, tmp_path / "run", seed=5, micro_batch=micro_batch))
        batch = next(trainer.epoch_batches())
        count = trainer.strategy.micro_batch_count(len(batch.global_indices))
        made = list(trainer.training_views.micro_batches(batch, count, trainer.state.epoch, trainer.state.step))
        assert len(made) == count
        tensors = [(views, part.labels_N, mixed.partner_labels_N, mixed.weight_N) for part, views, mixed in made]
        return [torch.cat(of_parts) for of_parts in zip(*tensors, strict=True)]

    for whole, cut in zip(parts(None), parts(4), strict=True):
        assert torch.equal(whole, cut)


# --- Refusals ---

def test_mixing_is_refused_where_a_process_reads_a_part_of_a_batch(packed, tiny, tmp_path):
    spec = RunSpec(packed, tiny, ALL, tmp_path / "run")
    with pytest.raises(UserError, match="each of 2 processes reads only a part"):  # and no data is asked for
        check_network(tiny, ALL, "data", 2)
    check_network(tiny, ALL, "data", 1)
    check_network(tiny, replace(QUICK, trivial_augment=True), "data", 2)
    with pytest.raises(UserError, match="there are batches of 1 image"):
        build(replace(spec, recipe=replace(ALL, batch_size=1)), single_process("cpu"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("settings", "words"), [
    (["erase_probability=1.5"], "erase_probability 1.5 must lie in 0 <= p <= 1"),
    (["mixup_alpha=-1"], "mixup_alpha -1.0 must lie in 0 <= alpha <= 10"),
    (["cutmix_alpha=11"], "cutmix_alpha 11.0 must lie in 0 <= alpha <= 10"),
    (["mixup=0.2"], "did you mean recipe.mixup_alpha?"), (["randaugment=true"], "did you mean recipe.trivial_augment?"),
    (["cutmix=1"], "did you mean recipe.cutmix_alpha?"),
    (["random_erasing=1"], "did you mean recipe.erase_probability?"),
])
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(UserError) as refused:
        override(Recipe("r"), settings, "recipe.")
    assert words in str(refused.value)


@pytest.mark.parametrize("setting", [
    "mixup_alpha=0.2", "cutmix_alpha=1", "erase_probability=0.5", "trivial_augment=true"])
def test_the_head_has_none_of_them(setting):
    with pytest.raises(UserError, match=f"{setting.split('=')[0]} .* with the optimizer lbfgs"):
        override(RECIPES["head"], [setting], "recipe.")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_no_preset_has_any_of_them(recipe):
    fields = (recipe.trivial_augment, recipe.erase_probability, recipe.mixup_alpha, recipe.cutmix_alpha)
    assert fields == (False, 0.0, 0.0, 0.0)
    assert not recipe.mixes_images
