"""The table of exit codes in docs/deploy/index.md is that of the commands."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet.cli.errors import BROKEN_PIPE, failure
from alexnet.errors import UserError
from alexnet.training.parallel.liveness import PeerLostError
from alexnet.training.state import Interrupted
from command_line import alexnet
from rehearsal import ROOT

SECTION = (ROOT / "docs/deploy/index.md").read_text().split("### Exit codes")[1].split("\n## ")[0]
TABLE = {int(code): meaning for code, meaning in re.findall(r"^\| (\d+) \| (.*) \|$", SECTION, re.MULTILINE)}


def test_the_table_has_every_code_that_the_commands_end_with_and_no_other():
    stopped = [Interrupted(number, Path("runs/a/last")).exit_code for number in (signal.SIGINT, signal.SIGTERM)]
    failed = [failure(error).exit_code for error in (UserError("a"), OSError("a"), PeerLostError("a"))]
    assert set(TABLE) == {0, BROKEN_PIPE, *stopped, *failed}


def test_no_other_code_is_written_anywhere_in_the_package():
    ends = re.compile(r"\b(?:sys\.exit\(|os\._exit\(|SystemExit\(|exit_code = )(\d+)\)?(?: +#.*)?$", re.MULTILINE)
    found = {int(code) for path in (ROOT / "src/alexnet").rglob("*.py") for code in ends.findall(path.read_text())}
    assert {2, 130} <= found <= {*TABLE}


def test_a_fault_of_the_package_ends_with_1_and_a_traceback():
    script = ("import alexnet.cli.architecture, alexnet.cli.main\n"
              "@alexnet.cli.main.app.command\n"
              "def broken(): raise ZeroDivisionError('a fault')\n"
              "alexnet.cli.main.main(['broken'])")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError: a fault" in done.stderr


@pytest.mark.parametrize("command", ["check", "doctor"])
def test_findings_alone_end_with_0(command, class_folders, monkeypatch, tmp_path, capsys):
    assert f"`{command}`" in TABLE[0]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert alexnet(command, *([class_folders] if command == "check" else [])) == 0
    printed = capsys.readouterr().out
    assert printed


def test_a_finding_of_a_strict_check_ends_with_1(class_folders, monkeypatch, tmp_path, capsys):
    assert "`check --strict`" in TABLE[1]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert alexnet("check", class_folders, "--strict") == 1
    assert capsys.readouterr().out


def test_an_image_that_cannot_be_decoded_ends_with_2_and_the_others_are_answered(tmp_path, class_folders, capsys):
    good, bad = next(iter(sorted((class_folders / "val").rglob("*.png")))), tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    assert "`predict`" in TABLE[2]
    assert alexnet("predict", "pretrained", good, bad, "--json") == 2
    printed = capsys.readouterr()
    assert str(good) in printed.out
    assert "bad.jpg" in printed.err
