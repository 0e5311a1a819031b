"""The structure in docs/architecture.md: import order, no import cycles, no torch where it is not needed."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import alexnet

ROOT = Path(alexnet.__file__).parent

ORDER = ["errors", "_runtime", "architecture", "data", "models", "inference", "interpret", "training", "reproduce",
         "serving", "api", "cli"]
"""A sub-package may import those to its left (docs/architecture.md)."""

FILES = {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
         for file in ROOT.rglob("*.py")}


def imported(file: Path) -> set[str]:
    """Modules of this package that a file imports anywhere, in functions and for type hints too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import; name the module in full"
            if (node.module or "").split(".")[0] == "alexnet":
                base = (node.module or "").removeprefix("alexnet").removeprefix(".")
                inner = [f"{base}.{alias.name}".removeprefix(".") for alias in node.names]
                found |= {name if name in FILES else base for name in inner}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("alexnet.") for alias in node.names if alias.name.startswith("alexnet.")}
    return found - {""}


IMPORTS = {name: imported(file) for name, file in FILES.items()}


def test_modules_are_found_in_nested_folders_too():
    assert {name.rpartition(".")[0] for name in FILES} >= {"training.parallel", "models.formats", "data.sources"}
    assert {name.split(".")[0] for name in FILES} == {*ORDER, "__init__", "__main__"}


@pytest.mark.parametrize("package", ORDER)
def test_a_sub_package_imports_only_those_before_it_in_the_order(package):
    wrong = [f"{name} imports {other}" for name, others in IMPORTS.items() if name.split(".")[0] == package
             for other in others if ORDER.index(other.split(".")[0]) > ORDER.index(package)]
    assert not wrong


def test_no_import_cycles():
    list(TopologicalSorter(IMPORTS).static_order())  # raises CycleError, which names the cycle


def test_help_and_explain_do_without_torch():
    code = ("import sys; from alexnet.cli.main import main\n"
            "try: main(sys.argv[1:])\n"
            "except SystemExit: pass\n"
            "assert 'torch' not in sys.modules, 'torch was imported'")
    for arguments in (["--help"], ["explain", "paper"], ["list"]):
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


def test_no_module_imports_a_posix_only_module_when_it_is_imported():
    posix_only = {"fcntl", "grp", "pwd", "resource", "termios"}
    for name, file in FILES.items():
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not modules & posix_only, name


@pytest.mark.parametrize("package", ["torchvision", "matplotlib"])
def test_a_large_package_is_never_imported(package):
    assert not [file for file in ROOT.rglob("*.py")
                if re.search(rf"^\s*(import|from) {package}\b", file.read_text(), re.MULTILINE)]
