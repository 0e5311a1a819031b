"""Finished runs in a file: read in place of training, added as they finish, with what was measured of their weights."""

from __future__ import annotations

import json
import shutil
import statistics
from dataclasses import replace

import pytest

from alexnet.architecture.overrides import override
from alexnet.errors import UserError
from alexnet.models import checkpoint
from alexnet.reproduce import claim_networks, weight_measures
from alexnet.reproduce.claim_networks import common_setup
from alexnet.reproduce.claims import CLAIMS
from alexnet.reproduce.design import Design
from alexnet.reproduce.measures import reproduce
from alexnet.reproduce.run_archive import RunArchive
from alexnet.reproduce.runs import Job, RunStore
from alexnet.reproduce.weight_measures import measure_weights
from alexnet.training import trainer
from command_line import alexnet as command

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def small(monkeypatch):
    """Claims with a small network."""
    arch = override(claim_networks.PAPER_SMALL, ["conv.width=8", "dense.width=16"])
    monkeypatch.setattr(claim_networks, "PAPER_SMALL", arch)


@pytest.fixture
def job(packed, small):
    """A run of two epochs."""
    arch, recipe = common_setup(32, 2)
    return Job(packed, arch, replace(recipe, batch_size=40), 0, "a run", curve_epochs=1)


@pytest.fixture
def at(packed, tmp_path):
    """Runs in a folder of this name, which is as good as another machine, with the archive as it then stands."""
    def make(folder, precision="fp32", **options):
        archive = RunArchive.open(tmp_path / "runs.jsonl")
        return RunStore(packed, tmp_path / folder, precision, archive=archive, **options)

    return make


def facts(run):
    return run.curve, run.validated, run.ended, run.machine, run.precision


@pytest.fixture
def no_training(monkeypatch):
    """Call it, and a training is an error from then on."""
    def forbid():
        monkeypatch.setattr(trainer.Trainer, "fit", lambda self: pytest.fail("a run was trained"))

    return forbid


@pytest.mark.parametrize("options", [{}, {"keep_weights": False}, {"target": 0.99}])
def test_a_run_in_the_archive_is_not_trained_again_whatever_the_precision(at, job, options, no_training):
    job = replace(job, **options)
    (trained,) = at("here").train_all([job])
    no_training()
    there = at("there", "bf16")
    (read,) = there.train_all([job])
    assert facts(read) == facts(trained)
    assert (read.has_weights, there.restored, there.precisions) == (False, 1, {"fp32"})
    assert facts(at("there", "bf16").train_all([job])[0]) == facts(trained)  # from the folder, now


def test_a_diverged_run_is_archived(at, job, no_training):
    wild = replace(job, recipe=replace(job.recipe, learning_rate=1e9))
    at("here").train_all([wild])
    no_training()
    assert at("there").train_all([wild])[0].diverged


@pytest.mark.parametrize("change", [
    lambda job: replace(job, seed=1), lambda job: replace(job, recipe=replace(job.recipe, weight_decay=0.1)),
    lambda job: replace(job, curve_epochs=2), lambda job: replace(job, target=0.01)])
def test_another_run_is_trained(at, job, change):
    at("here").train_all([job])
    there = at("there")
    there.train_all([change(job)])
    assert there.restored == 0
    assert len(RunArchive.open(there.archive.path).runs) == 2


def test_runs_that_had_finished_without_an_archive_are_added_once(at, job, packed, tmp_path, no_training):
    others = [job, replace(job, seed=1)]
    trained = RunStore(packed, tmp_path / "here", "fp32").train_all(others)
    no_training()
    first, second = at("here"), at("here")  # two commands at a time
    assert [*map(facts, first.train_all(others))] == [*map(facts, trained)]
    second.train_all(others)
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 2


def test_what_was_measured_of_the_weights_is_archived_with_them(at, job, no_training, monkeypatch):
    """A job that needs ten views finds them; one that needs another measure is trained again, and adds it."""
    job = replace(job, measures=frozenset({"ten_views"}))
    (trained,) = at("here").train_all([job])
    expected = measure_weights("ten_views", trained, job.data, "cpu")
    shutil.rmtree(trained.folder)
    with monkeypatch.context():
        there = at("there")
        (read,) = there.train_all([job])
        assert (there.restored, read.has_weights) == (1, False)
        assert measure_weights("ten_views", read, job.data, "cpu") == expected
    other = at("there")
    (again,) = other.train_all([replace(job, measures=frozenset({"norm"}))])
    assert (other.restored, again.has_weights) == (0, True)
    no_training()
    both = at("elsewhere")
    both.train_all([replace(job, measures=frozenset({"norm"}))])
    assert both.restored == 1


def test_all_that_claims_may_measure_is_archived_of_a_shared_run(at, job):
    at("here").train_all([replace(job, shared=True)])
    (run,) = at("there").archive.runs.values()
    assert run["measured"].keys() == {"ten_views", "recolored_rise", "norm", "least_color", "most_color"}


def test_the_color_of_the_towers_is_measured_of_every_run_of_two_towers_and_needed_of_none(at, job, no_training):
    """The gray part of a kernel is the mean of its three channels, and has three times the energy of that mean."""
    (trained,) = at("here").train_all([job])
    kernels = checkpoint.load(trained.folder / "last").weights["features.conv1.weight"].double()
    shares = [1 - 3 * float((kernel.mean(0) ** 2).sum() / (kernel**2).sum()) for kernel in kernels]
    towers = [statistics.fmean(half) for half in (shares[: len(shares) // 2], shares[len(shares) // 2 :])]
    archive = at("there").archive
    (run,) = archive.runs.values()
    assert run["measured"] == pytest.approx({"least_color": min(towers), "most_color": max(towers)}, rel=1e-5)
    archive.path.write_text(json.dumps({**run, "measured": {}}) + "\n")  # of an earlier version
    no_training()
    there = at("there")
    there.train_all([job])
    assert there.restored == 1


@pytest.mark.parametrize("change", [
    lambda job: replace(job, arch=replace(job.arch, towers=1)), lambda job: replace(job, keep_weights=False)])
def test_the_color_of_one_tower_or_of_a_tuning_run_is_not_measured(at, job, change):
    at("here").train_all([change(job)])
    (run,) = at("there").archive.runs.values()
    assert run["measured"] == {}


def test_the_outcome_of_a_claim_has_the_color_of_its_towers(packed, small, at):
    outcome = reproduce(Design.of(CLAIMS["two-gpu"], packed, epochs=1, seeds=2, quick=True), at("here"))
    one, two = outcome["variants"]
    assert not any("tower_color" in run for run in one["runs"])
    for run in two["runs"]:
        least, most = run["tower_color"]
        assert 0 <= least <= most <= 1


def test_measures_of_another_version_do_not_count(at, job, monkeypatch):
    job = replace(job, measures=frozenset({"norm"}))
    at("here").train_all([job])
    monkeypatch.setattr(weight_measures, "MEASURES_VERSION", 99)
    monkeypatch.setattr("alexnet.reproduce.run_archive.MEASURES_VERSION", 99)
    there = at("there")
    there.train_all([job])
    assert there.restored == 0


def test_a_run_whose_weights_are_needed_is_trained_with_them(at, job):
    at("here").train_all([job])
    at("there").train_all([job])
    there = at("there")
    (run,) = there.train_all([replace(job, needs_weights=True)])
    assert (run.has_weights, there.restored) == (True, 0)


def test_a_claim_from_an_archive_has_the_same_outcome(at, packed, small, no_training):
    claim = CLAIMS["lrn"]
    design = Design.of(claim, packed, epochs=2, seeds=2, quick=True)
    outcome = reproduce(design, at("here"))
    no_training()
    there = at("there")
    assert reproduce(design, there) == outcome
    assert there.restored == 3 * (2 + 2)  # of each variant two rates with a tuning seed, and two fresh seeds


def test_a_line_that_is_no_run_is_refused(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_text('{"key": "1"}\n')
    with pytest.raises(UserError, match=r"line 1 of .* is not an archived run: it lacks .*; delete the line"):
        RunArchive.open(path)
    path.write_text("{\n")
    with pytest.raises(UserError, match=r"line 1 of .*runs\.jsonl is not JSON"):
        RunArchive.open(path)


@pytest.mark.usefixtures("small")
def test_reproduce_says_how_many_runs_it_has_read_from_the_archive(class_folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    archive = tmp_path / "runs.jsonl"
    for machine, read in (("here", 0), ("there", 8)):
        assert command("reproduce", "two-gpu", "--data", class_folders, "--side", 32, "--quick", "--archive", archive,
                       "--out", tmp_path / machine) == 0
        assert f"{read} finished runs were read from {archive}" in " ".join(capsys.readouterr().err.split())
    here, there = (json.loads((tmp_path / machine / "results.jsonl").read_text()) for machine in ("here", "there"))
    assert {**there, "command": ""} == {**here, "command": ""}
    archive.write_text("{\n")
    assert command("reproduce", "two-gpu", "--data", class_folders, "--archive", archive) == 2
