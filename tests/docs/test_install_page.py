"""docs/install.md: its extras are those of the package, and its sizes add up."""

import re
from pathlib import Path

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
    sizes = [int(size) for size in re.findall(r"^\| .* \| (\d+) \|$", PAGE, re.MULTILINE)]
    _, *parts = sizes
    (total,) = map(int, re.findall(r"\*\*without torch\*\* \| \*\*(\d+)\*\*", PAGE))
    assert sum(parts) == total
