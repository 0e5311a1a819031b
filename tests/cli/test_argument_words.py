"""Names with spaces without quotes, data before the run, and misspelled runs: the sentence has the right command."""

import shlex

import pytest

from alexnet.cli.argument_words import RUN_FIRST, words_problem
from command_line import alexnet


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine" / "best").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "best" / "checkpoint.json").write_text("{}")
    (tmp_path / "my photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "my photo 1.jpg").write_bytes(b"")


@pytest.mark.parametrize(("typed", "sentence"), [
    ("train my photos --epochs 2", "my does not exist, but my photos does; put its name in quotes: 'my photos'"),
    ("predict runs/mine my photo 1.jpg",
     "my does not exist, but my photo 1.jpg does; put its name in quotes: 'my photo 1.jpg'"),
    ("evaluate photos runs/mine --views 10",
     "evaluate takes the run first, and then the data; write: alexnet evaluate runs/mine photos --views 10"),
    ("compare photos runs/mine runs/mine",
     "compare takes the run first, and then the data; write: alexnet compare runs/mine runs/mine photos"),
    ("features photos runs/mine out.npz",
     "features takes the run first, and then the data; write: alexnet features runs/mine photos out.npz"),
    ("predict 'my photo 1.jpg' runs/mine --json",
     "predict takes the run first, and then the images; write: alexnet predict runs/mine 'my photo 1.jpg' --json"),
    ("attribute 'my photo 1.jpg' photos runs/mine",
     "attribute takes the run first, and then the images; write: alexnet attribute runs/mine 'my photo 1.jpg' photos"),
    ("calibrate runs/mien photos", "runs/mien does not exist; did you mean runs/mine?"),
    ("evaluate runs/mien photos", "runs/mien does not exist; did you mean runs/mine?"),
    ("report runs/mien", "runs/mien is not a run; did you mean runs/mine?"),
    ("train photos --like runs/mien", "runs/mien is not a run; did you mean runs/mine?"),
])
def test_the_sentence_has_the_name_or_the_command_that_was_meant(capsys, typed, sentence):
    assert alexnet(*shlex.split(typed)) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"alexnet: {sentence}"


@pytest.mark.parametrize("command", RUN_FIRST)
def test_every_command_that_takes_run_and_data_prints_the_right_order(capsys, command):
    more = ["--layer", "conv1"] if command == "top-patches" else []
    assert alexnet(command, "photos", "runs/mine", *more) == 2
    typed = shlex.join(["alexnet", command, "runs/mine", "photos", *more])
    assert capsys.readouterr().err.endswith(f"{command} takes the run first, and then the data; write: {typed}\n")


@pytest.mark.parametrize("typed", [
    "evaluate runs/mine photos", "evaluate nowhere runs/mine", "train photos runs/mine", "", "evaluate",
    "predict nowhere photos", f"train nowhere {'a' * 300}"])
def test_words_in_order_are_not_the_problem(typed):
    assert words_problem(typed.split()) is None
