"""The wheels' configuration is consistent, the workflow is pinned, and an sdist builds where there is no compiler."""

import re
import sys
import tarfile
import tomllib
from fnmatch import fnmatch
from zipfile import ZipFile

import pytest
import wheel
import yaml

CONFIG = tomllib.loads((wheel.ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
WORKFLOW = (wheel.ROOT / ".github" / "workflows" / "wheels.yml").read_text()
JOBS = yaml.safe_load(WORKFLOW)["jobs"]

RUNNERS = {"ubuntu-24.04": ("linux", "x86_64"), "ubuntu-24.04-arm": ("linux", "aarch64"),
           "macos-14": ("macos", "arm64"), "windows-2022": ("windows", "AMD64")}
"""GitHub's runner -> the system and the processor that it builds for."""


def test_every_python_that_the_package_names_gets_a_wheel_and_no_other():
    """Identifiers as `cibuildwheel --print-build-identifiers` prints them."""
    named = [name.rpartition(" ")[2] for name in wheel.PROJECT["classifiers"] if re.search(r":: 3\.\d+$", name)]
    expected = {f"cp{name.replace('.', '')}-manylinux_x86_64" for name in named}
    asked = {"cp310-manylinux_x86_64", "cp311-manylinux_x86_64", "cp312-manylinux_x86_64", "cp313-manylinux_x86_64",
             "cp314-manylinux_x86_64", "cp314t-manylinux_x86_64", "cp312-musllinux_x86_64", "pp311-manylinux_x86_64"}
    skipped = CONFIG["skip"] if isinstance(CONFIG["skip"], list) else [CONFIG["skip"]]
    assert {one for one in asked if any(fnmatch(one, pattern) for pattern in CONFIG["build"])
            and not any(fnmatch(one, pattern) for pattern in skipped)} == expected
    assert len(expected) == 4


def test_each_system_is_built_on_a_runner_of_its_own():
    assert set(JOBS["wheels"]["strategy"]["matrix"]["runner"]) == set(RUNNERS)
    built = {(system, arch) for system in ("linux", "macos", "windows") for arch in CONFIG[system]["archs"]}
    assert built == set(RUNNERS.values())


def test_the_workflow_pins_every_action_and_tool_and_may_write_nothing():
    steps = [step for job in JOBS.values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]
    assert len(used) == 6
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", one) for one in used)
    installed = [word for step in steps if "pip install" in step.get("run", "") for word in step["run"].split()[4:]]
    assert [word.partition("==")[0] for word in installed] == ["cibuildwheel", "build"]
    assert all("==" in word for word in installed)
    assert yaml.safe_load(WORKFLOW)["permissions"] == {"contents": "read"}
    assert "secrets." not in WORKFLOW
    assert all(job["timeout-minutes"] for job in JOBS.values())


def test_what_a_wheel_is_tested_with_are_commands_of_the_package():
    from alexnet.cli.main import app

    commands = [*CONFIG["test-command"], *CONFIG["linux"]["test-command"]]
    for command in commands:
        if command.startswith("alexnet "):
            app.parse_args(command.split()[1:], exit_on_error=False, print_error=False)
    assert any("native.level()" in command for command in CONFIG["linux"]["test-command"])


@pytest.mark.skipif(sys.platform == "win32", reason="false is a POSIX command")
def test_an_sdist_builds_without_a_compiler(tmp_path, monkeypatch):
    """The kernels are left out, and nothing else."""
    sdist = wheel.build("sdist", wheel.copy_tree(tmp_path / "tree"), tmp_path / "dist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (tree,) = (tmp_path / "unpacked").iterdir()
    monkeypatch.setenv("CC", "false")
    built = wheel.build("wheel", tree, tmp_path / "wheels")
    names = ZipFile(built).namelist()
    assert not [name for name in names if name.endswith((".so", ".pyd"))]
    assert {"alexnet/_runtime/native.py", "alexnet/data/photographs/chelsea.png",
            "alexnet/data/photographs/CREDITS.md"} <= set(names)
    assert not list(wheel.differs(tmp_path / "tree", built))
