"""docs/install.md: its extras are those of the package, and its sizes add up."""

import re
from pathlib import Path

import pytest

from alexnet._runtime.extras import EXTRAS

PAGE = (Path(__file__).parents[2] / "docs" / "install.md").read_text(encoding="utf-8")


def test_its_table_has_every_extra_with_its_packages():
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", PAGE, re.MULTILINE)
    assert [name for name, _ in rows] == list(EXTRAS)
    packages = {"google.protobuf": "protobuf", "pi_heif": "pi-heif", "faiss": "faiss-cpu", "sklearn": "scikit-learn",
                "prometheus_client": "prometheus-client"}
    for name, listed in rows:
        assert listed.split(", ") == [packages.get(module, module) for module in EXTRAS[name].modules], name


def test_its_sizes_add_up():
    parts = re.findall(r"^\| .* \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    (total,) = re.findall(r"\*\*without torch\*\* \| \*\*(\d+)\*\* \| \*\*(\d+)\*\*", PAGE)
    assert len(parts) == 4
    for column in (0, 1):
        # Each is rounded by itself.
        assert sum(int(part[column]) for part in parts) == pytest.approx(int(total[column]), abs=1)
    assert int(total[0]) < 130
