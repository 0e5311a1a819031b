"""Which software writes a file: the version of alexnet and, of a clone or an installation from git, the commit."""

from __future__ import annotations

import json
import re
import tomllib
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from alexnet._runtime.extras import clone

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
"""SHA-1, or the SHA-256 of newer repositories."""


UNKNOWN = "unknown"
"""The version of a copy that is neither installed nor in a clone, such as a copied folder `alexnet`."""


def own_version() -> str:
    """The version of this package: of its installation, or of the clone that is on Python's path without one."""
    with suppress(PackageNotFoundError):
        return version("alexnet")
    if root := clone():
        with suppress(OSError, ValueError, KeyError):
            return str(tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"])
    return UNKNOWN


@cache
def software_versions() -> dict[str, str]:
    """The version of alexnet, and under `alexnet_commit` its commit if that is known.

    The commit is the one that is checked out. Whether files were changed since is not known: git is not run.
    """
    found = {"alexnet": own_version()}
    if commit := commit_of(root) if (root := clone()) else _installed_commit():
        found["alexnet_commit"] = commit
    return found


def versions_text(versions: dict[str, str]) -> str:
    """What `software_versions` found, and other versions, in a line: "alexnet 0.1.0 (commit 0123456789ab), torch 2.13".
    """
    commit = versions.get("alexnet_commit", "")
    return ", ".join(f"{name} {number}" + (f" (commit {commit[:12]})" if name == "alexnet" and commit else "")
                     for name, number in versions.items() if name != "alexnet_commit")


def commit_of(root: Path) -> str | None:
    """The commit that is checked out in a git work tree, by the files of its `.git`; None if that cannot be read."""
    with suppress(OSError, UnicodeDecodeError):
        folder = root / ".git"
        if folder.is_file():  # of a linked work tree or a submodule: "gitdir: PATH"
            folder = root / folder.read_text("utf-8").removeprefix("gitdir:").strip()
        head = (folder / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref:"):
            return _checked(head)
        ref, common = head.removeprefix("ref:").strip(), folder / "commondir"
        folders = [folder, *([folder / common.read_text("utf-8").strip()] if common.is_file() else [])]
        for place in folders:
            if (place / ref).is_file():
                return _checked((place / ref).read_text("utf-8").strip())
        packed = (folders[-1] / "packed-refs").read_text("utf-8").splitlines()
        return next((_checked(line.partition(" ")[0]) for line in packed if line.endswith(f" {ref}")), None)
    return None


def _installed_commit() -> str | None:
    """The commit that pip has installed this copy from, by its record (PEP 610)."""
    with suppress(PackageNotFoundError, ValueError, AttributeError):
        record = json.loads(distribution("alexnet").read_text("direct_url.json") or "{}")
        return _checked(str(record.get("vcs_info", {}).get("commit_id", "")))
    return None


def _checked(text: str) -> str | None:
    return text if _COMMIT.fullmatch(text) else None
