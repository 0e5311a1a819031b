"""Write the source of the site: docs/, three pages from the root, the notebooks, the generated reference, the explorer.

A link to a file outside docs/ works in a clone, but not on the site. It is changed to the page that shows the file.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from docsite.reference import DEPLOYED, example_anchor, write_reference

PAGES = {"CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md",
         "README.md": "index.md", "CITATION.cff": "credits.md", "LICENSE": "credits.md",
         "src/alexnet/__init__.py": "reference/python.md", "src/alexnet/cli/main.py": "reference/commands.md",
         "src/alexnet/architecture/recipe.py": "reference/settings.md"}
"""Files outside docs/ -> their page on the site. Those of the package hold what its reference is generated from."""
COPIED = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def stage(root: Path, out: Path) -> None:
    """Fill the folder `out` with the source of the site of the repository at `root`."""
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(root / "docs", out)
    for name in COPIED:
        shutil.copy(root / name, out / PAGES[name])
    shutil.copytree(root / "notebooks", out / "notebooks", ignore=shutil.ignore_patterns(".*"))
    write_reference(root, out)
    ledger = (root / "docs" / "paper.md").read_text(encoding="utf-8")
    (out / "errata.md").write_text(errata_page(ledger), encoding="utf-8")
    sources = {out / path.relative_to(root / "docs"): path for path in (root / "docs").rglob("*.md")}
    sources |= {out / PAGES[name]: root / name for name in COPIED}
    for page, source in sources.items():
        text = page.read_text(encoding="utf-8")
        page.write_text(LINK.sub(_mover(source, page, root, out), text), encoding="utf-8")


def errata_page(ledger: str) -> str:
    """The section on errata of docs/paper.md as a page of its own."""
    section = ledger.split("\n## Errata\n")[1].split("\n## ")[0]
    return "# Errata of the paper\n" + section.replace("\n### ", "\n## ")


def _mover(source: Path, page: Path, root: Path, out: Path) -> Callable[[re.Match[str]], str]:
    """A function that gives a Markdown link of the file `source` the target that it has on `page` of the site."""
    return lambda link: _on_the_site(link, source, page, root, out)


def _on_the_site(link: re.Match[str], source: Path, page: Path, root: Path, out: Path) -> str:
    before, target, anchor, after = link[1], link[2], link[3] or "", link[4]
    file = (source.parent / target).resolve()
    if "://" in target or not file.is_relative_to(root):
        return link[0]
    inside = file.relative_to(root)
    if inside.parts[0] == "docs":
        staged = out / inside.relative_to("docs")
    elif inside.as_posix() in PAGES:
        staged = out / PAGES[inside.as_posix()]
    elif inside.parts[0] == "notebooks":
        staged = out / inside
    elif inside.parts[0] == "examples" or inside.as_posix() in DEPLOYED:
        staged, anchor = out / "reference" / "examples.md", f"#{example_anchor(inside)}"
    else:
        return link[0]  # zensical warns of it
    return f"{before}{os.path.relpath(staged, page.parent)}{anchor}{after}"
