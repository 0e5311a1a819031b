"""Which columns of a table name the image, its label and its split: by their contents and their names, or refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from alexnet.data.sources.labeled import split_name
from alexnet.data.sources.tables import Table
from alexnet.errors import UserError, require

FILE_NAMES = {"filename", "file", "image", "imagename", "imageid", "imagefile", "imagepath", "filepath", "path", "id",
              "img", "imgname", "imgid", "imgpath", "idcode", "photo", "picture", "fname", "imageindex"}
LABEL_NAMES = {"label", "labels", "labelname", "class", "classes", "classname", "category", "categoryname", "target",
               "species", "breed", "diagnosis", "dx", "classid", "labelid", "categoryid"}
SPLIT_NAMES = {"split", "subset", "set", "partition", "usage", "datasplit", "dataset"}
"""Names of columns, in lower case and without blanks, dashes and underscores."""

_SAMPLE_ROWS = 500
_RENAME = "in a copy of the table, name the two columns that count file_name and label, and give it with --labels"


@dataclass(frozen=True)
class Columns:
    """What the columns of a table mean."""

    file: str
    label: str
    """"" if the labels are one-hot."""
    one_hot: tuple[str, ...] = ()
    """Columns of zeros and ones, each named by a class."""
    split: str = ""
    """"" if there is none."""

    def __str__(self) -> str:
        label = (f"labels in {self.label!r}" if self.label
                 else f"one column of 0 and 1 for each of {len(self.one_hot)} classes")
        return f"images in column {self.file!r}, {label}" + (f", splits in {self.split!r}" if self.split else "")


def find_columns(table: Table, is_file: Callable[[str], bool]) -> Columns:
    """The meaning of the columns.

    Args:
        is_file: whether a cell names an image.

    Raises:
        UserError: two columns are as likely as each other, or none is.
    """
    file = _file_column(table, is_file)
    rest = [name for name in table.header if name != file and name]
    split = next((name for name in rest if _plain(name) in SPLIT_NAMES and _all_splits(table.column(name))), "")
    rest = [name for name in rest if name != split]
    named = [name for name in rest if _plain(name) in LABEL_NAMES]
    if not named and len(rest) >= 2 and _is_one_hot(table, rest):
        return Columns(file, "", tuple(rest), split)
    return Columns(file, _label_column(table, named or rest), (), split)


def _plain(name: str) -> str:
    return name.lower().replace(" ", "").replace("_", "").replace("-", "")


def _file_column(table: Table, is_file: Callable[[str], bool]) -> str:
    """The column with the most cells that name images; of two, the one with a usual name."""
    require(len(set(table.header)) == len(table.header), f"{table.name} has two columns of the same name", _RENAME)
    matches = {name: sum(map(is_file, table.column(name)[:_SAMPLE_ROWS])) for name in table.header}
    usual = {name: count for name, count in matches.items() if count and _plain(name) in FILE_NAMES} or matches
    best = max(usual.values())
    if not best:
        raise UserError(f"{table.name} has no column that names images of the data (columns: "
                        f"{', '.join(table.header[:10])}; the first row: {', '.join(table.rows[0][:10])})",
                        "give paths relative to the data, or file names")
    found = [name for name, count in usual.items() if count == best]
    if len(found) > 1 and any(table.column(name) != table.column(found[0]) for name in found):
        raise UserError(f"{table.name} has several columns that name images: {', '.join(found)}", _RENAME)
    return found[0]


def _label_column(table: Table, candidates: Sequence[str]) -> str:
    """The only candidate, or of two that mean the same (class_id and class_name) the one with names."""
    if not candidates:
        raise UserError(f"{table.name} has no column of labels (columns: {', '.join(table.header)})", _RENAME)
    exact = [name for name in candidates if name == "label"] or candidates
    first = table.column(exact[0])
    same = [name for name in candidates if _one_to_one(first, table.column(name))]
    if len(exact) > 1 and len(same) < len(candidates):
        raise UserError(f"{table.name} has several columns that may be the labels: {', '.join(candidates)}", _RENAME)
    return next((name for name in same if not all(map(_is_number, table.column(name)))), exact[0])


def _one_to_one(first: Sequence[str], second: Sequence[str]) -> bool:
    pairs = set(zip(first, second, strict=True))
    return len(pairs) == len(set(first)) == len(set(second))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell
    return True


def _is_one_hot(table: Table, columns: Sequence[str]) -> bool:
    """Whether the columns hold zeros and ones only, and most rows a single one. In the others the label is unclear."""
    values = [one_hot_labels(cells) for cells in zip(*map(table.column, columns), strict=True)]
    return None not in values and 2 * sum(len(labels) == 1 for labels in values if labels is not None) > len(values)


def one_hot_labels(cells: Sequence[str]) -> list[int] | None:
    """The indices of the ones among zeros; None if there is any other value."""
    numbers = [float(cell) if _is_number(cell) and cell else -1.0 for cell in cells]
    return [index for index, number in enumerate(numbers) if number == 1] if set(numbers) <= {0.0, 1.0} else None


def _all_splits(cells: Sequence[str]) -> bool:
    return all(split_name(cell) for cell in set(cells))
