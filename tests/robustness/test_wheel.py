"""What is installed is whole, answers quickly, and asks the network for nothing; and what is not so would be seen."""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
import wheel
from wheel import Installed


def test_wheel_and_sdist_are_whole_and_every_help_opens_no_socket_and_imports_no_torch():
    found = wheel.measure(pythons=0, epochs=0, seconds=2)
    assert found.holds, found.found


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A tree with a package of two files."""
    tree = tmp_path / "tree"
    (tree / "src" / "alexnet").mkdir(parents=True)
    (tree / "src" / "alexnet" / "cli.py").write_text("code")
    (tree / "src" / "alexnet" / "page.html").write_text("page")
    (tree / "README.md").write_text("about")
    return tree


def test_a_wheel_that_lacks_a_page_holds_a_test_and_says_little_is_told_so(package: Path, tmp_path: Path):
    with ZipFile(made := tmp_path / "alexnet.whl", "w") as file:
        file.writestr("alexnet/cli.py", "other code")
        file.writestr("tests/test_cli.py", "a test")
        file.writestr(f"alexnet-{wheel.PROJECT['version']}.dist-info/METADATA", "Name: alexnet\n\nsomething")
    told = list(wheel.differs(package, made))
    assert {"the wheel's alexnet/cli.py differs", "the wheel's alexnet/page.html is missing",
            "the wheel holds tests/test_cli.py", "the metadata's License-Expression is None",
            "the metadata does not require torch>=2.10", "the metadata's description is not the README"} <= set(told)
    assert not any("Name" in one for one in told)


@pytest.mark.parametrize(("code", "told"), [
    ("import socket; socket.socket()", "socket.__new__"), ("import socket; socket.getaddrinfo('localhost', 80)",
                                                          "socket.getaddrinfo"),
    ("import torch", "imports torch"), ("import numpy", "imports numpy"), ("", "")])
def test_a_command_that_opens_a_socket_or_imports_torch_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, told: str,
):
    package, script = tmp_path / "alexnet", tmp_path / "script.py"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cli.py").write_text("import sys; print(' '.join(['Usage: alexnet', *sys.argv[1:-1]]))")
    (tmp_path / "torch.py").touch()
    (tmp_path / "numpy.py").touch()
    script.write_text(f"import alexnet.cli.main\n{code}")
    monkeypatch.setattr(wheel, "commands", lambda: ["pack"])
    seen = wheel.Seen()
    wheel.ask_for_help(seen, Installed("here", Path(sys.executable), script, (tmp_path,)), tmp_path, seconds=60)
    assert [one.count(told) for one in seen.wrong] == ([1, 1] if told else [])
