"""`make` installs torch from the index TORCH_INDEX, before anything else requires torch and takes it from PyPI."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from requirements import missing

ROOT = Path(__file__).parents[2]
CPU = "https://download.pytorch.org/whl/cpu"


def pip_lines(target: str, venv: Path, *variables: str, **environment: str) -> list[str]:
    """What `make TARGET` gives to pip in an empty folder .venv, in order; make prints it and runs nothing."""
    if not shutil.which("make"):
        missing("make is not on the PATH")
    clean = {name: value for name, value in os.environ.items() if name != "TORCH_INDEX"}
    printed = subprocess.run(["make", "-n", target, f"VENV={venv}", *variables], cwd=ROOT, env=clean | environment,
                             capture_output=True, text=True, check=True).stdout
    return [line.partition(" -m pip install -q ")[2] for line in printed.splitlines() if " -m pip install " in line]


@pytest.mark.parametrize("target", ["demo", "test", "docs", "check"])
def test_torch_comes_first_and_from_the_index_that_is_named(target, tmp_path):
    upgrade, torch, *others = pip_lines(target, tmp_path / "venv", f"TORCH_INDEX={CPU}")
    assert (upgrade, torch) == ("--upgrade pip", f"-c constraints.txt --index-url {CPU} torch torchvision")
    assert others
    assert all(line.startswith("-c constraints.txt -e '.[") for line in others)


def test_the_index_may_be_named_in_the_environment(tmp_path):
    assert f"-c constraints.txt --index-url {CPU} torch torchvision" in pip_lines(
        "demo", tmp_path / "venv", TORCH_INDEX=CPU)


@pytest.mark.parametrize("variables", [[], ["TORCH_INDEX="]])
def test_without_an_index_it_is_that_of_pips_configuration(variables, tmp_path):
    assert pip_lines("demo", tmp_path / "venv", *variables) == ["--upgrade pip", "-c constraints.txt -e '.[interpret]'"]


@pytest.mark.parametrize(("printed", "index"), [(CPU, CPU), ("", "")])
def test_a_torch_that_is_there_decides_the_index(printed, index, tmp_path):
    """README's lines make .venv, with torch for the CPU: `make test` must not put PyPI's torchvision beside it."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho {printed}\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    lines = pip_lines("demo", tmp_path / "venv")
    assert (f"-c constraints.txt --index-url {index} torch torchvision" in lines) == bool(index)


def test_the_build_of_an_installed_torch_is_read_from_its_version(tmp_path):
    """The program in the Makefile, with metadata as those of torch's wheels."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    found = shutil.which("python3")
    assert found
    packages = tmp_path / "packages"
    info = packages / "torch-2.13.0+cu130.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+cu130\n")
    python.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {found} -S "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    assert ("-c constraints.txt --index-url https://download.pytorch.org/whl/cu130 torch torchvision"
            in pip_lines("demo", tmp_path / "venv"))


def test_help_does_not_call_the_first_demo_offline():
    printed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (demo,) = (line for line in printed.splitlines() if line.startswith("make demo"))
    assert "offline once it is installed" in demo


def test_readme_makes_a_virtual_environment_before_it_installs():
    """Debian's pip refuses to install outside one."""
    install = (ROOT / "README.md").read_text(encoding="utf-8").split("## Install\n")[1].split("```")[1].splitlines()
    assert install[1].startswith("python3 -m venv .venv && source .venv/bin/activate ")
    assert install[2].startswith(f"pip install torch --index-url {CPU} ")
