"""Which random changes a run has, by the presets' own numbers: crops below the stored side, dropout, and so on."""

from dataclasses import fields, replace

import pytest

from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import ARCHS, arch
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import default_recipe, recipe
from alexnet.architecture.training_only import augmentations, training_only
from alexnet.errors import and_list

RANDOM_CHANGES = {"crop", "mirror", "lighting", "trivial_augment", "erase_probability", "mixup_alpha", "cutmix_alpha"}
"""Fields that switch an augmentation on."""


@pytest.mark.parametrize(("name", "found"), [
    ("paper", "random crops, mirroring, color noise and dropout"),
    ("cifar", "random crops and mirroring"),  # 28 of 32 pixels; a network without dropout
    ("cifar-18pct", ""),  # whole images, not mirrored
    ("torchvision", "random resized crops, mirroring and dropout"),
    ("small", "random resized crops, mirroring, color noise and dropout")])
def test_a_preset_has_what_its_description_says(name: str, found: str):
    assert and_list(training_only(arch(name), default_recipe(arch(name)))) == found


def test_a_window_of_the_whole_image_is_no_random_crop():
    whole = override(arch("cifar"), ["input.crop=32"])
    assert augmentations(whole, recipe("cifar")) == ("mirroring",)
    assert augmentations(whole, replace(recipe("cifar"), crop="resized")) == ("random resized crops", "mirroring")


def test_each_switch_of_a_recipe_has_one_name():
    plain = replace(recipe("paper"), crop="center", mirror=False, lighting=0.0)
    assert augmentations(arch("paper"), plain) == ()
    on = {"crop": "window", "mirror": True, "lighting": 0.1, "trivial_augment": True, "erase_probability": 0.5,
          "mixup_alpha": 0.2, "cutmix_alpha": 1.0}
    assert on.keys() == RANDOM_CHANGES
    assert {field.name for field in fields(plain)} >= RANDOM_CHANGES
    named = [augmentations(arch("paper"), replace(plain, **{name: value})) for name, value in on.items()]
    assert [len(each) for each in named] == [1] * len(on)
    assert len({*named}) == len(on)
    assert augmentations(arch("paper"), plain, "flip.upside_down") == ("the transform flip.upside_down",)


def test_the_output_layer_alone_is_fitted_without_randomness():
    assert training_only(arch("paper"), recipe("head")) == ()


@pytest.mark.parametrize("name", ARCHS)
def test_dropout_is_named_where_the_network_has_such_a_layer(name: str):
    has = any(layer.name.startswith("dropout") for layer in explain(ARCHS[name]).layers)
    assert ("dropout" in training_only(ARCHS[name], recipe("paper"))) == has
