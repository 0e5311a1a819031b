"""The generated page of settings."""

import re

from docsite.reference import settings_page


def test_an_empty_default_is_an_empty_cell():
    """`drop_epochs` is an empty list by default: two backticks with nothing between are no code in Markdown."""
    page = settings_page()
    assert "| `drop_epochs` |  | Schedule" in page
    assert "| `drop_factor` | `10.0` |" in page
    assert not re.search(r"\| `` \|", page)
