"""Read a table of text (CSV, TSV, JSON lines) in the encodings that spreadsheets write: UTF-8, UTF-16, Latin-1."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from alexnet.errors import UserError, require

TABLE_EXTENSIONS = (".csv", ".tsv", ".jsonl")

_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars", " ": "blanks"}
"""In the order in which they are tried."""
_SAMPLE_ROWS = 50
_EXCEL = re.compile(r'"?sep=([,;|\t])"?\n', re.IGNORECASE)
"""A first line that tells Excel the delimiter."""


@dataclass(frozen=True)
class Table:
    """The cells of a table as text, without blanks around them."""

    name: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    """Each as long as the header. Empty lines are left out."""
    encoding: str

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        index = self.header.index(name)
        return [row[index] for row in self.rows]


def parse_table(data: bytes, name: str) -> Table:
    """The table in a file's bytes; its first line is the header.

    Raises UserError, naming the file by `name`, if it is empty, or a row has more cells than the header.
    """
    text, encoding = decode_text(data)
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # of Windows, and of the first Macintoshs
    require("\0" not in text, f"{name} is not a table of text: it holds zero bytes", "save it as CSV in UTF-8")
    if name.lower().endswith(".jsonl"):
        header, rows = _json_rows(text.split("\n"), name)
    else:
        stated = _EXCEL.match(text)
        text = text[stated.end() if stated else 0 :]
        delimiter = stated[1] if stated else "\t" if name.lower().endswith(".tsv") else _guess_delimiter(text)
        try:
            cells = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=delimiter,
                                                                       skipinitialspace=delimiter == " ")]
        except csv.Error as error:
            raise UserError(f"{name} cannot be read as a table: {error}", "save it as CSV in UTF-8") from error
        header, *rows = [row for row in cells if any(row)] or [[]]
    require(bool(header and rows), f"{name} holds no rows", "it needs a header and a row for each image")
    for number, row in enumerate(rows, 2):
        require(len(row) <= len(header), f"{name}, row {number}, has {len(row)} cells and the header has {len(header)}",
                "delete the comment above the header" if header[0].startswith("#") else
                "put cells that contain the separator into quotes")
    return Table(name, tuple(header), [[*row, *[""] * (len(header) - len(row))] for row in rows], encoding)


def decode_text(data: bytes) -> tuple[str, str]:
    """Text and its encoding: by its byte order mark, else UTF-8 if it is valid, else Latin-1 (Windows' cp1252)."""
    for mark, encoding in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"),
                           (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, "replace"), encoding.removesuffix("-sig")
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace"), "latin-1"


def _guess_delimiter(text: str) -> str:
    """The first delimiter that cuts all of the first rows into the same number of cells, two or more."""
    for delimiter in _DELIMITERS:
        rows = csv.reader(io.StringIO(text[:200_000]), delimiter=delimiter, skipinitialspace=delimiter == " ")
        widths = {len(row) for row, _ in zip(rows, range(_SAMPLE_ROWS), strict=False) if row}
        if len(widths) == 1 and widths.pop() >= 2:
            return delimiter
    return ","


def _json_rows(lines: Sequence[str], name: str) -> tuple[list[str], list[list[str]]]:
    """The keys of all objects, and the values of each object in that order."""
    try:
        objects = [json.loads(line) for line in lines if line.strip()]
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is not valid JSON: {error}", "it needs one object a line") from error
    require(all(isinstance(item, dict) for item in objects), f"{name} holds values that are not objects",
            "it needs one object a line, with the keys file_name and label")
    header = list(dict.fromkeys(str(key) for item in objects for key in item))
    return header, [["" if item.get(key) is None else str(item[key]).strip() for key in header] for item in objects]
