"""Settings that have no effect are named with the reason, and only those."""

import pytest
import torch

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import recipe
from alexnet.architecture.unused_settings import reason_unused, unused_notes
from alexnet.models.alexnet import AlexNet
from command_line import alexnet

SMALL = ("input.side=64", "input.crop=56", "conv.width=8", "dense.width=8", "classes=4")


def drawn(*settings):
    return AlexNet(override(arch("small"), [*SMALL, *settings]), 0).state_dict()


@pytest.mark.parametrize("initialization", ["gaussian", "kaiming", "fan-in"])
@pytest.mark.parametrize("path", [
    "conv1.init_std", "conv1.init_bias", "conv.init_std", "dense1.init_std", "dense.init_bias", "output_init_std",
    "output_init_bias"])
def test_initial_values_are_unused_exactly_where_they_change_no_weight(initialization, path):
    chosen = f"initialization={initialization}"
    before, after = drawn(chosen), drawn(chosen, f"{path}=0.7")
    is_same = all(torch.equal(before[name], after[name]) for name in before)
    reason = reason_unused(f"arch.{path}", override(arch("small"), [*SMALL, chosen]), None)
    assert reason == (f"arch.initialization is {initialization}" if is_same else "")


@pytest.mark.parametrize(("path", "name", "settings", "reason"), [
    ("arch.lrn.k", "paper", (), ""), ("arch.lrn.k", "paper-bn", (), "arch.norm is batch"),
    ("arch.lrn.n", "torchvision", (), "arch.norm is none"),
    ("arch.map_lrn.side", "paper", (), "no layer has mapnorm in its post_ops"),
    ("arch.pool_kernel", "paper", (), ""),
    ("arch.pool_kernel", "small", ("conv.post_ops=act",), "no layer has a pooling in its post_ops"),
    ("arch.dropout_on_inputs", "paper", (), ""),
    ("arch.dropout_on_inputs", "paper", ("dropout=0",), "arch.dropout is 0"),
    ("arch.conv1.width", "paper-bn", (), "")])
def test_settings_of_networks(path, name, settings, reason):
    assert reason_unused(path, override(arch(name), [*settings]), None) == reason


@pytest.mark.parametrize(("path", "settings", "reason"), [
    ("patience", (), ""), ("patience", ("schedule=cosine",), "recipe.schedule is cosine"),
    ("drop_factor", ("schedule=steps", "drop_epochs=3"), ""),
    ("drop_factor", ("schedule=cosine",), "recipe.schedule is cosine"),
    ("drop_epochs", (), "recipe.schedule is plateau"), ("decay_biases", (), ""),
    ("decay_biases", ("weight_decay=0",), "recipe.weight_decay is 0"),
    ("class_weight_cap", (), "recipe.class_weights is off"), ("class_weight_cap", ("class_weights=auto",), ""),
    ("class_weight_cap", ("class_weights=1,2",), "recipe.class_weights is a list"),
    ("crop_area", (), "recipe.crop is window"), ("crop_area", ("crop=resized",), ""),
    ("lighting_scale", ("lighting=0",), "recipe.lighting is 0"), ("lighting_scale", (), "")])
def test_settings_of_recipes(path, settings, reason):
    assert reason_unused(f"recipe.{path}", None, override(recipe("paper"), settings)) == reason


def test_the_recipe_of_a_head_has_no_learning_rate():
    reason = "the optimizer lbfgs (--head) fits the output layer in one pass"
    assert reason_unused("recipe.learning_rate", None, recipe("head")) == reason
    assert reason_unused("recipe.weight_decay", None, recipe("head")) == ""


def test_a_note_names_the_setting_as_it_was_given():
    settings = ("arch.conv1.init_std=0.1", "arch.initialization=kaiming", "recipe.momentum=0.8")
    network = override(arch("small"), ["initialization=kaiming"])
    assert [*unused_notes(settings, network, recipe("paper"))] == [
        "note: --set arch.conv1.init_std=0.1 has no effect, as arch.initialization is kaiming"]


def test_train_prints_it(class_folders, tmp_path, capsys):
    """It was taken without a word."""
    assert alexnet("train", class_folders, "--arch", "small", "--set", "arch.dense1.init_std=0.3", "--epochs", "1",
                   "--out", tmp_path / "run") == 0
    assert ("note: --set arch.dense1.init_std=0.3 has no effect, as arch.initialization is kaiming"
            in capsys.readouterr().err)
