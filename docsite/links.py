"""Check the links of a built site without a network: every page, file and anchor that it names must be there.

Also finds what a page would load from another host: scripts, styles, fonts and images.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src")}
"""Tags and attributes whose target a browser loads with the page. <link> too, unless its rel is one of NOT_LOADED."""
NOT_LOADED = {"canonical", "alternate", "next", "prev", "edit"}


class _Page(HTMLParser):
    """Collects the ids of a page, what it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        self.loaded += [values[name] for loads, name in LOADED if tag == loads and name in values]
        if tag == "link" and values.get("rel", "") not in NOT_LOADED:
            self.loaded.append(values.get("href", ""))


def broken_links(site: Path) -> list[str]:
    """Every link of the pages in `site` that leads nowhere, and everything that they load from another host.

    Links to other hosts are not followed.
    """
    pages = {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    faults = []
    for path, page in pages.items():
        if path.name == "404.html":  # its links are absolute, for a server's root
            continue
        name = path.relative_to(site.resolve())
        faults += [f"{name}: loads {target} from another host" for target in page.loaded if _is_remote(target)]
        for target in [*page.links, *page.loaded]:
            if not _is_remote(target) and (problem := _problem(target, path, pages)):
                faults.append(f"{name}: {problem}")
    for style in sorted(site.rglob("*.css")):
        urls = re.findall(r"url\([\"']?(https?:[^)\"']+)", style.read_text(encoding="utf-8"))
        faults += [f"{style.relative_to(site)}: loads {url} from another host" for url in urls]
    return faults


def _is_remote(target: str) -> bool:
    return bool(urlsplit(target).netloc) or urlsplit(target).scheme == "mailto"


def _problem(target: str, path: Path, pages: dict[Path, _Page]) -> str:
    """What is wrong with a link of the page at `path`; "" if nothing is."""
    parts = urlsplit(target)
    if parts.scheme in ("data", "javascript"):
        return ""
    file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not file.is_file():
        return f"{target} does not exist"
    if parts.fragment and file in pages and unquote(parts.fragment) not in pages[file].ids:
        return f"{target}: no such anchor"
    return ""
