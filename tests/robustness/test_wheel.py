"""Wheel and sdist are complete, start quickly and open no socket; and the checks would detect the opposite."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from zipfile import ZipFile

import pytest
import wheel
from wheel import Installed


@pytest.mark.slow
def test_wheel_and_sdist_are_complete_and_every_help_runs_without_sockets_and_torch():
    finding = wheel.measure(pythons=0, epochs=0, seconds=2)
    assert finding.holds, finding.found


def test_every_file_of_the_package_matches_the_package_data():
    """setuptools leaves out other files without a word."""
    project = tomllib.loads((wheel.ROOT / "pyproject.toml").read_text())
    package, compiled = wheel.ROOT / "src" / "alexnet", (".pyc", ".so", ".pyd")
    included = {path for pattern in project["tool"]["setuptools"]["package-data"]["alexnet"]
                for path in package.glob(pattern)}
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", *compiled)}
    assert files <= included


def test_no_requirement_at_run_time_brings_torchvision():
    """Its wheels on PyPI need the CUDA build of torch. The extras `test`, `ci` and `openvino` are not of `all`."""
    extras = wheel.PROJECT["optional-dependencies"]
    todo = [*wheel.PROJECT["dependencies"], *(one for name in extras if name not in ("test", "ci", "openvino", "all")
                                              for one in extras[name])]
    names: set[str] = set()
    while todo:
        name = re.match(r"[\w.-]+", todo.pop())[0].lower()
        if name not in names:
            names.add(name)
            try:
                todo += [one for one in requires(name) or () if "extra ==" not in one]
            except PackageNotFoundError:  # a requirement of another platform
                continue
    assert "torch" in names
    assert "torchvision" not in names


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A tree with a package of two files."""
    tree = tmp_path / "tree"
    (tree / "src" / "alexnet").mkdir(parents=True)
    (tree / "src" / "alexnet" / "cli.py").write_text("code")
    (tree / "src" / "alexnet" / "page.html").write_text("page")
    (tree / "README.md").write_text("about")
    return tree


def test_faults_of_a_wheel_are_listed(package: Path, tmp_path: Path):
    with ZipFile(made := tmp_path / "alexnet.whl", "w") as file:
        file.writestr("alexnet/cli.py", "other code")
        file.writestr("tests/test_cli.py", "a test")
        file.writestr(f"alexnet-{wheel.PROJECT['version']}.dist-info/METADATA", "Name: alexnet\n\nsomething")
    faults = list(wheel.differs(package, made))
    assert {"the wheel's alexnet/cli.py differs", "the wheel's alexnet/page.html is missing",
            "the wheel holds tests/test_cli.py", "the metadata's License-Expression is None",
            "the metadata does not require torch>=2.10", "the metadata's description is not the README"} <= set(faults)
    assert not any("Name" in fault for fault in faults)


@pytest.mark.parametrize(("code", "fault"), [
    ("import socket; socket.socket()", "socket.__new__"),
    ("import socket; socket.getaddrinfo('localhost', 80)", "socket.getaddrinfo"),
    ("import torch", "imports torch"), ("import numpy", "imports numpy"), ("", "")])
def test_a_help_that_opens_a_socket_or_imports_torch_is_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, fault: str,
):
    package, script = tmp_path / "alexnet", tmp_path / "script.py"
    (package / "cli").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "cli" / "__init__.py").touch()
    (package / "cli" / "main.py").write_text("import sys; print(' '.join(['Usage: alexnet', *sys.argv[1:-1]]))")
    (tmp_path / "torch.py").touch()
    (tmp_path / "numpy.py").touch()
    script.write_text(f"import alexnet.cli.main\n{code}")
    monkeypatch.setattr(wheel, "commands", lambda: ["pack"])
    seen = wheel.Seen()
    wheel.ask_for_help(seen, Installed("here", Path(sys.executable), script, (tmp_path,)), tmp_path, seconds=60)
    assert [one.count(fault) for one in seen.wrong] == ([1, 1] if fault else [])
