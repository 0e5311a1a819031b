"""Files of the figures: saving as PNG and SVG; and the text in them, cut to length or with equal decimals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.image_encoding import image_file
from alexnet.reproduce.figures.drawing import Drawing
from alexnet.reproduce.figures.png import png
from alexnet.reproduce.figures.svg import svg

# --- Files ------------------------------------------------------------------------------------------------------------


def save_figure(
    picture: Drawing | NDArray[np.uint8], stem: Path, *, with_svg: bool = True, dpi: int = 160,
) -> list[Path]:
    """Write STEM.png, and STEM.svg if `picture` is a drawing and `with_svg` is set; return the paths written.

    Each file is replaced atomically. The SVG follows the reader's light or dark color scheme. If the stem ends in .png
    or .svg, only that file is written.

    Args:
        picture: a drawing, or pixels uint8 [H, W, 3 or 4].
        stem: path without an ending; missing folders are made.
        with_svg: False for a figure of images, which an SVG would only make larger.
        dpi: dots per inch of the PNG.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    endings = [".png", ".svg"] if with_svg and isinstance(picture, Drawing) else [".png"]
    if stem.suffix in (".png", ".svg"):
        endings, stem = [stem.suffix], stem.with_suffix("")
    paths = [stem.with_name(stem.name + ending) for ending in endings]
    for path in paths:
        if not isinstance(picture, Drawing):
            content = image_file(picture, "PNG")
        else:
            content = svg(picture, standalone=True).encode() if path.suffix == ".svg" else png(picture, dpi)
        replace_file(path, lambda new, content=content: new.write_bytes(content))  # type: ignore[misc]
    return paths


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
