"""`lr-find`: the suggestion on curves with a known shape, what the command prints, and that it writes no run."""

import json
import math

import numpy as np
import pytest

from alexnet.architecture.recipe_presets import recipe
from alexnet.training.build import build
from alexnet.training.lr_find import judge, sweep
from alexnet.training.spec import RunSpec
from command_line import SMALL, alexnet

RATES = [10 ** (-4 + 0.1 * step) for step in range(51)]
"""From 1e-4 to 10."""


def test_the_suggestion_is_where_the_loss_falls_fastest():
    losses = [2.0 - 1 / (1 + math.exp(-3 * (math.log10(rate) + 2))) + (rate > 0.3) * 5 * math.log10(rate / 0.3)
              for rate in RATES]  # a step down around 0.01, and a rise from 0.3 on
    found = judge(RATES, losses, losses, diverged=True)
    assert found.suggestion == pytest.approx(0.01, rel=0.3)
    assert 0.05 < found.lowest < 0.5
    assert found.rose == pytest.approx(10 ** -0.3, rel=1e-6)  # 1 + 5 log10(rate / 0.3) is above 2 from 0.475 on
    assert not found.findings


def test_without_a_fall_it_is_a_tenth_of_the_rate_at_which_the_loss_rose_and_this_is_said():
    found = judge(RATES, [2.0] * 48 + [3.0, 5.0, 9.0], [2.0] * 48 + [3.0, 5.0, 9.0], diverged=True)
    assert found.rose == pytest.approx(10**0.8)
    assert found.suggestion == pytest.approx(10**-0.2)
    assert [finding.kind for finding in found.findings] == ["loss_did_not_fall"]


def test_a_loss_that_never_moves_gives_no_suggestion():
    found = judge(RATES, [2.0] * 51, [2.0] * 51, diverged=False)
    assert found.suggestion is None
    assert "did not fall clearly at any rate from 0.0001 to 1e+01" in str(found.findings[0])


@pytest.mark.parametrize("seed", range(20))
def test_the_noise_of_batches_is_no_fall(seed):
    """100 batches of a network that learns nothing, smoothed as `sweep` does."""
    losses = np.random.default_rng(seed).normal(0.8, 0.15, 100).tolist()
    smoothed, average = [], 0.0
    for number, loss in enumerate(losses, 1):
        average = 0.9 * average + 0.1 * loss
        smoothed.append(average / (1 - 0.9**number))
    found = judge([10 ** (-5 + 0.06 * step) for step in range(100)], losses, smoothed, diverged=False)
    assert [finding.kind for finding in found.findings] == ["loss_did_not_fall"]
    assert found.suggestion is None


def test_the_sweep_ends_where_the_loss_diverges(packed, tiny, tmp_path, one_thread):
    trainer = build(RunSpec(packed, tiny, recipe("modern"), tmp_path / "run"))
    measured = sweep(trainer, 1e-4, 1e4, 60)
    assert measured.diverged
    assert len(measured.rates) < 60
    assert measured.rates[0] == 1e-4
    assert measured.rates[1] == pytest.approx(1e-4 * 10 ** (8 / 59))
    assert 1e-3 < measured.suggestion < 10
    assert not (tmp_path / "run").exists()


def test_the_smoothed_loss_of_a_sweep_has_a_tenth_of_each_new_one(packed, tiny, tmp_path, one_thread):
    """arXiv 1412.6980, section 3: weights 0.1 x 0.9^age, over their sum 1 - 0.9^steps."""
    measured = sweep(build(RunSpec(packed, tiny, recipe("modern"), tmp_path / "run")), 1e-4, 1e-2, 24)
    assert len(measured.losses) == 24
    for steps in (1, 2, 5, 24):
        weights = [0.1 * 0.9**age for age in range(steps)][::-1]
        mean = sum(weight * loss for weight, loss in zip(weights, measured.losses, strict=False)) / (1 - 0.9**steps)
        assert measured.smoothed[steps - 1] == pytest.approx(mean, rel=1e-9)
    assert max(measured.losses) > 1.01 * min(measured.losses)


def test_a_dip_of_a_single_step_is_not_the_steepest_fall():
    """0.03 a step from step 45 to 55 and 0.005 elsewhere; step 25 alone lies 0.07 lower. Over a tenth of the 101 steps,
    5 on each side, the loss falls by 0.3 around step 50 and by 0.12 around step 20; over three steps by 0.06 and 0.08.
    """
    rates = [10 ** (-5 + 0.05 * step) for step in range(101)]
    losses, loss = [], 3.0
    for step in range(101):
        loss -= 0.0 if step > 70 else 0.03 if 45 < step <= 55 else 0.005
        losses.append(loss - 0.07 * (step == 25))
    found = judge(rates, losses, losses, diverged=False)
    assert found.suggestion == pytest.approx(rates[50], rel=1e-9)


def test_the_command_prints_a_rate_and_writes_only_the_figure(class_folders, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert alexnet("lr-find", class_folders, *SMALL, "--steps", 40, "--out", "curve.png") == 0
    assert "suggested learning rate: " in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "curve.png"}
    assert alexnet("lr-find", class_folders, *SMALL, "--steps", 40, "--json") == 0
    assert {"rates", "losses", "smoothed", "suggestion"} < json.loads(capsys.readouterr().out).keys()


@pytest.mark.parametrize(("options", "words"), [
    (["--from", 1, "--to", 0.1], "the learning rates 1 to 0.1 must be above 0 and increasing"),
    (["--steps", 3], "3 steps are too few for a curve; give --steps 20 or more"),
    (["--steps", 1], "1 step is too few for a curve; give --steps 20 or more"),
    (["--out", "curve.gif"], "curve.gif ends in .gif"),
])
def test_impossible_options_are_refused_before_the_data_is_opened(capsys, options, words):
    assert alexnet("lr-find", "nowhere", *options) == 2
    assert words in capsys.readouterr().err
