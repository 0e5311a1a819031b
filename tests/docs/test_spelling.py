"""One spelling of a name everywhere: Tiny ImageNet, as its authors write it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MADE_OR_DATED = ("results.md",)
"""Pages whose text is made of recorded results."""


def test_tiny_imagenet_has_one_spelling():
    files = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.py"),
             *(ROOT / "src").rglob("*.py"), *(ROOT / "src/alexnet/models/weights").glob("*.json")]
    assert len(files) > 200
    other = re.compile(r"Tiny-ImageNet|TinyImageNet|Tiny Imagenet|Tiny ImageNet-200")
    found = [f"{path.relative_to(ROOT)}: {match[0]}" for path in files if path.name not in MADE_OR_DATED
             for match in other.finditer(path.read_text(encoding="utf-8"))]
    assert not found
