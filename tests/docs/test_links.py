"""Links of the documentation lead somewhere in a clone and on GitHub, not only in the built site."""

import re

import pytest
from docsite.stage import stage

from rehearsal import ROOT

PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)")
GENERATED = {"docs/learn/explorer.md": {"paper.html"}, "docs/learn/network.md": {"walk.html"}}
"""Targets that exist in the built site alone; the page must say so."""


def links(page):
    """The targets within the repository of a page's links, without its blocks of code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [target for target in LINK.findall(text) if not re.match(r"[a-z]+:", target)]


def anchors(page):
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found | set(re.findall(r"(?:id|name)=\"([^\"]+)\"", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_to_a_file_leads_to_one(page):
    generated = GENERATED.get(page.relative_to(ROOT).as_posix(), set())
    if generated:
        assert "in the built site" in page.read_text(encoding="utf-8")
    for target in links(page):
        path = target.partition("#")[0]
        assert not path or path in generated or (page.parent / path).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_anchor_is_a_heading_of_its_page(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), target


def test_every_page_on_a_section_of_the_paper_has_a_picture():
    pages = re.findall(r"^\| §.*\]\((\w+\.md)\)", (ROOT / "docs" / "learn" / "index.md").read_text(), re.MULTILINE)
    assert len(pages) == 10
    assert [page for page in pages if "![" not in (ROOT / "docs" / "learn" / page).read_text()] == []


def test_links_to_the_package_lead_to_its_reference_on_the_site(tmp_path):
    from docsite.stage import stage

    stage(ROOT, tmp_path / "docs")
    assert "[reference](reference/python.md)" in (tmp_path / "docs" / "python.md").read_text()
    assert "[reference](../reference/settings.md)" in (tmp_path / "docs" / "train" / "index.md").read_text()
    assert (tmp_path / "docs" / "reference" / "python.md").is_file()
    assert (tmp_path / "docs" / "reference" / "settings.md").is_file()


def test_a_link_out_of_docs_leads_to_a_page_of_the_site(tmp_path):
    """`make docs` builds the site, which has no page for a file of the sources unless docsite/stage.py names one."""
    stage(ROOT, tmp_path / "docs")
    missing = [(page.name, target) for page in (tmp_path / "docs").rglob("*.md") for target in links(page)
               if (path := target.partition("#")[0]) and not (page.parent / path).exists()]
    assert missing == [("network.md", "walk.html")]  # which the build makes later
