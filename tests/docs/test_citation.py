"""CITATION.cff, the BibTeX of the docs and pyproject.toml cite one paper: the same title, pages, year and address."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_the_citation_file_the_bibtex_and_the_package_name_the_same_paper():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (paper,) = cff["references"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entry = re.search(r"@inproceedings\{(.*?)\n\}", (ROOT / "docs/index.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    bibtex = dict(re.findall(r"^ +(\w+) += \{(.*)\},?$", entry, re.MULTILINE))
    assert bibtex["title"].replace("{", "").replace("}", "") == paper["title"]
    assert bibtex["booktitle"] == paper["collection-title"]
    assert bibtex["pages"] == f"{paper['start']}--{paper['end']}"
    assert bibtex["year"] == str(paper["year"])
    assert bibtex["url"] == paper["url"] == project["urls"]["Paper"]
    assert bibtex["author"].split(" and ") == [
        f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]]
    assert cff["version"] == project["version"]


def test_the_citation_file_states_a_date_and_an_address_only_where_there_is_one():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    released = re.search(r"^## \[?\d", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert ("date-released" in cff) == bool(released)
    assert cff.get("repository-code") == urls.get("Repository")
