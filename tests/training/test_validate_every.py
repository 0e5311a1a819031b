"""Runs that are validated every few epochs only: the same weights, fewer validations, an exact resume."""

from dataclasses import replace

import pytest
import torch

from alexnet.architecture.recipe_presets import recipe
from alexnet.errors import UserError
from alexnet.models import checkpoint as ckpt
from alexnet.training.build import build
from alexnet.training.run_folder import logged
from alexnet.training.spec import RunSpec

pytestmark = pytest.mark.usefixtures("one_thread")
SEVEN = replace(recipe("modern"), epochs=7, batch_size=40)


def test_epochs_between_validations_are_logged_and_change_no_weight(packed, tiny, tmp_path):
    build(RunSpec(packed, tiny, SEVEN, tmp_path / "each")).fit()
    errors = build(RunSpec(packed, tiny, SEVEN, tmp_path / "some", validate_every=3)).fit()
    each, some = (
        [event for event in logged(tmp_path / name) if event["event"] in ("epoch", "trained")]
        for name in ("each", "some"))
    assert [event["event"] for event in some] == ["trained", "trained", "epoch", "trained", "trained", "epoch", "epoch"]
    for key in ("epoch", "step", "train_loss", "train_error", "learning_rate"):
        assert [event[key] for event in some] == [event[key] for event in each]
    assert errors.images == len(packed.split("val"))  # the last epoch, 7, is validated too
    weights = [ckpt.load(tmp_path / name / "last").weights for name in ("each", "some")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_run_is_resumed_from_its_last_validation(packed, tiny, tmp_path):
    class Stop(Exception):
        pass

    def stop(event):
        if event["event"] == "trained" and event["epoch"] == 5:
            raise Stop

    spec = RunSpec(packed, tiny, SEVEN, tmp_path / "run", validate_every=3, resume=True)
    with pytest.raises(Stop):
        build(spec, on_event=stop).fit()
    assert ckpt.load(tmp_path / "run" / "last").training["epoch"] == 3
    build(spec).fit()
    build(replace(spec, out=tmp_path / "whole")).fit()
    resumed, whole = (ckpt.load(tmp_path / name / "last").weights for name in ("run", "whole"))
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)
    epochs = [event["epoch"] for event in logged(tmp_path / "run") if event["event"] in ("epoch", "trained")]
    assert epochs == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("changes", "every"), [({"schedule": "plateau"}, 2), ({"early_stop_epochs": 3}, 2), ({}, 0)])
def test_what_needs_each_validation_is_refused(packed, tiny, tmp_path, changes, every):
    with pytest.raises(UserError, match="validate_every"):
        RunSpec(packed, tiny, replace(SEVEN, **changes), tmp_path, validate_every=every)
