"""The version and the commit of the software that writes runs and checkpoints, read without running git."""

import json
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from alexnet._runtime import software
from alexnet._runtime.extras import clone
from alexnet._runtime.software import commit_of, software_versions, versions_text

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


def test_the_versions_in_a_line():
    assert versions_text({"alexnet": "0.1.0", "alexnet_commit": FIRST, "torch": "2.13.0"}) == (
        "alexnet 0.1.0 (commit 0123456789ab), torch 2.13.0")
    assert versions_text({"torch": "2.13.0"}) == "torch 2.13.0"
    assert versions_text({}) == ""
