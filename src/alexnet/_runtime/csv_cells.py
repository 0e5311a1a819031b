"""Rows of CSV files whose texts no spreadsheet takes for a formula."""

from __future__ import annotations

import re
from collections.abc import Iterable

FORMULA = r'(^|[;\t\r\n])(?=[ "]*[=+\-@＝＋－＠])'
"""Before the sign that makes a formula (OWASP, "CSV Injection"), full-width ones included. It may begin a cell also
behind a semicolon or a tab: Excel divides cells there in the countries where a comma is the decimal sign, and quotes
in the middle of a line do not prevent that."""

BLANK_START = r"^[\t\r\n]"
"""A cell that begins so becomes a formula when blanks are stripped."""

QUOTED = r'[",;\t\r\n]'
"""A cell with one of these is written in quotes (RFC 4180), also where only some spreadsheets divide cells."""


def csv_text(text: str) -> str:
    """The text, with an apostrophe before each place where a spreadsheet would begin a formula.

    File names and class names come from strangers' files. The page of `alexnet serve` does the same.
    """
    return re.sub(BLANK_START, r"'\g<0>", re.sub(FORMULA, r"\1'", text))


def csv_row(cells: Iterable[str | int | None]) -> str:
    """One line of a CSV file, with its end: texts as `csv_text` has them, and None as an empty cell.

    Numbers that are texts already, such as "-0.5", must not be negative: they would be taken for formulas.
    """
    return ",".join("" if cell is None else _quoted(csv_text(cell)) if isinstance(cell, str) else str(cell)
                    for cell in cells) + "\r\n"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if re.search(QUOTED, text) else text
