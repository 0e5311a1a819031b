"""Presets have the published values; overrides reach every field and reject invalid values."""

import dataclasses
import re

import pytest

from alexnet import errors
from alexnet.architecture.network_presets import ARCHS, arch
from alexnet.architecture.overrides import SYNONYMS, configure, from_json, override, to_json
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import RECIPES, default_recipe, finetune_recipe, recipe
from alexnet.architecture.spec import LRN, Arch, Conv, Dense, InputSpec


@pytest.mark.parametrize("preset", [*ARCHS.values(), *RECIPES.values()], ids=lambda preset: preset.name)
def test_a_preset_survives_json_unchanged(preset):
    assert from_json(type(preset), to_json(preset)) == preset


def test_paper_recipe_is_section_5():
    paper = recipe("paper")
    assert (paper.batch_size, paper.momentum, paper.weight_decay, paper.learning_rate) == (128, 0.9, 0.0005, 0.01)
    assert (paper.schedule, paper.lr_drop_count, paper.drop_factor, paper.epochs) == ("plateau", 3, 10, 90)
    assert paper.lr_in_velocity
    assert paper.decay_biases


def test_paper_biases_are_one_in_conv2_conv4_conv5_and_the_hidden_layers():
    paper = arch("paper")
    assert [conv.init_bias for conv in paper.conv] == [0, 1, 0, 1, 1]
    assert [dense.init_bias for dense in paper.dense] == [1, 1]
    assert paper.output_init_bias == 0
    assert {layer.init_std for layer in (*paper.conv, *paper.dense)} == {0.01}


def test_override_reaches_every_kind_of_field():
    changed = override(arch("paper"), [
        "activation=tanh", "input.crop=128", "input.side=144", "conv1.width=48", "conv.init_std=0.02",
        "dense2.width=64", "lrn.k=1", "dropout=0", "input.mean=1,2,3"])
    assert changed.activation == "tanh"
    assert (changed.input.crop, changed.input.side, changed.input.mean) == (128, 144, (1.0, 2.0, 3.0))
    assert [conv.width for conv in changed.conv] == [48, 256, 384, 384, 256]
    assert {conv.init_std for conv in changed.conv} == {0.02}
    assert [dense.width for dense in changed.dense] == [4096, 64]
    assert changed.lrn.k == 1.0
    assert override(recipe("paper"), ["drop_epochs=3,4"]).drop_epochs == (3, 4)


def test_overrides_are_checked_together():
    # Crop 300 alone exceeds side 256; with side 320 set too, in either order, it is valid.
    assert override(arch("paper"), ["input.crop=300", "input.side=320"]).input.crop == 300


@pytest.mark.parametrize(("setting", "words"), [
    ("aktivation=tanh", "did you mean activation?"),
    ("activation=swish", "one of relu, tanh, sigmoid"),
    ("conv9.width=3", "the network has conv1 to conv5"),
    ("conv=3", "set one of them, as in conv.width=64"),
    ("conv1=3", "set one of them, as in conv1.width=64"),
    ("input=3", "set one of its fields, as in input.side"),
    ("conv1.widht=3", "did you mean conv1.width?"),
    ("input.crop=300", "crop 300 exceeds image side 256"),
    ("classes=many", "a whole number"),
    ("classes=1", "at least 2"),
    ("dropout", "has no value; write --set dropout=VALUE"),
    ("dropout.p=0.5", "has no fields of its own"),
    ("dropout=1", "0 <= p < 1"),
    ("towers=3", "multiple of 3"),
    ("conv1.post_ops=act flatten", "unknown operation 'flatten'"),
    ("lrn.n=4", "must be odd"),
])
def test_a_wrong_override_is_one_sentence_with_the_remedy(setting, words):
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        override(arch("paper"), [setting])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("setting", "field"), [
    ("recipe.rate=0.1", "recipe.learning_rate"), ("recipe.lr=0.1", "recipe.learning_rate"),
    ("recipe.batch=64", "recipe.batch_size"), ("recipe.wd=0", "recipe.weight_decay"),
    ("recipe.warmup=5", "recipe.warmup_epochs"), ("recipe.momentun=0", "recipe.momentum"),
    ("recipe.activation=tanh", "arch.activation"), ("arch.epochs=5", "recipe.epochs"),
    ("arch.lr=1", "recipe.learning_rate"),
    ("arch.conv1.filters=64", "arch.conv1.width"), ("arch.conv1.filtres=64", "arch.conv1.width"),
    ("arch.conv2.sigma=0.1", "arch.conv2.init_std"),
    ("arch.conv.groups=2", "arch.conv.grouped"), ("lr=0.1", "recipe.learning_rate=0.1"),
    ("epochs=5", "recipe.epochs=5"), ("conv1.width=5", "arch.conv1.width=5"), ("recpe.epochs=5", None),
    ("arch.zebra=1", None)])
def test_an_unknown_setting_names_the_field_that_was_meant(setting, field):
    with pytest.raises(errors.UserError) as error:
        configure(arch("paper"), None, [setting])
    if field:
        assert error.value.remedy == f"did you mean {field}?"
    else:
        assert "did you mean" not in error.value.remedy


def test_every_synonym_leads_to_a_field():
    configs = (Arch, Recipe, Conv, Dense, InputSpec, LRN)
    assert set(SYNONYMS.values()) <= {field.name for config in configs for field in dataclasses.fields(config)}
    assert not set(SYNONYMS) & {field.name for config in (Arch, Recipe) for field in dataclasses.fields(config)}


def test_an_unknown_preset_names_the_closest():
    with pytest.raises(ValueError, match="did you mean torchvision"):
        arch("torchvison")
    with pytest.raises(ValueError, match="did you mean modern"):
        recipe("modren")


def test_only_a_misspelling_is_corrected_and_a_long_list_is_cut():
    assert errors.did_you_mean("nosuch", ["tench", "parachute"]) == "known are tench, parachute"
    assert errors.did_you_mean("nosuch", map(str, range(30))).endswith("27, 28, 29")
    assert errors.did_you_mean("fc9", ["conv1", "fc6"]) == "did you mean fc6?"
    assert errors.did_you_mean("zebra", [f"n{number}" for number in range(1000)]).endswith(", n4 and 995 more")


def test_every_field_of_a_configuration_is_frozen():
    for preset in (arch("paper"), recipe("paper")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            preset.name = "other"


def test_from_json_refuses_unknown_fields():
    tree = to_json(recipe("paper")) | {"rate": 1.0}
    with pytest.raises(ValueError, match="no field 'rate'"):
        from_json(Recipe, tree)


def test_fine_tuning_has_a_tenth_of_the_networks_learning_rate_and_new_layers_all_of_it():
    for name, rate in (("paper", 0.001), ("torchvision", 0.001), ("cifar", 0.0001)):
        chosen = finetune_recipe(arch(name))
        assert chosen.learning_rate == pytest.approx(rate)
        assert chosen.learning_rate * chosen.new_layer_lr_factor == pytest.approx(default_rate(name))


def test_fine_tuning_with_batch_normalization_has_rates_at_which_few_images_are_not_overfitted():
    """docs/results.md: at 0.01 and 0.1, the validation loss rises above that of equal probabilities."""
    for name in ("small", "paper-bn", "torchvision-bn"):
        chosen = finetune_recipe(arch(name))
        assert chosen.learning_rate == pytest.approx(0.003)
        assert chosen.learning_rate * chosen.new_layer_lr_factor == pytest.approx(0.009)
        assert chosen.label_smoothing == pytest.approx(0.1)


def default_rate(name):
    return default_recipe(arch(name)).learning_rate


def test_default_recipe_of_each_network():
    names = {name: default_recipe(network).name for name, network in ARCHS.items()}
    assert names["paper"] == names["one-gpu"] == "paper"
    assert names["small"] == names["paper-bn"] == "modern"
    assert names["code2012"] == "code2012"
    assert names["caffenet"] == names["caffe"] == "caffe"
    assert names["cifar"] == "cifar"
    assert names["paper-conv6"] == "paper"
    assert isinstance(ARCHS["small"], Arch)
