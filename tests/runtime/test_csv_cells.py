"""No text begins a formula in a CSV file, whatever divides its cells; the page of the server writes the same cells."""

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import alexnet.serving
from alexnet._runtime.csv_cells import BLANK_START, FORMULA, QUOTED, csv_row, csv_text

CELLS = [
    ("=HYPERLINK(\"http://a\")", "'=HYPERLINK(\"http://a\")"), ("+1", "'+1"),
    ("-cmd|' /C calc'!A0", "'-cmd|' /C calc'!A0"),
    ("@SUM(A1)", "'@SUM(A1)"), ("\t=1", "'\t'=1"), ("\r=1", "'\r'=1"), ("\n=1", "'\n'=1"), (" =1", "' =1"),
    ("\tcat", "'\tcat"), ("a;=1+1", "a;'=1+1"), ("a;;=1", "a;;'=1"), ("a\t+1", "a\t'+1"), ("a; @x", "a;' @x"),
    ("a;-1;=2", "a;'-1;'=2"), ("a\";=1", "a\";'=1"), ("a\n=1", "a\n'=1"), ("＝1+1", "'＝1+1"),
    ("＋1", "'＋1"), ("－1", "'－1"), ("＠x", "'＠x"), ("a;＝1", "a;'＝1"), ('a;"=1+1', "a;'\"=1+1"),
    ('"=1"', "'\"=1\""),
    ("cat.jpg", "cat.jpg"), ("a=b", "a=b"), ("", ""), ("'=1", "'=1"), ("a;b", "a;b"),
    ("a,=b", "a,=b"), ("great-white; shark", "great-white; shark")]
"""A text, and what is in its cell."""

SIGNS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


@pytest.mark.parametrize(("text", "cell"), CELLS)
def test_a_formula_becomes_text_and_all_else_stays(text, cell):
    assert csv_text(text) == cell
    assert next(csv.reader([csv_row([text, 1])])) == [cell, "1"] or "\n" in cell or "\r" in cell


@pytest.mark.parametrize("text", [text for text, _ in CELLS])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("quotes", [csv.QUOTE_MINIMAL, csv.QUOTE_NONE])
def test_no_cell_begins_a_formula_whatever_a_spreadsheet_divides_the_line_at(text, delimiter, quotes):
    """Quotes in the middle of a line count for nothing where the line is divided at semicolons."""
    lines = csv_row(["a.jpg", 1, text]).replace("\r\n", "\n").replace("\r", "\n").splitlines()
    for row in csv.reader(lines, delimiter=delimiter, quoting=quotes):
        for cell in row:
            assert not cell.strip().startswith(SIGNS) or (delimiter == "," and text == "a,=b")


def test_cells_that_any_spreadsheet_divides_are_quoted():
    assert csv_row(["a;b", "c\td", "e,f", 'g"h', "i", 2, None]) == '"a;b","c\td","e,f","g""h",i,2,\r\n'


def page_function():
    page = (Path(alexnet.serving.__file__).parent / "web" / "page.js").read_text(encoding="utf-8")
    return re.search(r"^function csvCell\(.*?^}$", page, re.DOTALL | re.MULTILINE)[0]


def test_the_page_has_the_same_patterns():
    assert all(f"/{pattern}/" in page_function() for pattern in (FORMULA, BLANK_START, QUOTED))


@pytest.mark.skipif(not shutil.which("node"), reason="Node.js runs the page's function")
def test_the_page_writes_the_same_cells():
    texts = [text for text, _ in CELLS]
    program = f"{page_function()}\nprocess.stdout.write(JSON.stringify({json.dumps(texts)}.map(csvCell)))"
    printed = subprocess.run(["node", "-e", program], capture_output=True, check=True, encoding="utf-8").stdout
    assert json.loads(printed) == [csv_row([text]).removesuffix("\r\n") for text in texts]
