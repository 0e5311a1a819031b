"""docs/install.md: its extras are those of the package, and its sizes add up."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet._runtime.extras import EXTRAS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")


def test_its_table_has_every_extra_with_its_packages():
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", PAGE, re.MULTILINE)
    assert [name for name, _ in rows] == list(EXTRAS)
    packages = {"google.protobuf": "protobuf", "pi_heif": "pi-heif", "faiss": "faiss-cpu", "sklearn": "scikit-learn",
                "prometheus_client": "prometheus-client"}
    for name, listed in rows:
        assert listed.split(", ") == [packages.get(module, module) for module in EXTRAS[name].modules], name


@pytest.mark.needs("cibuildwheel", "pip install '.[ci]'")
def test_cibuildwheel_would_build_the_wheels_that_the_page_names():
    """It lists them without a network, and reads its configuration as it does when it builds."""
    paragraph = " ".join(PAGE.split("## Wheels\n")[1].split())
    first, last, *systems = re.search(r"for Python 3\.(\d+) to 3\.(\d+) on Linux \(([^)]+)\), macOS \(([^)]+)\) and "
                                      r"Windows \(([^)]+)\)", paragraph).groups()
    tags = {"linux": "manylinux", "macos": "macosx", "windows": "win"}
    for (platform, tag), archs in zip(tags.items(), systems, strict=True):
        command = [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", platform]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
        assert set(listed) == {f"cp3{version}-{tag}_{arch.lower()}" for version in range(int(first), int(last) + 1)
                               for arch in archs.split(", ")}


def test_the_workflow_of_the_wheels_has_the_version_of_cibuildwheel_that_is_tested():
    pinned = re.search(r"^cibuildwheel==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert f"cibuildwheel=={pinned}\n" in (ROOT / ".github" / "workflows" / "wheels.yml").read_text()


def test_its_sizes_add_up():
    parts = re.findall(r"^\| .* \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    (total,) = re.findall(r"\*\*without torch\*\* \| \*\*(\d+)\*\* \| \*\*(\d+)\*\*", PAGE)
    assert len(parts) == 4
    for column in (0, 1):
        # Each is rounded by itself.
        assert sum(int(part[column]) for part in parts) == pytest.approx(int(total[column]), abs=1)
    newer = re.findall(r"\*\*without torch, Python 3\.1[23]\.\d+\*\* \| \*\*(\d+)\*\* \| \*\*(\d+)\*\*", PAGE)
    assert int(total[0]) < 130
    assert len(newer) == 2
    assert all(int(files) < int(compiled) < 130 for files, compiled in newer)
