"""Runs with the recipe code2012, shortened: the noise and its division end together, and a resumed run is bit-equal."""

import json
from dataclasses import replace

import pytest
import torch

from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import recipe
from alexnet.cli.lr_find import _unstarted_run
from alexnet.data.augmentation import lighting_basis
from alexnet.models import checkpoint
from alexnet.training.build import build
from alexnet.training.request import TrainRequest
from alexnet.training.spec import RunSpec

SHORT = replace(recipe("code2012"), epochs=3, batch_size=16, drop_epochs=(1, 2), view_group=4, conv1_slow_epoch=1,
                conv1_stop_epoch=2, lighting_stop_epoch=2)


@pytest.fixture
def centered(tiny):
    return override(tiny, ["input.mean=pixel", "input.mean_crop=center", "input.scale=58,58,58"])


def test_the_division_ends_with_the_noise(packed, centered, tmp_path):
    trainer = build(RunSpec(packed, centered, SHORT, tmp_path / "run", seed=5))
    part = replace(next(trainer.epoch_batches()), draws=None)  # those of the first epoch are not of the others
    lighting = lighting_basis(packed.rgb_covariance, "deviations")

    def views(its, epoch, basis):
        return trainer.preprocess.training_views(
            part.pixels, part.indices, its, 5, epoch, basis, group_leaders=part.group_leaders(4))

    for epoch, division, basis in ((1, 1.1, lighting), (2, 1.0, None)):
        trainer.state.epoch = epoch
        plain = views(replace(SHORT, lighting_rescale=False), epoch, basis)
        torch.testing.assert_close(trainer.training_views.of(part, epoch=trainer.state.epoch), plain / division)


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_resumed_run_is_bit_equal_and_logs_both_rates(packed, centered, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    build(RunSpec(packed, centered, SHORT, whole, seed=5)).fit()

    def dies_at(step):
        def on_event(event):
            if event["event"] == "step" and event["step"] == step:
                raise Killed
        return on_event

    for step in (3, 12):  # of 8 an epoch
        with pytest.raises(Killed):
            build(RunSpec(packed, centered, SHORT, broken, seed=5, save_minutes=0.0, resume=step > 3),
                  on_event=dies_at(step)).fit()
    build(RunSpec(packed, centered, SHORT, broken, seed=5, resume=True)).fit()
    one, other = (checkpoint.load(folder / "last", with_velocity=True) for folder in (whole, broken))
    assert (other.arch.input, other.recipe) == (centered.input, SHORT)
    for before, after in ((one.weights, other.weights), (one.velocity, other.velocity)):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
    events = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [event["learning_rate"] for event in epochs] == pytest.approx([0.01, 0.001, 1e-4])
    assert [event["bias_learning_rate"] for event in epochs] == pytest.approx([0.02] * 3)
    assert {event["bias_learning_rate"] for event in events if event["event"] == "step"} == {0.02}


def test_lr_find_sweeps_the_biases_with_the_weights(class_folders, tmp_path, monkeypatch):
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path))
    request = TrainRequest(
        data=str(class_folders), labels=None, arch="small", recipe="code2012", settings=(), short={}, config=None,
        like=None, out=tmp_path, seed=0, init=None, freeze=None, precision="fp32",
        options={"workers": 0, "save_minutes": 10.0, "micro_batch": None, "parallel": "data", "about": {}})
    swept = _unstarted_run(request, "cpu").spec.recipe
    assert swept.bias_lr_schedule
    assert swept.bias_lr_factor == 2
