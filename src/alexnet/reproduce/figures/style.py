"""Colors, fonts and files of every figure: matplotlib settings, SVG and PNG output, saving."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.image_encoding import image_file
from alexnet._runtime.page_style import PALETTE, stylesheet

INK, QUIET, FAINT, PAPER, _, BLUE, RED = (light for light, _ in PALETTE.values())

STYLE: Any = {  # Any: matplotlib's newer type stubs require a literal of every known key
    "font.size": 10, "font.family": "sans-serif", "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.titlepad": 8, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": QUIET, "axes.linewidth": 0.8, "axes.titlecolor": INK, "axes.labelcolor": QUIET,
    "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": FAINT, "grid.linewidth": 0.8,
    "xtick.color": QUIET, "ytick.color": QUIET, "xtick.major.size": 3, "ytick.major.size": 0,
    "text.color": INK, "legend.frameon": False, "legend.handlelength": 1.9, "lines.linewidth": 1.8,
    "figure.facecolor": "none", "axes.facecolor": "none", "figure.constrained_layout.w_pad": 0.06,
    "savefig.bbox": "tight", "savefig.pad_inches": 0.05,
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
    "text.parse_math": False,  # a class may be called $10
}
"""matplotlib settings. Every function that draws runs under `matplotlib.rc_context(STYLE)`."""


class WholeFigure(Figure):
    """A figure that is saved at its own size. Others are cropped to what is drawn, which takes a second pass."""


# --- Files ------------------------------------------------------------------------------------------------------------


def save_figure(
    picture: Figure | NDArray[np.uint8], stem: Path, *, with_svg: bool = True, dpi: int = 160,
) -> list[Path]:
    """Write STEM.png, and STEM.svg if `picture` is a figure and `with_svg` is set; return the paths written.

    Each file is replaced atomically. The SVG follows the reader's light or dark color scheme. If the stem ends in .png
    or .svg, only that file is written.

    Args:
        picture: a figure, or pixels uint8 [H, W, 3 or 4].
        stem: path without an ending; missing folders are made.
        with_svg: False for a figure of images, which an SVG would only make larger.
        dpi: dots per inch of the PNG.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    endings = [".png", ".svg"] if with_svg and isinstance(picture, Figure) else [".png"]
    if stem.suffix in (".png", ".svg"):
        endings, stem = [stem.suffix], stem.with_suffix("")
    paths = [stem.with_name(stem.name + ending) for ending in endings]
    for path in paths:
        if path.suffix == ".svg":
            assert isinstance(picture, Figure)
            content = svg(picture, stem.name, standalone=True).encode()
        else:
            content = png(picture, dpi)
        replace_file(path, lambda new, content=content: new.write_bytes(content))  # type: ignore[misc]
    return paths


def svg(figure: Figure, name: str, *, standalone: bool = False) -> str:
    """Render the figure as one <svg> element whose colors are the page's CSS variables (`--ink` and so on).

    Args:
        figure: the figure.
        name: makes the ids in this figure different from those of other figures in one page.
        standalone: make a whole SVG file, with the namespace and with the light and the dark palette.
    """
    text = _render(FigureCanvasSVG(figure), "svg", {"svg.hashsalt": name}).decode()
    text = text[text.index("<svg"):]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[A-Za-z][A-Za-z0-9.]*_\d+"', "", text)  # the same in every figure, and never referred to
    text = re.sub(r' id="layer-([a-z0-9_]+)"', r' data-layer="\1"', text)  # one layer may have several parts
    text = re.sub(r" font-family: [^;\"]*;", "", text)  # use the page's font
    for color, (light, _) in PALETTE.items():
        text = re.sub(rf"((?:fill|stroke): ){light}", rf"\1var(--{color})", text)
    if standalone:
        return text.replace(">", f">\n<style>{stylesheet('svg')} text {{ font-family: sans-serif }}</style>", 1)
    return re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)


def png(picture: Figure | NDArray[np.uint8], dpi: int = 160) -> bytes:
    """Encode a figure (on light paper) or an array of pixels as a PNG file."""
    if isinstance(picture, Figure):
        return _render(FigureCanvasAgg(picture), "png", {"savefig.facecolor": PAPER}, dpi=dpi)
    return image_file(picture, "PNG")


def _render(
    canvas: FigureCanvasSVG | FigureCanvasAgg, kind: str, style: dict[str, str], dpi: float | None = None,
) -> bytes:
    file = io.BytesIO()
    for text in canvas.figure.findobj(Text):  # a file name that is not UTF-8 has characters that no font renders
        text.set_text(text.get_text().encode("utf-8", "replace").decode())
    undated = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    # zlib's level 3 takes a third of the time of level 6, and the files are a tenth larger.
    options: dict[str, Any] = {} if kind == "svg" else {"pil_kwargs": {"compress_level": 3}}
    if isinstance(canvas.figure, WholeFigure):
        options["bbox_inches"] = canvas.figure.bbox_inches
    with matplotlib.rc_context(STYLE | style), warnings.catch_warnings():
        # A class name may be in a script that the font lacks. A browser has it; a PNG shows boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        canvas.figure.savefig(file, format=kind, metadata=undated, dpi=dpi, **options)
    return file.getvalue()


# --- Text -------------------------------------------------------------------------------------------------------------


def equal_decimals(values: Sequence[float]) -> list[str]:
    """Format numbers with the same number of decimals, so that the largest has at least three digits."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    decimals = min(6, max(1, 2 - math.floor(math.log10(largest)))) if largest else 1
    return [f"{value:.{decimals}f}" for value in values]


def truncate(name: str, letters: int) -> str:
    """The first `letters` of a name, with an ellipsis if it is longer."""
    return name if len(name) <= letters else f"{name[:letters - 1]}…"


def truncate_start(name: str, letters: int) -> str:
    """The last `letters` of a name, for file names, which differ at their end."""
    return name if len(name) <= letters else f"…{name[1 - letters:]}"
