"""An `Arch` -> one interactive offline page: change a number, and see every size, its arithmetic, the kernel sliding.

The page's own arithmetic is JavaScript and says what explain.py says; a browser test compares the two over 1,000 random
networks. All presets are in it, so that one file answers for each.
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
    """HTML that opens with `arch` at an input of `size` pixels, its own crop unless said.

    Raises ValueError for an input that is too small.
    """
    size = arch.input.crop if size is None else size
    check_size(arch, size)
    networks = {name: to_json(preset) for name, preset in ARCHS.items()}
    if arch != ARCHS.get(arch.name):
        networks[f"{arch.name}, as set"] = to_json(arch)
    name = arch.name if arch == ARCHS.get(arch.name) else f"{arch.name}, as set"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True)
    # Inside a script element only `</` could end it.
    data = json.dumps({"networks": networks, "name": name, "size": size}).replace("</", "<\\/")
    return environment.get_template("explorer.html").render(palette=Markup(stylesheet(":root")), data=Markup(data))


def write(path: Path, arch: Arch, size: int | None = None) -> None:
    """The page as a file, whole or not at all."""
    text = page(arch, size)
    replace_file(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))
