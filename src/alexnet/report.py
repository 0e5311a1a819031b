"""A run's folder, and its photographs where they are at hand -> one offline page, RUN/report.html, and RUN/figures/.

A section of the page is one function: from `Material` to what the template `report.html` shows under the same name, or
None where there is nothing to show. The page asks nobody: pictures are inlined, it has no script, and its own policy
forbids requests. The same run gives the same page, byte for byte. A run is read from its files; `train` is not imported.

Shapes: M photographs that were asked about, K classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from alexnet import figures
from alexnet.shards import Packed

Event = dict[str, Any]
Section = dict[str, Any]

ASKED = 5000
"""At most so many validation photographs are asked about: enough for a page, and minutes rather than hours on a CPU."""

MATRIX_CLASSES = 40
"""A confusion matrix of more classes than this cannot be read."""

SHOWN = 8
"""Photographs in a row of Figure 4, and mistakes."""


def report(run: Path, packed: Packed | None = None, *, title: str | None = None, note: str = "") -> Path:
    """Write RUN/report.html, whole or not at all, and its figures as files beside it; returns the page's path.

    packed: the data, for the sections that show photographs. note: a plain-spoken caveat that stands with the result.
    Raises ValueError naming what is missing: no run, no finished epoch, no readable checkpoint, other classes or side.
    """
    material = read(run, packed)
    sections = {name: section(material, note) if name == "result" else section(material)
                for name, section in SECTIONS.items()}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True)
    page = environment.get_template("report.html").render(
        title=title or f"{material.checkpoint.arch.name} on {material.data}", name=material.checkpoint.arch.name,
        palette=Markup(figures.stylesheet(":root")), **sections)
    save_figures(material)
    partial = run / "report.html.new"
    partial.write_bytes(page.encode("utf-8", "replace"))  # a file's name may hold bytes that are no letters
    return partial.replace(run / "report.html")
