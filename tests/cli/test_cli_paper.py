"""The `demo` command."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from alexnet._runtime.extras import EXTRAS
from command_line import alexnet
from installed import needed

ROOT = Path(__file__).parents[2]

FEW_PATCHES = """
import sys
for name in sys.argv.pop(1).split():
    sys.modules[name] = None
from alexnet.cli.main import main
from alexnet.data.sources import detect, embedded
few = embedded.open_embedded(train=10, test=4)
detect.open_embedded = lambda: few
main(sys.argv[1:])
"""
"""The command without the modules that the first argument names, and with few patches of each photograph."""


def not_of_a_bare_install() -> set[str]:
    """The installed modules that `pip install alexnet`, without an extra, would not bring."""
    bare = needed(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]).keys()
    others = {module for module, names in packages_distributions().items()
              if module not in sys.stdlib_module_names and not bare & {canonicalize_name(name) for name in names}}
    return others - {"alexnet"}


def test_a_bare_install_has_the_demo(tmp_path):
    """On few patches, in a process of its own: in this one other tests have imported modules of the extras."""
    hidden = not_of_a_bare_install()
    hidden |= {module for extra in EXTRAS.values() for module in extra.modules if module.partition(".")[0] in hidden}
    assert hidden >= {module for extra in EXTRAS.values() for module in extra.modules if not extra.missing}
    done = subprocess.run([sys.executable, "-c", FEW_PATCHES, " ".join(hidden), "demo", "--out", tmp_path / "demo",
                           "--epochs", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {tmp_path / 'demo' / 'report.html'}"
    assert "texture recognition" in (tmp_path / "demo" / "report.html").read_text()


@pytest.mark.slow
def test_demo_trains_evaluates_and_reports_offline(tmp_path, capsys, monkeypatch):
    import socket

    def no_network(*arguments, **settings):
        pytest.fail("the demo asked the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    assert alexnet("demo", "--out", tmp_path / "demo", "--epochs", 1) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == f"report: {tmp_path / 'demo' / 'report.html'}"
    events = [json.loads(line) for line in (tmp_path / "demo" / "log.jsonl").read_text().splitlines()]
    measured = {event["views"]: event for event in events if event["event"] == "evaluation"}
    assert set(measured) == {1, 10}
    assert measured[1]["images"] >= 14 * 40
    # One epoch of fifteen; chance is 93%. What fifteen give is in the README.
    assert measured[10]["top1_error"] < 0.85
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "texture recognition" in page
    assert f"alexnet evaluate {tmp_path / 'demo' / 'last'} {tmp_path / 'demo' / 'data'} --views 10" in page
    # What is finished stays; without its report it counts as interrupted, goes on, and gives the same figures.
    assert alexnet("demo", "--out", tmp_path / "demo", "--epochs", 1) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (tmp_path / "demo" / "report.html").read_text() == page
    (tmp_path / "demo" / "report.html").unlink()
    assert alexnet("demo", "--out", tmp_path / "demo", "--epochs", 1) == 0
    assert f"{tmp_path / 'demo' / 'last'}, the network after its last epoch: " in capsys.readouterr().err
    again = [json.loads(line) for line in (tmp_path / "demo" / "log.jsonl").read_text().splitlines()]
    assert [e for e in again if e["event"] == "evaluation"] == [e for e in events if e["event"] == "evaluation"]
