"""The progress bar of training runs: it fits a terminal and shows the bottleneck."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from alexnet._runtime.progress import Bar
from alexnet.training.progress_bar import ClaimBar, TrainingBar

START = {"event": "start", "steps_per_epoch": 74, "classes": 10, "epochs": 100, "run": "ReLU, rate 0.0003, seed 0"}
STEP = {"event": "step", "epoch": 100, "step": 7_399, "loss": 2.3026, "train_error": 0.999,
        "images_per_second": 12_345.0, "waiting": 0.19}


@pytest.mark.parametrize("columns", [80, 120])
def test_training_fits_a_terminal(columns):
    """The waiting time and the bottleneck are last in the line and must not be cut off."""
    file = io.StringIO()
    bar = TrainingBar(100)
    bar.console = Console(file=file, force_terminal=True, width=columns, color_system=None)
    with bar:
        bar.show(START)
        bar.show(STEP)
        bar.progress.refresh()
        bar.show({"event": "validating", "done": 3_798, "total": 3_925})
        bar.progress.refresh()
    lines = file.getvalue().splitlines()
    assert any("epoch 100/100" in line and "7399/7400" in line for line in lines)
    assert any("waiting for data 19%, limit: compute" in line and "loss 2.303" in line for line in lines)
    assert any("validating: 3,798 of 3,925 images" in line for line in lines)


def test_loss_and_error_are_the_means_of_the_epoch_so_far(monkeypatch):
    texts = []
    monkeypatch.setattr(Bar, "__call__", lambda self, done, total, text="", title=None: texts.append(text))
    bar = TrainingBar(2)
    bar.show(START)
    for epoch, loss, error in ((1, 3.0, 0.9), (1, 2.0, 0.8), (2, 1.0, 0.5)):
        bar.show(STEP | {"epoch": epoch, "loss": loss, "train_error": error})
    assert [text[: text.index("%")] for text in texts] == [
        "mean loss 3.000, error 90.0", "mean loss 2.500, error 85.0", "mean loss 1.000, error 50.0"]


def test_a_run_that_waits_for_data_is_shown_as_limited_by_reading(monkeypatch):
    texts = []
    monkeypatch.setattr(Bar, "__call__", lambda self, done, total, text="", title=None: texts.append(text))
    bar = TrainingBar(1)
    bar.show(START)
    bar.show(STEP | {"waiting": 0.9})
    assert "waiting for data 90%, limit: reading" in texts[0]


def test_a_claims_bar_names_the_run_in_progress():
    file = io.StringIO()
    bar = ClaimBar()
    bar.console = Console(file=file, force_terminal=True, width=80, color_system=None)
    with bar:
        bar.show(START)
        bar.show(STEP)
        bar.progress.refresh()
    assert "ReLU, rate 0.0003, seed 0, epoch 100/100" in file.getvalue()


def test_a_claims_bar_prints_each_kind_of_warning_once_and_no_line_for_an_epoch(capsys):
    warning = {"event": "warning", "kind": "chance", "subject": "validation", "problem": "90%", "remedy": "wait"}
    bar = ClaimBar()
    with bar:
        for problem in ("90%", "89%"):
            bar.show(START | {"epochs": 1})
            bar.show(warning | {"problem": problem})
            bar.show({"event": "epoch", "epoch": 1, "train_error": 0.5, "val_top1_error": 0.25})
    assert capsys.readouterr().err == "warning: validation: 90%; wait\n"


def test_the_time_left_of_a_claims_run_is_its_own(monkeypatch, capsys):
    """A second a step. The first run is resumed at step 7,000; the second, after three steps, has 7,397 left."""
    now = [0.0]
    monkeypatch.setattr("alexnet._runtime.progress.time.monotonic", lambda: now[0])
    bar = ClaimBar()
    bar.plain_seconds = 0
    for first in (7_000, 1):
        bar.show(START)
        for step in range(first, first + 3):
            now[0] += 1
            bar.show(STEP | {"step": step})
    printed = capsys.readouterr().err
    assert "7,002 of 7,400 steps, 6:38 left" in printed
    assert "3 of 7,400 steps, 2:03:17 left" in printed


@pytest.mark.parametrize(("epochs", "first", "step_seconds", "said"), [
    (90, 1, 1.8, "about 3 h 20 min for all 90 epochs at this rate, without validation"),  # 74 steps an epoch
    (90, 3_331, 1.8, "about 1 h 40 min for the rest of the 90 epochs at this rate, without validation"),
    (90, 1, 67, "about 5 days 4 h for all 90 epochs at this rate, without validation"),
    (2, 1, 1.9, None)])  # less than five minutes
def test_the_time_of_the_whole_run_is_told_once_after_the_first_steps(
        epochs, first, step_seconds, said, monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("alexnet.training.progress_bar.time.monotonic", lambda: now[0])
    bar = TrainingBar(epochs)
    bar.plain_seconds = 1e9
    bar.show(START)
    printed_at = []
    for step in range(first, first + 60):
        now[0] += 40 if step == first else step_seconds  # the first step compiles
        bar.show(STEP | {"epoch": 1, "step": step})
        if err := capsys.readouterr().err:
            printed_at.append((now[0] - 40, err))
    if said is None:
        assert printed_at == []
    else:
        [(seconds, line)] = printed_at
        assert line == said + "\n"
        assert 30 <= seconds < 30 + step_seconds


def test_a_claims_bar_does_not_tell_the_time_of_one_of_its_runs(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("alexnet.training.progress_bar.time.monotonic", lambda: now[0])
    bar = ClaimBar()
    bar.plain_seconds = 1e9
    bar.show(START)
    for step in range(1, 50):
        now[0] += 10
        bar.show(STEP | {"step": step})
    assert not capsys.readouterr().err
