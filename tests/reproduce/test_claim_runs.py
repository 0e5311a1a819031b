"""Runs of claims: resumed, shared between commands, read at the last epoch, ended at a target or at chance level."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from alexnet._runtime.locks import file_lock
from alexnet.architecture.overrides import override
from alexnet.inference.metrics import Errors
from alexnet.reproduce import claim_networks
from alexnet.reproduce import runs as runs_module
from alexnet.reproduce.claim_networks import common_setup
from alexnet.reproduce.finished_run import CURVE, ENDED
from alexnet.reproduce.report.run_data import is_own_data, packed_data
from alexnet.reproduce.runs import Job, RunStore
from alexnet.training.run_folder import logged, read_config

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def job(packed, monkeypatch):
    """A run of six epochs of a small network."""
    small = override(claim_networks.PAPER_SMALL, ["conv.width=8", "dense.width=16"])
    monkeypatch.setattr(claim_networks, "PAPER_SMALL", small)
    arch, recipe = common_setup(32, 6)
    return Job(packed, arch, replace(recipe, batch_size=40), 0, "a run", curve_epochs=2)


def test_a_run_records_the_clean_training_error_and_is_not_trained_again(packed, job, tmp_path):
    events = []
    runs = RunStore(packed, tmp_path, "fp32", on_event=events.append)
    (run,) = runs.train_all([job])
    assert [point["epoch"] for point in run.curve] == [2, 4, 6]
    assert run.validated["epoch"] == 6
    assert 0 <= run.curve[-1]["train_error"] <= 1
    steps = len(events)
    assert runs.train_all([job, job]) == [run, run]
    assert len(events) == steps


def test_few_epochs_are_validated(packed, job, tmp_path):
    """A fifth of 20 epochs is 4, so every fourth is."""
    long = replace(job, recipe=replace(job.recipe, epochs=20), curve_epochs=0)
    (run,) = RunStore(packed, tmp_path, "fp32").train_all([long])
    kinds = [(event["event"], event["epoch"]) for event in logged(run.folder) if event["event"] in ("epoch", "trained")]
    assert kinds == [("trained" if epoch % 4 else "epoch", epoch) for epoch in range(1, 21)]


def test_an_interrupted_run_is_resumed(packed, job, tmp_path):
    class Stop(Exception):
        pass

    def stop(event):
        if event["event"] == "trained" and event["epoch"] == 5:
            raise Stop

    job = replace(job, recipe=replace(job.recipe, epochs=10))
    with pytest.raises(Stop):
        RunStore(packed, tmp_path / "stopped", "fp32", on_event=stop).train_all([job])
    (resumed,) = RunStore(packed, tmp_path / "stopped", "fp32").train_all([job])
    (whole,) = RunStore(packed, tmp_path / "whole", "fp32").train_all([job])
    assert (resumed.curve, resumed.validated) == (whole.curve, whole.validated)


def test_a_resumed_run_forgets_what_was_measured_after_the_epoch_that_it_resumes_at(packed, job, tmp_path):
    """Epochs 2, 4, ... are validated and saved. A line of epoch 5, which is not measured again, does not stay."""
    class Stop(Exception):
        pass

    def stop(event):
        if event["event"] == "trained" and event["epoch"] == 5:
            raise Stop

    runs, job = RunStore(packed, tmp_path, "fp32", on_event=stop), replace(
        job, recipe=replace(job.recipe, epochs=10), curve_epochs=3)
    with pytest.raises(Stop):
        runs.train_all([job])
    curve = tmp_path / runs.name(job) / CURVE
    before = curve.read_text()
    curve.write_text(before + '{"epoch": 5, "train_error": 0.0, "train_loss": 0.0}\n{"epoch": 6, "trai')
    (run,) = RunStore(packed, tmp_path, "fp32").train_all([job])
    assert [point["epoch"] for point in run.curve] == [3, 6, 9, 10]
    assert curve.read_text().startswith(before)
    assert len(curve.read_text().splitlines()) == 4


def test_a_run_is_read_at_its_last_epoch_and_not_at_its_best(packed, job, tmp_path):
    runs = RunStore(packed, tmp_path, "fp32")
    folder = tmp_path / runs.name(job)
    folder.mkdir()
    (folder / "log.jsonl").write_text("".join(json.dumps(
        {"event": "epoch", "epoch": epoch, "val_top1_error": error, "val_top5_error": 0.0, "val_loss": 2.0}) + "\n"
        for epoch, error in ((5, 0.1), (6, 0.4))))
    (folder / CURVE).write_text('{"epoch": 6, "train_error": 0.25, "train_loss": 0.5}\n'
                                '{"epoch": 4, "train_error": 0.05, "train_loss": 0.1}\n{"epoch": 6, "tra')
    (folder / ENDED).write_text('{"ended": "last epoch", "machine": "here"}')
    (run,) = runs.train_all([job])
    assert run.validated["val_top1_error"] == 0.4
    assert run.curve[-1]["train_error"] == 0.25
    assert runs.machines == {"here"}


def test_epochs_to_an_error_lie_on_a_line_between_two_measurements(packed, job, tmp_path):
    runs = RunStore(packed, tmp_path, "fp32")
    folder = tmp_path / runs.name(job)
    folder.mkdir()
    (folder / CURVE).write_text("".join(json.dumps({"epoch": epoch, "train_error": error, "train_loss": 1.0}) + "\n"
                                        for epoch, error in ((2, 0.65), (4, 0.25), (6, 0.3))))
    (folder / ENDED).write_text('{"ended": "stopped", "machine": "here"}')
    (run,) = runs.train_all([job])
    assert run.epochs_to(0.45) == pytest.approx(3)
    assert run.epochs_to(0.25) == 4
    assert run.epochs_to(0.7) == pytest.approx(1)  # from chance, 75% of four classes, at epoch 0
    assert run.epochs_to(0.2) is None


def test_a_run_that_stays_at_chance_level_is_given_up_after_a_third_of_its_epochs(packed, job, tmp_path):
    stuck = replace(job, recipe=replace(job.recipe, learning_rate=1e-12), curve_epochs=1, target=0.25)
    (run,) = RunStore(packed, tmp_path, "fp32").train_all([stuck])
    assert len(run.curve) == 2  # a third of six epochs
    assert run.validated is None
    assert run.epochs_to(0.25) is None


@pytest.mark.parametrize(("wrong", "epochs"), [(71, [1, 2, 3, 4, 5, 6]), (72, [1, 2])])
def test_a_run_that_has_learned_a_little_is_not_given_up(packed, job, tmp_path, monkeypatch, wrong, epochs):
    """At chance the error on four classes is 75%. Up to 95% of it, 71.25%, a run may go on."""
    monkeypatch.setattr(runs_module, "evaluate", lambda *a, **k: Errors(100, 130.0, wrong, 0))
    (run,) = RunStore(packed, tmp_path, "fp32").train_all([replace(job, curve_epochs=1, target=0.25)])
    assert [point["epoch"] for point in run.curve] == epochs


def test_a_run_that_diverges_is_remembered(packed, job, tmp_path):
    lines = []
    runs = RunStore(packed, tmp_path, "fp32", on_line=lines.append)
    wild = replace(job, recipe=replace(job.recipe, learning_rate=1e9))
    for _ in range(2):
        (run,) = runs.train_all([wild])
        assert run.diverged
    assert lines == ["a run: diverged"]


def test_a_run_with_a_tuning_seed_keeps_its_errors_and_no_weights(packed, job, tmp_path):
    runs = RunStore(packed, tmp_path, "fp32")
    (run,) = runs.train_all([replace(job, keep_weights=False)])
    assert not (run.folder / "last").exists()
    assert runs.train_all([replace(job, keep_weights=False)]) == [run]


def test_a_second_command_takes_another_run_and_waits_for_the_locked_one(packed, job, tmp_path, monkeypatch):
    monkeypatch.setattr(runs_module, "POLL_SECONDS", 0.01)
    other = replace(job, seed=1, title="other run")
    lines, holder = [], None

    def note(line):
        lines.append(line)
        if line.startswith("other run"):  # the first command ends meanwhile
            holder.__exit__(None, None, None)

    runs = RunStore(packed, tmp_path, "fp32", on_line=note)
    holder = file_lock(tmp_path / f"{runs.name(job)}.lock")
    holder.__enter__()
    first, second = runs.train_all([job, other])
    assert lines[0] == "a run: another command is training it"
    assert [line.split(":")[0] for line in lines[1:]] == ["other run", "a run"]
    assert (first.folder.name, second.folder.name) == (runs.name(job), runs.name(other))


@pytest.mark.parametrize(("images_per_class", "tuning"), [(5, False), (5, True), (None, True)])
def test_a_report_shows_the_subset_that_a_run_was_trained_on(packed, job, tmp_path, images_per_class, tuning):
    runs = RunStore(packed, tmp_path, "fp32")
    data = runs.subset(images_per_class, draw=3, tuning=tuning)
    (run,) = runs.train_all([replace(job, data=data, recipe=replace(job.recipe, epochs=1))])
    shown = packed_data(run.folder)
    assert is_own_data(shown, read_config(run.folder))
    for split in ("train", "val"):
        assert shown.split(split).names == data.split(split).names


def test_everything_that_decides_a_result_is_in_a_runs_name(packed, job, tmp_path):
    runs = RunStore(packed, tmp_path, "fp32")
    others = [replace(job, seed=1), replace(job, curve_epochs=3), replace(job, target=0.5),
              replace(job, recipe=replace(job.recipe, learning_rate=0.5)), replace(job, arch=replace(
                  job.arch, dropout=0.0)), replace(job, data=runs.subset(5)), replace(job, data=runs.subset(
                      5, tuning=True)), replace(job, data=runs.subset(5, draw=1))]
    names = {runs.name(job), *map(runs.name, others), RunStore(packed, tmp_path, "bf16").name(job)}
    assert len(names) == len(others) + 2
    assert runs.name(replace(job, title="the same run")) == runs.name(job)
    for value, decides in (("RESULTS_VERSION", job), ("GIVE_UP_SHARE", replace(job, target=0.5))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runs_module, value, 99)
            assert runs.name(decides) not in names
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "__version__", "3.0.0")
        assert runs.name(job) not in names
