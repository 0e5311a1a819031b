"""Installed distributions: those that some requirements need, and wheels made of them again, without a network."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed(requirements: Iterable[str]) -> dict[str, Distribution]:
    """The installed distributions that these requirements need, directly or not, by normalized name.

    Raises:
        PackageNotFoundError: one is not installed.
    """
    todo, done = [(Requirement(text), frozenset[str]()) for text in requirements], set[str]()
    found: dict[str, Distribution] = {}
    while todo:
        requirement, extras = todo.pop()
        if str(requirement) in done or (requirement.marker and not any(
                requirement.marker.evaluate({"extra": extra}) for extra in extras or ("",))):
            continue
        done.add(str(requirement))
        name = canonicalize_name(requirement.name)
        found[name] = distribution(name)
        todo += [(Requirement(text), frozenset(requirement.extras)) for text in found[name].requires or ()]
    return found


def write_wheel(installed: Distribution, folder: Path) -> Path:
    """Pack an installed distribution as the wheel that it came from, without compression.

    Commands are left out, which pip makes anew from the entry points, and so is what pip has added.

    Raises:
        PackageNotFoundError: it was not installed from a wheel, or in place (`pip install -e`).
    """
    tags = re.findall(r"^Tag: (\S+)-(\S+)-(\S+)$", installed.read_text("WHEEL") or "", re.MULTILINE)
    record = [file for file in installed.files or () if ".." not in file.parts and file.suffix != ".pyc"
              and file.name not in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")]
    if not tags or not record or installed.read_text("direct_url.json"):
        raise PackageNotFoundError(installed.name)
    name = re.sub(r"[-_.]+", "_", installed.name)
    python, abi, platform = (".".join(dict.fromkeys(kinds)) for kinds in zip(*tags, strict=True))
    wheel, rows = folder / f"{name}-{installed.version}-{python}-{abi}-{platform}.whl", list[str]()
    info = next(file.parent for file in record if file.name == "WHEEL" and len(file.parts) == 2)
    with ZipFile(wheel, "w") as file:
        for member in record:
            file.write(member.locate(), member.as_posix())
            rows.append(f'"{member.as_posix()}",{f"{member.hash.mode}={member.hash.value}" if member.hash else ""},')
        file.writestr(f"{info.as_posix()}/RECORD", "\n".join([*rows, f'"{info.as_posix()}/RECORD",,']) + "\n")
    return wheel
