"""Build the documentation site: python -m docsite.build. `make docs` calls it.

Stages docs/ and the generated reference in build/docs, lets zensical build the site, and checks every link and anchor
of the built pages without a network. Exit code 1, with a line for each fault, if one is wrong.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from docsite.links import broken_links
from docsite.stage import stage
from docsite.walk import write_walk

ROOT = Path(__file__).parents[1]


def build(out: Path) -> list[str]:
    """Stage, build and check the site, in `out`/site.

    Returns:
        Every fault: what zensical refuses, and every link or anchor that leads nowhere.
    """
    site = out / "site"
    stage(ROOT, out / "docs")
    write_walk(out / "docs" / "learn" / "walk.html")
    shutil.rmtree(site, ignore_errors=True)
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (out / "mkdocs.yml").write_text(config.replace("paths: [src]", f"paths: ['{ROOT / 'src'}']"), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    ran = subprocess.run(command, cwd=out, capture_output=True, text=True)
    if ran.returncode:
        return [ran.stdout + ran.stderr]
    finish(site)
    return broken_links(site)


def finish(site: Path) -> None:
    """Mend what zensical writes for a web server alone, so that the site can be read from the disk.

    Its search loads a script from another host; ours takes its place. Its links to the home page name a folder.
    """
    for path in site.rglob("*.html"):
        up = "../" * (len(path.relative_to(site).parts) - 1)
        text = path.read_text(encoding="utf-8")
        text = text.replace('"https://unpkg.com/iframe-worker/shim"', f'"{up}worker-from-disk.js"')
        path.write_text(text.replace('href="./.."', f'href="{up}index.html"'), encoding="utf-8")


def main() -> None:
    """Build, and print the faults, or where the site is."""
    faults = build(ROOT / "build")
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        sys.exit(1)
    site = ROOT / "build" / "site"
    print(f"{sum(1 for _ in site.rglob('*.html'))} pages, every link and anchor checked: open {site / 'index.html'}")


if __name__ == "__main__":
    main()
