"""CSV text that begins like a formula is written as text; the page of the server follows the same rule."""

import re
from pathlib import Path

import pytest

import alexnet.serving
from alexnet._runtime.csv_cells import FORMULA_STARTS, csv_text


@pytest.mark.parametrize(("text", "cell"), [
    ("=HYPERLINK(\"http://a\")", "'=HYPERLINK(\"http://a\")"), ("+1", "'+1"),
    ("-cmd|' /C calc'!A0", "'-cmd|' /C calc'!A0"),
    ("@SUM(A1)", "'@SUM(A1)"), ("\t=1", "'\t=1"), ("\r=1", "'\r=1"), ("\n=1", "'\n=1"),
    ("cat.jpg", "cat.jpg"), ("a=b", "a=b"), ("", ""), ("'=1", "'=1")])
def test_a_formula_becomes_text_and_all_else_stays(text, cell):
    assert csv_text(text) == cell


def test_the_page_has_the_same_first_characters():
    page = (Path(alexnet.serving.__file__).parent / "web" / "page.js").read_text()
    [characters] = re.findall(r"const safe = .*/\^\[(.+?)\]/", page)
    for escape, character in (("\\-", "-"), ("\\t", "\t"), ("\\r", "\r"), ("\\n", "\n")):
        characters = characters.replace(escape, character)
    assert characters == "".join(FORMULA_STARTS)
