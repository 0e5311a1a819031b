"""The files that a user installs beside torch stay under 130 MB, their bytecode near it, and matplotlib is no part."""

import py_compile
import re
import tempfile
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import install_size
import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "src" / "alexnet"


def dependencies():
    """All packages that alexnet requires and torch does not, from the metadata of those that are installed."""
    listed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {name for text in listed for name in install_size.required(text.partition(">")[0])}
    return names - install_size.required("torch")


@pytest.fixture(scope="module")
def sizes():
    """Package -> bytes of its files, and of its bytecode; alexnet as in this clone."""
    found = {name: install_size.installed_bytes(distribution(name)) for name in dependencies()}
    files = sum(path.stat().st_size for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc")
    with tempfile.TemporaryDirectory() as compiled:
        for number, path in enumerate(PACKAGE.rglob("*.py")):
            py_compile.compile(str(path), f"{compiled}/{number}.pyc", doraise=True)
        bytecode = sum(path.stat().st_size for path in Path(compiled).iterdir())
    return found | {"alexnet": (files, bytecode)}


def test_the_files_of_everything_but_torch_take_less_than_130_mb(sizes):
    """What `pip install --no-compile .` writes."""
    assert sizes.keys() >= {"numpy", "pillow", "rich", "pygments"}
    assert all(files > 1000 for files, _ in sizes.values()), sizes
    assert sizes["alexnet"][0] > 10e6  # with the pretrained network and the photographs
    assert sum(files for files, _ in sizes.values()) < 130e6, sizes


def test_with_bytecode_it_is_not_more_than_the_page_says(sizes):
    """What `pip install .` writes. On Python 3.11 it is a little above 130 MB; newer NumPy wheels may add some."""
    (stated,) = re.findall(r"^\| \*\*without torch\*\* \| \*\*\d+\*\* \| \*\*(\d+)\*\* \|$",
                           (REPOSITORY / "docs" / "install.md").read_text(), re.MULTILINE)
    assert sum(files + bytecode for files, bytecode in sizes.values()) < (int(stated) + 5) * 1e6, sizes


def test_what_only_matplotlib_brought_is_not_required():
    assert not dependencies() & {"matplotlib", "fonttools", "contourpy", "kiwisolver", "pyparsing", "python-dateutil"}
