"""The version and the commit of the software that writes runs and checkpoints, read without running git."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from alexnet._runtime import software
from alexnet._runtime.extras import clone
from alexnet._runtime.software import UNKNOWN, commit_of, own_version, software_versions, versions_text

FIRST, SECOND = "0123456789abcdef0123456789abcdef01234567", "f" * 40


def repository(root: Path, head: str, **files: str) -> Path:
    (root / ".git").mkdir(parents=True)
    for name, text in {"HEAD": head, **files}.items():
        path = root / ".git" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_branch_a_packed_branch_and_a_detached_head(tmp_path: Path):
    branch = "ref: refs/heads/main\n"
    assert commit_of(repository(tmp_path / "a", branch, **{"refs/heads/main": f"{FIRST}\n"})) == FIRST
    packed = f"# pack-refs with: peeled fully-peeled sorted\n{SECOND} refs/heads/main-2\n{FIRST} refs/heads/main\n"
    assert commit_of(repository(tmp_path / "b", branch, **{"packed-refs": packed})) == FIRST
    # A branch's own file is newer than the packed one.
    assert commit_of(repository(tmp_path / "c", branch, **{
        "packed-refs": packed, "refs/heads/main": SECOND})) == SECOND
    assert commit_of(repository(tmp_path / "d", f"{SECOND}\n")) == SECOND


def test_a_linked_work_tree(tmp_path: Path):
    main = repository(tmp_path / "main", "ref: refs/heads/main", **{
        "refs/heads/main": FIRST, "refs/heads/side": SECOND, "worktrees/side/HEAD": "ref: refs/heads/side",
        "worktrees/side/commondir": "../..\n"})
    linked = tmp_path / "side"
    linked.mkdir()
    (linked / ".git").write_text(f"gitdir: {main / '.git/worktrees/side'}\n")
    assert (commit_of(main), commit_of(linked)) == (FIRST, SECOND)


@pytest.mark.parametrize("files", [
    {}, {"HEAD": ""}, {"HEAD": "ref: refs/heads/.invalid"}, {"HEAD": "not a commit"},
    {"HEAD": "ref: refs/heads/main", "refs/heads/main": "<script>"}])
def test_what_cannot_be_read_is_not_known(tmp_path: Path, files: dict[str, str]):
    assert commit_of(tmp_path) is None
    assert commit_of(repository(tmp_path / "bad", **({"head": ""} | {
        "head" if name == "HEAD" else name: text for name, text in files.items()}))) is None


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_is_that_of_git(tmp_path: Path):
    root = clone()
    asked = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if asked.returncode:
        pytest.skip("this copy is no clone")
    assert commit_of(root) == asked.stdout.strip()


class Installed:
    """A distribution with a record of where it was installed from."""

    def __init__(self, record: str | None) -> None:
        self.record = record

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self.record


@pytest.mark.parametrize(("record", "expected"), [
    (json.dumps({"url": "https://x/y.git", "vcs_info": {"vcs": "git", "commit_id": FIRST}}), FIRST),
    (json.dumps({"url": "file:///home/me/alexnet", "dir_info": {"editable": True}}), None), (None, None),
    ("{", None), (json.dumps({"vcs_info": {}}), None)])
def test_an_installation_from_git_has_the_commit_in_its_record(monkeypatch, record, expected):
    monkeypatch.setattr(software, "clone", lambda: None)
    monkeypatch.setattr(software, "distribution", lambda name: Installed(record))
    software_versions.cache_clear()
    found = software_versions()
    software_versions.cache_clear()
    assert found == {"alexnet": version("alexnet")} | ({"alexnet_commit": expected} if expected else {})


# --- a clone on PYTHONPATH that is not installed ---

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
NOT_INSTALLED = """
import importlib.metadata as metadata
found = metadata.Distribution.from_name.__func__
def from_name(kind, name):
    if name == "alexnet":
        raise metadata.PackageNotFoundError(name)
    return found(kind, name)
metadata.Distribution.from_name = classmethod(from_name)
"""
"""Hides the metadata of the installed package from `version` and `distribution`."""


def without_installation(program: str) -> str:
    """What a Python prints that has this clone's src/ on its path, and no installed alexnet."""
    ran = subprocess.run([sys.executable, "-c", NOT_INSTALLED + program], capture_output=True, text=True,
                         env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_clone_that_is_not_installed_has_the_version_of_its_pyproject(monkeypatch, tmp_path):
    def none(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(software, "version", none)
    assert own_version() == PROJECT["version"]
    monkeypatch.setattr(software, "clone", lambda: None)
    assert own_version() == UNKNOWN
    monkeypatch.setattr(software, "clone", lambda: tmp_path)
    for text in ("", "[project]", "no TOML"):
        (tmp_path / "pyproject.toml").write_text(text)
        assert own_version() == UNKNOWN


def test_doctor_and_the_version_work_in_a_clone_that_is_not_installed():
    printed = without_installation("from alexnet.cli.main import main; main(['doctor'])")
    assert printed.startswith("ok alexnet ")
    assert f"{PROJECT['version']}, from the clone {ROOT}\n" in printed
    assert without_installation("from alexnet.cli.main import main; main(['--version'])").strip() == PROJECT["version"]
    assert without_installation("import alexnet; print(alexnet.__version__)").strip() == PROJECT["version"]


def test_onnx_metadata_and_a_pack_have_a_version_in_a_clone_that_is_not_installed(tmp_path):
    printed = without_installation(f"""
from pathlib import Path
import alexnet
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.models.formats.input_metadata import input_metadata
from alexnet.models.formats.open_weights import open_weights
print(input_metadata(open_weights("pretrained"), from_pixels=False)["version"])
from sample_images import write_class_folders
write_class_folders(Path({str(tmp_path / 'images')!r}))
print(pack(open_dataset({str(tmp_path / 'images')!r}), Path({str(tmp_path / 'packed')!r}), side=32) and "packed")
""".replace("import alexnet\n", f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r})\n"))
    assert printed.split() == [PROJECT["version"], "packed"]


def test_no_other_place_asks_for_the_version_of_this_package():
    asks = re.compile(r"""(?:version|distribution)\(["']alexnet["']\)""")
    found = {path.relative_to(ROOT / "src" / "alexnet").as_posix() for path in (ROOT / "src").rglob("*.py")
             if asks.search(path.read_text("utf-8"))}
    assert found == {"_runtime/software.py", "_runtime/extras.py"}, "the two that expect that there is none"


# --- in words ---


def test_the_versions_in_a_line():
    assert versions_text({"alexnet": "0.1.0", "alexnet_commit": FIRST, "torch": "2.13.0"}) == (
        "alexnet 0.1.0 (commit 0123456789ab), torch 2.13.0")
    assert versions_text({"torch": "2.13.0"}) == "torch 2.13.0"
    assert versions_text({}) == ""
