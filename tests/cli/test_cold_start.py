"""Commands that compute nothing with a network start without torch, and those that show a table without matplotlib."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet.models import checkpoint
from command_line import alexnet
from weight_files import narrow

RESULTS = Path(__file__).parents[2] / "docs" / "results.jsonl"

_CODE = """
import sys
from alexnet.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code
heavy = {"torch", "matplotlib", "asyncio"} & sys.modules.keys()
assert not heavy, f"{heavy} imported"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    checkpoint.save(narrow("cifar"), folder / "best")
    return folder


@pytest.mark.parametrize("arguments", [
    ("explain", "pretrained"), ("explain", "{run}"), ("explain", "{run}/best", "--diff", "pretrained"),
    ("list", "weights", "{run}"), ("results", str(RESULTS)), ("cache",)])
def test_a_command_starts_without_torch(run, arguments):
    done = subprocess.run([sys.executable, "-c", _CODE, *(each.format(run=run) for each in arguments)],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_training_on_data_that_do_not_exist_is_refused_without_torch(tmp_path):
    code = _CODE.replace("assert not stop.code", "assert stop.code == 2")
    done = subprocess.run([sys.executable, "-c", code, "train", "NOTHING"], capture_output=True, text=True, check=False,
                          cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[0]) == (0, (
        "alexnet: there is no NOTHING; name a folder with a folder of images for each class, a packed folder, or the "
        "name cifar10, cifar100 or embedded"))
    assert not [*tmp_path.iterdir()]


def test_explain_of_a_run_reads_the_networks_own_numbers(run, capsys):
    assert alexnet("explain", run, "--json") == 0
    explained = json.loads(capsys.readouterr().out)
    assert explained["layers"][0]["output"][0] == 16  # `narrow`; the preset has 32
    assert explained["layers"][-1]["output"] == [7]


def test_explain_of_a_damaged_checkpoint_has_the_error_of_loading_it(run, tmp_path, capsys):
    (tmp_path / "checkpoint.json").write_text("{}")
    assert alexnet("explain", tmp_path) == 2
    assert f"{tmp_path / 'checkpoint.json'} is damaged; use the run's other checkpoint" in capsys.readouterr().err
