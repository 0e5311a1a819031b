"""What a user installs beside torch stays under 130 MB, and matplotlib is no part of it."""

import tomllib
from importlib.metadata import distribution
from pathlib import Path

import install_size

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "src" / "alexnet"


def dependencies():
    """All packages that alexnet requires and torch does not, from the metadata of those that are installed."""
    listed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {name for text in listed for name in install_size.required(text.partition(">")[0])}
    return names - install_size.required("torch")


def test_everything_but_torch_takes_less_than_130_mb():
    sizes = {name: install_size.installed_bytes(distribution(name))[0] for name in dependencies()}
    assert sizes.keys() >= {"numpy", "pillow", "rich", "pygments"}
    assert all(size > 1000 for size in sizes.values()), sizes
    own = sum(path.stat().st_size for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert own > 10e6  # with the pretrained network and the photographs
    assert own + sum(sizes.values()) < 130e6, sizes


def test_what_only_matplotlib_brought_is_not_required():
    assert not dependencies() & {"matplotlib", "fonttools", "contourpy", "kiwisolver", "pyparsing", "python-dateutil"}
