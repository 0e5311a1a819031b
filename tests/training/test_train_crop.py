"""`Recipe.train_crop`: training on views of another side than the network's input."""

from dataclasses import replace

import pytest

from alexnet.architecture.overrides import override
from alexnet.architecture.presets import arch, recipe
from alexnet.errors import UserError
from alexnet.training.build import build
from alexnet.training.spec import RunSpec

SMALLER = replace(recipe("medium"), epochs=1, batch_size=32, train_crop=20)


def test_a_network_without_average_pooling_cannot_train_on_smaller_views(packed, tiny, tmp_path):
    with pytest.raises(UserError, match="small has no average pooling"):
        RunSpec(packed, tiny, SMALLER, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_views_that_are_too_small_for_the_layers_are_refused(packed, tmp_path):
    network = override(arch("medium"), ["input.side=32", "input.crop=28", "classes=4"])
    with pytest.raises(UserError, match="an input of 5 pixels is too small for medium"):
        RunSpec(packed, network, replace(SMALLER, train_crop=5), tmp_path / "run")


def test_medium_trains_on_smaller_views_and_is_evaluated_on_its_input(packed, tmp_path):
    seen = []
    network = override(
        arch("medium"), ["input.side=32", "input.crop=28", "conv.width=16", "dense.width=32", "classes=4"])
    run = build(RunSpec(packed, network, SMALLER, tmp_path / "run"))
    run.network.features.register_forward_pre_hook(
        lambda module, inputs: seen.append((run.network.training, inputs[0].shape[-1])))
    run.fit()
    assert {side for training, side in seen if training} == {20}
    assert {side for training, side in seen if not training} == {28}
