"""HTML pages: fill a jinja template that extends base.html, which has the head and style sheet of all pages.

A page is one file that makes no request: its content security policy forbids that, and every value is escaped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.page_style import stylesheet

_BASE = Path(__file__).parent / "templates"
"""The folder of base.html and of macros.html, which every template may use."""


def render_page(template: Path, **values: Any) -> str:
    """The HTML of a page: a template that extends base.html, with these values. All but `Markup` is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, _BASE]), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(template.name).render(palette=Markup(stylesheet(":root")), **values)


def write_page(path: Path, page: str) -> None:
    """Write a page atomically; missing folders are made. In a file name that is not UTF-8, bytes become escapes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda temporary: temporary.write_text(page, "utf-8", "backslashreplace"))


def script_json(value: object) -> Markup:
    """JSON to stand in a script element, which only `</` could end and only `<!--` could change."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))
