"""`alexnet explain --html`: an interactive offline page. Change a number, and see all sizes and the sliding kernel.

explorer.html repeats arithmetic.py in JavaScript. A browser test compares the two over random networks. The page
contains all presets.
"""

from __future__ import annotations

from pathlib import Path

from alexnet._runtime.html_page import render_page, script_json, write_page
from alexnet.architecture.arithmetic import check_size
from alexnet.architecture.network_presets import ARCHS
from alexnet.architecture.overrides import to_json
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
    data = script_json({"networks": networks, "name": name, "size": size})
    return render_page(Path(__file__).parent / "explorer.html", data=data)


def write(path: Path, arch: Arch, size: int | None = None) -> None:
    """Write the page to a file, atomically."""
    write_page(path, page(arch, size))
