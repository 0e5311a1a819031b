"""Text for CSV files that a spreadsheet does not take for a formula."""

from __future__ import annotations

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A cell that begins so is a formula, or becomes one when spaces are stripped (OWASP, "CSV Injection")."""


def csv_text(text: str) -> str:
    """The text, with an apostrophe before it where a spreadsheet would run it as a formula.

    File names and class names come from strangers' files. The page of `alexnet serve` does the same.
    """
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
