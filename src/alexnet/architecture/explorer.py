"""`alexnet explain --html`: an interactive offline page. Change a number, and see all sizes and the sliding kernel.

explorer.html repeats arithmetic.py in JavaScript. A browser test compares the two over random networks. The page
contains all presets.
"""

from __future__ import annotations

import json
from pathlib import Path

import jinja2
from markupsafe import Markup

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.page_style import stylesheet
from alexnet.architecture.arithmetic import check_size
from alexnet.architecture.overrides import to_json
from alexnet.architecture.presets import ARCHS
from alexnet.architecture.spec import Arch


def page(arch: Arch, size: int | None = None) -> str:
    """The page's HTML.

    Args:
        arch: the network that the page shows first.
        size: side of the input in pixels; default: the network's crop.

    Raises:
        UserError: the input is too small.
    """
    size = arch.input.crop if size is None else size
    check_size(arch, size)
    name = arch.name if arch == ARCHS.get(arch.name) else f"{arch.name}, as set"
    networks = {preset.name: to_json(preset) for preset in ARCHS.values()} | {name: to_json(arch)}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True)
    # Only `</` could end the script element.
    data = json.dumps({"networks": networks, "name": name, "size": size}).replace("</", "<\\/")
    return environment.get_template("explorer.html").render(palette=Markup(stylesheet(":root")), data=Markup(data))


def write(path: Path, arch: Arch, size: int | None = None) -> None:
    """Write the page to a file, atomically."""
    text = page(arch, size)
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
