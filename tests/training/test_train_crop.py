"""`Recipe.train_crop`: training on views of another side than the network's input."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import recipe
from alexnet.errors import UserError
from alexnet.models import checkpoint
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


def test_batch_norm_is_fitted_to_center_crops_before_each_evaluation(packed, tmp_path):
    network = override(
        arch("medium"), ["input.side=32", "input.crop=28", "conv.width=16", "dense.width=32", "classes=4"])
    run = build(RunSpec(packed, network, SMALLER, tmp_path / "run"))
    run.fit()
    norm, images = run.network.features.norm1, packed.split("train")
    with torch.no_grad():
        maps = run.network.features.conv1(run.preprocess(torch.from_numpy(images.read(np.arange(len(images))))))
    torch.testing.assert_close(norm.running_mean, maps.mean((0, 2, 3)), atol=1e-3, rtol=1e-3)
    saved = checkpoint.load(tmp_path / "run" / "last")
    assert torch.equal(saved.weights["features.norm1.running_mean"], norm.running_mean)


def test_a_resumed_run_on_smaller_views_is_bit_equal(packed, tmp_path):
    network = override(
        arch("medium"), ["input.side=32", "input.crop=28", "conv.width=16", "dense.width=32", "classes=4"])
    two = replace(SMALLER, epochs=2)
    build(RunSpec(packed, network, two, tmp_path / "whole")).fit()

    def stop_in_the_second(event):
        if event["event"] == "step" and event["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(RunSpec(packed, network, two, tmp_path / "cut"), on_event=stop_in_the_second).fit()
    assert checkpoint.load(tmp_path / "cut" / "last").training["epoch"] == 1
    build(RunSpec(packed, network, two, tmp_path / "cut", resume=True)).fit()
    whole, cut = (checkpoint.load(tmp_path / name / "last").weights for name in ("whole", "cut"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
