"""No command replaces a file of the user's in silence. Every command that writes one is found in the command tree."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet.cli.main import app
from command_line import alexnet

WRITTEN = {
    ("attribute", "--out"): ["photo.png", "--out", "OUT.png"],
    ("check", "--html"): ["absent", "--html", "OUT.html"],
    ("evaluate", "--csv"): ["absent", "absent", "--csv", "OUT.csv"],
    ("evaluate", "--html"): ["absent", "absent", "--html", "OUT.html"],
    ("explain", "--html"): ["paper", "--html", "OUT.html"],
    ("export", "[CHECKPOINT] OUT"): ["absent", "OUT.onnx"],
    ("features", "[CHECKPOINT] DATA OUT"): ["absent", "absent", "OUT.npz"],
    ("figure", "--out"): ["3", "absent", "--out", "OUT.svg"],
    ("lr-find", "--out"): ["absent", "--out", "OUT.png"],
    ("map", "--out"): ["absent", "absent", "--out", "OUT.html"],
    ("neighbors", "--out"): ["absent", "absent.png", "--reference-set", "absent", "--out", "OUT.png"],
    ("top-patches", "--out"): ["absent", "absent", "--layer", "conv1", "--out", "OUT.png"]}
"""Arguments that are a file to write -> a command line with it. Networks and data are absent: a refusal that came after
they are read would name them."""

OTHER_RULES = {
    ("calibrate", "CHECKPOINT"): "adds a temperature to the checkpoint, which is its purpose",
    ("demo", "--out"): "resumes the demo in the folder, and keeps a finished one",
    ("import", "OUT"): "refuses a folder that holds a checkpoint, without --overwrite",
    ("pack", "DEST"): "resumes packing, and refuses a folder with other images",
    ("report", "RUN"): "writes the report that is part of the run, from the run",
    ("reproduce", "--out"): "shares the folder between commands, and reuses its runs",
    ("reproduce", "--archive"): "appends lines",
    ("reproduce", "--results"): "appends a line",
    ("results", "--page"): "replaces the part of the page between two marks, and refuses a page without them",
    ("train", "--out"): "refuses a folder that holds a run, without --resume"}
"""Arguments that are written to by another rule, which the tests of these commands hold."""

READ = {"--classes", "--config", "--like", "--prototxt", "--runtime", "FILE"}
"""Arguments that are files to read, in any command."""


def path_arguments():
    """Command and name of each argument that is a path, or that is called OUT."""
    for command in app:
        if not command.startswith("-"):
            for argument in app[command].assemble_argument_collection():
                if "Path" in str(argument.hint) or "OUT" in argument.name:
                    yield command, argument.name

PLACES = {
    **WRITTEN,
    ("demo", "--out"): ["--out", "OUT"],
    ("import", "OUT"): ["absent.pth", "OUT"],
    ("pack", "DEST"): ["absent", "OUT"],
    ("reproduce", "--out"): ["dropout", "--data", "absent", "--out", "OUT", "--results", "results.jsonl"],
    ("reproduce", "--archive"): ["dropout", "--data", "absent", "--archive", "OUT"],
    ("reproduce", "--results"): ["dropout", "--data", "absent", "--results", "OUT"],
    ("results", "--page"): ["absent", "--page", "OUT.md"],
    ("train", "--out"): ["embedded", "--arch", "small", "--out", "OUT"]}
"""Arguments that are a file or folder to write -> a command line with it. `train` looks for its data first."""

IN_THE_NETWORK = {("calibrate", "CHECKPOINT"), ("report", "RUN")}
"""Arguments that are read first. test_cli_refusals holds that they must be writable."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save("photo.png")
    return tmp_path


def test_every_path_in_the_command_tree_has_a_rule():
    found = [(command, name) for command, name in path_arguments() if name not in READ]
    assert sorted(found) == sorted([*WRITTEN, *OTHER_RULES])


def test_every_written_path_has_a_command_line_that_names_a_place():
    assert {*PLACES} | IN_THE_NETWORK == {*WRITTEN, *OTHER_RULES}


@pytest.mark.parametrize("where", ["photo.png/OUT", "photo.png/more/OUT", "/proc/nope/OUT"])
@pytest.mark.parametrize("case", PLACES, ids=" ".join)
def test_a_place_that_cannot_be_written_is_refused_before_any_work(case, where, folder, capsys):
    """The superuser, too, can make nothing in /proc, although its permissions allow it."""
    if where.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("no /proc on this system")
    before = sorted(folder.rglob("*"))
    arguments = [where.replace("OUT", word) if word.startswith("OUT") else word for word in PLACES[case]]
    assert alexnet(case[0], *arguments) == 2
    said = capsys.readouterr().err
    assert " cannot be written, as " in said
    assert "packing" not in said
    assert "absent" not in said
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("case", WRITTEN, ids=" ".join)
def test_a_file_that_exists_is_refused_before_any_work(case, folder, capsys):
    command, arguments = case[0], WRITTEN[case]
    (out,) = (Path(argument) for argument in arguments if argument.startswith("OUT"))
    out.write_text("mine")
    assert alexnet(command, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == (
        f"alexnet: {out} already exists; choose another name, or replace it with --overwrite")
    assert captured.out == ""
    assert out.read_text() == "mine"


@pytest.mark.parametrize("case", WRITTEN, ids=" ".join)
def test_overwrite_lets_the_command_go_on(case, folder, capsys):
    command, arguments = case[0], WRITTEN[case]
    (out,) = (Path(argument) for argument in arguments if argument.startswith("OUT"))
    out.write_text("mine")
    if command in ("attribute", "explain"):  # they need no other file
        assert alexnet(command, *arguments, "--overwrite") == 0
        assert out.read_bytes() != b"mine"
    else:
        assert alexnet(command, *arguments, "--overwrite") == 2
        assert "already exists" not in capsys.readouterr().err
        assert out.read_text() == "mine"


@pytest.mark.parametrize(("arguments", "existing"), [
    (["lr-find", "absent", "--out", "sweep"], "sweep.svg"), (["figure", "2", "paper", "--out", "towers"], "towers.png"),
    (["export", "absent", "net.xml"], "net.bin"), (["export", "absent", "hub"], "hub/model.safetensors"),
    (["export", "absent", "page", "--to", "web"], "page/index.html")])
def test_files_beside_the_named_one_and_folders_are_not_replaced_either(arguments, existing, folder, capsys):
    Path(existing).parent.mkdir(exist_ok=True)
    Path(existing).write_text("mine")
    assert alexnet(*arguments) == 2
    named = existing.partition("/")[0]
    assert capsys.readouterr().err == (
        f"alexnet: {named} already exists; choose another name, or replace it with --overwrite\n")
    assert Path(existing).read_text() == "mine"


def test_without_a_name_a_figure_gets_a_number_and_with_overwrite_its_place(folder, capsys):
    for expected in ("figures/figure2", "figures/figure2-2", "figures/figure2-3"):
        assert alexnet("figure", "2", "small") == 0
        assert capsys.readouterr().out.split() == [f"{expected}.png", f"{expected}.svg"]
    assert alexnet("figure", "2", "cifar", "--overwrite") == 0
    assert capsys.readouterr().out.split() == ["figures/figure2.png", "figures/figure2.svg"]
    assert len(list(Path("figures").iterdir())) == 6
