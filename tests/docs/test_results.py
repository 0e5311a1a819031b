"""docs/results.md is what `alexnet results` writes from docs/results.jsonl, with a figure for each result."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from alexnet.reproduce.results import read_outcomes
from alexnet.reproduce.results_page import write_results_page

DOCS = Path(__file__).parents[2] / "docs"


def texts(svg):
    """The text of a figure."""
    return [element.text for element in ET.parse(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_the_page_and_its_figures_are_those_of_the_results_file(tmp_path):
    page = tmp_path / "results.md"
    page.write_text((DOCS / "results.md").read_text())
    _, *figures = write_results_page(read_outcomes(DOCS / "results.jsonl"), page)
    remedy = "write it with `alexnet results docs/results.jsonl --page docs/results.md`"
    assert page.read_text() == (DOCS / "results.md").read_text(), remedy
    assert {path.name for path in (DOCS / "results").glob("*.svg")} == {path.name for path in figures}, remedy
    for figure in figures:
        assert texts(DOCS / "results" / figure.name) == texts(figure), remedy


def test_its_pictures_and_links_are_there():
    page = (DOCS / "results.md").read_text()
    for target in re.findall(r"\]\(([^)]+)\)", page):
        assert (f'<a id="{target[1:]}"></a>' in page) if target.startswith("#") else (DOCS / target).exists(), target


def test_its_results_are_no_quick_trials_and_no_seed_chose_a_rate_and_counts():
    for outcome in read_outcomes(DOCS / "results.jsonl"):
        assert not outcome["quick"], outcome["claim"]
        assert not set(outcome["seeds"]) & set(outcome["tuning_seeds"]), outcome["claim"]
