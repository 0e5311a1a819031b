"""The folder of several runs is no run, and the error names them; commands that share no work refuse torchrun."""

import json

import pytest

from alexnet.architecture.network_presets import ARCHS
from alexnet.architecture.overrides import to_json
from alexnet.architecture.recipe_presets import RECIPES
from alexnet.models import checkpoint
from alexnet.reproduce.report.commands import follow_up_commands, training_command
from command_line import SMALL
from command_line import alexnet as command
from weight_files import narrow


@pytest.fixture
def folds(tmp_path):
    """What `train --folds 2` leaves, as far as other commands look."""
    for fold in (1, 2):
        checkpoint.save(narrow("cifar"), tmp_path / "series" / f"fold-{fold}" / "best")
    return tmp_path / "series"


@pytest.mark.parametrize("words", [
    ("evaluate", "RUNS", "PHOTOS"), ("predict", "RUNS", "photo.jpg"), ("report", "RUNS"), ("figure", "1", "RUNS"),
    ("compare", "RUNS", "PHOTOS"), ("compare", "RUN", "RUNS"), ("calibrate", "RUNS", "PHOTOS"),
    ("export", "RUNS", "out.onnx"), ("train", "PHOTOS", "--like", "RUNS"), ("train", "PHOTOS", "--init", "RUNS")])
def test_the_folder_of_a_series_is_named_as_one_with_its_runs(folds, class_folders, words, capsys):
    names = {"RUNS": folds, "RUN": folds / "fold-1", "PHOTOS": class_folders}
    assert command(*(names.get(word, word) for word in words)) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(
        f"alexnet: {folds} is not a run itself: it holds 2 runs of `alexnet train --folds`; name one of them: "
        f"{folds}/fold-1, {folds}/fold-2")


def test_any_other_folder_of_runs_is_named_too(folds, class_folders, capsys):
    (folds / "fold-2").rename(folds / "mine")
    assert command("evaluate", folds, class_folders) == 2
    assert f"it holds 2 runs; name one of them: {folds}/fold-1, {folds}/mine" in capsys.readouterr().err


def test_a_command_that_would_do_all_its_work_twice_refuses_torchrun(class_folders, monkeypatch, capsys):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "TORCHELASTIC_RUN_ID": "none"}.items():
        monkeypatch.setenv(name, value)
    assert command("check", class_folders) == 2
    assert capsys.readouterr() == ("", "alexnet: check runs in one process, and torchrun has started 2; run it without "
                                   "torchrun; only train, evaluate, predict, features and pack share their work\n")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")  # a cluster's script may set WORLD_SIZE for every command
    assert command("check", class_folders, "--quick") == 0


def test_a_series_with_a_run_that_diverges_ends_with_exit_code_2(class_folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert command("train", class_folders, *SMALL, "--epochs", 1, "--lr", 1e30, "--seeds", 2,
                   "--out", tmp_path / "series") == 2
    printed = capsys.readouterr()
    assert [line.split()[-2:] for line in printed.out.splitlines()[1:3]] == [["44", "diverged"]] * 2
    assert "lower the learning rate (--lr; `alexnet lr-find` suggests one)" in printed.err


def test_the_commands_of_a_run_of_several_processes_start_them():
    data, torchrun = {"source": "/photos"}, "torchrun --nproc-per-node 2 -m alexnet train"
    typed = {"command": f"{torchrun} PHOTOS --out runs/a", "processes": 2, "data": data}
    assert training_command(typed) == typed["command"]
    assert follow_up_commands(typed, "best") == [
        "alexnet evaluate runs/a/best PHOTOS", "alexnet report runs/a --data PHOTOS"]



    called = json.loads(json.dumps({
        "arch": to_json(ARCHS["paper"]), "recipe": to_json(RECIPES["paper"]), "data": data, "processes": 2,
        "parallel": "towers"}))
    assert training_command(called) == (
        f"{torchrun} /photos --arch paper --recipe paper --seed 0 --parallel towers")
