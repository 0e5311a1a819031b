"""No dependency may be installed in a version with a published vulnerability."""

import re
import tomllib
from pathlib import Path

import pytest

FIXED = {
    "pillow": ("12.3.0", "PYSEC-2026-2253 to 2257"),
    "jinja2": ("3.1.6", "CVE-2025-27516"),
    "protobuf": ("6.33.5", "CVE-2026-0994"),
    "filelock": ("3.20.3", "CVE-2026-22701"),
    "onnx": ("1.21.0", "CVE-2026-27489"),
    "pyarrow": ("23.0.1", "CVE-2026-25087"),
    "pi-heif": ("1.3.0", "CVE-2026-28231"),
    "starlette": ("1.0.1", "CVE-2026-48710"),
    "h11": ("0.16.0", "CVE-2025-43859"),
    "setuptools": ("78.1.1", "CVE-2025-47273"),
    "torch": ("2.8.0", "CVE-2025-3730 and others"),
}
"""Name -> the first version without known vulnerabilities, and the last one that was fixed, as of November 2026."""


def version(text):
    return tuple(int(part) for part in text.split("."))


@pytest.mark.parametrize("name", FIXED)
def test_the_oldest_version_allowed_has_no_known_vulnerability(name):
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    lists = [project["build-system"]["requires"], project["project"]["dependencies"],
             *project["project"]["optional-dependencies"].values()]
    floors = [match[1] for requirements in lists for requirement in requirements
              if (match := re.match(rf"{re.escape(name)}>=([\d.]+)", requirement))]
    assert floors
    fixed, advisory = FIXED[name]
    for floor in floors:
        assert version(floor) >= version(fixed)[: len(version(floor))], advisory
