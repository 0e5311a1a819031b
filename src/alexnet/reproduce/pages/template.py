"""HTML pages from jinja templates of this folder, with the shared style sheet, and thumbnails as data URIs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.page_style import data_uri, stylesheet
from alexnet.reproduce.figures.style import image_file

THUMBNAIL_SIDE = 112
"""Pixels. A thumbnail takes about 5 kB."""


def write_page(path: Path, template: str, **values: Any) -> None:
    """Render a template of this folder with these values, and write it atomically; missing folders are made."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True)
    text = environment.get_template(template).render(palette=Markup(stylesheet(":root")), **values)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda temporary: temporary.write_text(text, "utf-8", "backslashreplace"))


def thumbnail(pixels_HWC: NDArray[np.uint8], side: int = THUMBNAIL_SIDE) -> str:
    """An image, made smaller to `side` pixels, as a data URI."""
    image = Image.fromarray(pixels_HWC)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return data_uri(image_file(np.asarray(image), "JPEG"), "jpeg")


def script_json(value: object) -> Markup:
    """JSON to stand in a script element, which only `</` could end and only `<!--` could change."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))
