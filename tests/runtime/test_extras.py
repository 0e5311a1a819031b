"""The pip line of an extra works from a clone and names an extra that exists; no other place writes such a line."""

import json
import re
import shlex
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from alexnet._runtime import extras
from alexnet._runtime.extras import EXTRAS, install_line, is_installed, reinstall_line

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEVELOPMENT = {"test", "ci", "docs", "all"}
NOT_IN_ALL = {"openvino"}  # 180 MB, for one format of `export`


@pytest.fixture
def recorded(monkeypatch):
    """`recorded(url)`: this copy is an installed one, and pip recorded that it is from there; None: from an index."""
    def record(url):
        text = None if url is None else json.dumps({"url": url})
        monkeypatch.setattr(extras, "__file__", "/usr/lib/python3/site-packages/alexnet/_runtime/extras.py")
        monkeypatch.setattr(extras, "distribution", lambda name: SimpleNamespace(read_text=lambda file: text))

    return record


def test_a_copy_from_an_index_is_extended_by_its_name(recorded):
    recorded(None)
    assert install_line("serve") == 'pip install "alexnet[serve]"'
    assert reinstall_line() == "in your clone: pip install --force-reinstall --no-deps ."


def test_a_copy_that_pip_installed_from_a_folder_or_file_is_extended_from_there(tmp_path, recorded):
    """The package is on no index: `pip install .` in a clone, and `alexnet attribute` must name the clone."""
    root, file = tmp_path / "my clones", tmp_path / "alexnet-0.1.0.whl"
    root.mkdir()
    file.touch()
    recorded(root.as_uri())
    assert install_line("serve") == f'pip install "{root}[serve]"'
    assert reinstall_line() == f'pip install --force-reinstall --no-deps "{root}"'
    recorded(file.as_uri())
    assert install_line("serve") == f'pip install "{file}[serve]"'
    assert reinstall_line() == "in your clone: pip install --force-reinstall --no-deps .", "a wheel holds no sources"
    file.unlink()
    assert install_line("serve") == 'in your clone: pip install ".[serve]"'
    recorded("https://example.org/alexnet.whl")
    assert install_line("serve") == 'pip install "alexnet[serve]"'


def test_a_clone_is_extended_by_its_path_from_any_folder(tmp_path, monkeypatch):
    root = tmp_path / "my clones" / "alexnet"
    (root / "src/alexnet/_runtime").mkdir(parents=True)
    (root / "pyproject.toml").touch()
    monkeypatch.setattr(extras, "__file__", str(root / "src/alexnet/_runtime/extras.py"))
    assert install_line("serve") == f'pip install -e "{root}[serve]"'
    assert reinstall_line() == f'pip install --force-reinstall --no-deps -e "{root}"'
    assert shlex.split(install_line("serve"))[-1] == f"{root}[serve]", "one word for a shell"


def test_the_extras_are_those_of_pyproject():
    assert set(EXTRAS) == PROJECT["optional-dependencies"].keys() - DEVELOPMENT
    whole = re.fullmatch(r"alexnet\[(.*)\]", *PROJECT["optional-dependencies"]["all"])
    assert whole
    assert set(whole[1].split(",")) == EXTRAS.keys() - NOT_IN_ALL


def test_each_extra_installs_what_is_imported_of_it():
    """A module is named as its package, but for these."""
    packages = {"prometheus_client": "prometheus-client", "google.protobuf": "protobuf", "pi_heif": "pi-heif",
                "faiss": "faiss-cpu", "sklearn": "scikit-learn"}
    for name, extra in EXTRAS.items():
        required = {re.match(r"[\w.-]+", each)[0] for each in PROJECT["optional-dependencies"][name]}
        assert {packages.get(module, module) for module in extra.modules} <= required, name


def test_no_other_place_writes_a_pip_line_for_an_extra():
    own = ROOT / "src/alexnet/_runtime/extras.py"
    texts = [path for kind in ("*.py", "*.html", "*.js") for path in (ROOT / "src").rglob(kind) if path != own]
    texts += [*(ROOT / "examples").rglob("*.py"), ROOT / "hubconf.py"]
    assert len(texts) > 200
    found = [f"{path.relative_to(ROOT)}: {match[0]}" for path in texts
             for match in re.finditer(r"alexnet\[[\w,]+\]", path.read_text(encoding="utf-8"))]
    assert not found


def test_every_extra_that_the_documents_name_exists():
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    named = {extra for path in documents for match in re.finditer(r"['\"](?:alexnet|\.)\[([\w,]+)\]", path.read_text())
             for extra in match[1].split(",")}
    assert named
    assert named <= PROJECT["optional-dependencies"].keys()


def test_a_module_of_a_missing_package_is_missing():
    assert is_installed("xml.dom")
    assert not is_installed("no_such_package.module")
    assert not is_installed("xml.no_such_module")


@pytest.mark.parametrize("name", EXTRAS)
def test_missing_modules_are_named(name, monkeypatch):
    monkeypatch.setattr(extras, "is_installed", lambda module: module == "captum")
    assert EXTRAS[name].missing == [module for module in EXTRAS[name].modules if module != "captum"]
