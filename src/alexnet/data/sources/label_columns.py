"""Which columns of a table name the image, its label and its split: by their contents and their names, or refused."""

from __future__ import annotations

import re
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
YES_NO_SPLITS = {"isvalid": "val", "isval": "val", "isvalidation": "val", "istest": "test", "istrain": "train"}
"""Names of columns, in lower case and without blanks, dashes and underscores; the last ones hold yes or no."""

_PIXELS = re.compile(r"pixels?[\s_]?\d*|\d+x\d+", re.IGNORECASE)
"""Names of columns in tables of images as numbers: fer2013.csv, mnist_train.csv."""

_YES, _NO = {"true", "yes", "1", "1.0"}, {"false", "no", "0", "0.0"}
_SAMPLE_ROWS = 500
_RENAME = ("copy the table, rename its columns of file names and classes to file_name and label, and give the copy "
           "with --labels")


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

    unused: tuple[str, ...] = ()
    """The columns that say something else."""

    def __str__(self) -> str:
        label = (f"labels in {self.label!r}" if self.label
                 else f"one column of 0 and 1 for each of {len(self.one_hot)} classes")
        return f"images in column {self.file!r}, {label}" + (f", splits in {self.split!r}" if self.split else "")


def find_columns(table: Table, find: Callable[[str], list[str]]) -> Columns:
    """The meaning of the columns.

    Args:
        find: the images that a cell names.

    Raises:
        UserError: two columns are as likely as each other, or none is.
    """
    names_images = file_columns(table, find)
    file = names_images[0]
    rest = [name for name in table.header if name and name not in names_images]
    split = next((name for name in rest if _is_split(table, name)), "")
    rest = [name for name in rest if name != split]
    named = [name for name in rest if plain(name) in LABEL_NAMES]
    if not named and len(rest) >= 2 and _is_one_hot(table, rest):
        return Columns(file, "", tuple(rest), split)
    label = _label_column(table, named or rest)
    return Columns(file, label, (), split, tuple(name for name in rest if name != label))


def plain(name: str) -> str:
    """The name of a column in lower case, without blanks, dashes and underscores."""
    return name.lower().replace(" ", "").replace("_", "").replace("-", "")


def file_columns(table: Table, find: Callable[[str], list[str]]) -> list[str]:
    """The columns whose cells name images, the one to use first; all of them name the same images."""
    require(len(set(table.header)) == len(table.header), f"{table.name} has two columns of the same name", _RENAME)
    found = {name: [find(cell) for cell in table.column(name)[:_SAMPLE_ROWS]] for name in table.header}
    matches = {name: sum(map(bool, images)) for name, images in found.items()}
    usual = {name: count for name, count in matches.items() if count and plain(name) in FILE_NAMES} or matches
    best = max(usual.values())
    if not best and (pixels := next(filter(_PIXELS.fullmatch, table.header), "")):
        raise UserError(f"{table.name} seems to hold the images themselves, as numbers in its column {pixels!r}, which "
                        "is not supported", "save each row as an image, in a folder with the name of its class")
    if not best:
        raise UserError(f"{table.name} has no column that names images of the data (columns: "
                        f"{', '.join(table.header[:10])}; the first row: {', '.join(table.rows[0][:10])})",
                        "give paths relative to the data, or file names")
    likely = [name for name, count in usual.items() if count == best or plain(name) == "filename"]
    likely.sort(key=lambda name: plain(name) != "filename")
    if plain(likely[0]) != "filename" and any(found[name] != found[likely[0]] for name in likely):
        raise UserError(f"{table.name} has several columns that name images: {', '.join(likely)}", _RENAME)
    return likely


def _is_split(table: Table, name: str) -> bool:
    """Whether a column states the splits. Raises UserError if it does so in some rows only."""
    if plain(name) in YES_NO_SPLITS:
        return True
    if plain(name) not in SPLIT_NAMES:
        return False
    unknown = next((cell for cell in table.column(name) if not split_name(cell)), None)
    require(unknown is None or not any(map(split_name, table.column(name))),
            f"{table.name} has {unknown!r} in its column {name!r}, which is not the name of a split",
            "use train, val and test")
    return unknown is None


def split_cells(table: Table, columns: Columns) -> list[str]:
    """The split of each row: `train`, `val` or `test`; "" if the table does not state it."""
    if not columns.split:
        return [""] * len(table.rows)
    cells = table.column(columns.split)
    if not (meant := YES_NO_SPLITS.get(plain(columns.split))):
        return [split_name(cell) for cell in cells]
    other = "val" if meant == "train" else "train"
    unknown = next((cell for cell in cells if cell.lower() not in _YES | _NO), None)
    require(unknown is None, f"{table.name} has {unknown!r} in its column {columns.split!r}, which is neither true nor "
            "false", "use True and False")
    return [meant if cell.lower() in _YES else other for cell in cells]


def _label_column(table: Table, candidates: Sequence[str]) -> str:
    """The only candidate, or of two that mean the same (class_id and class_name) the one with names."""
    if not candidates:
        raise UserError(f"{table.name} has no column of labels (columns: {', '.join(table.header)})", _RENAME)
    exact = [name for name in candidates if plain(name) == "label"] or candidates
    first = table.column(exact[0])
    same = [name for name in candidates if _one_to_one(first, table.column(name))]
    if len(exact) > 1 and len(same) < len(candidates):
        raise UserError(f"{table.name} has several columns that may be the labels: {', '.join(candidates)}", _RENAME)
    return next((name for name in same if not all(map(_is_number, table.column(name)))), exact[0])


def _one_to_one(first: Sequence[str], second: Sequence[str]) -> bool:
    pairs = set(zip(first, second, strict=True))
    return len(pairs) == len(set(first)) == len(set(second))


def is_measurement(labels: Sequence[str], column: str) -> bool:
    """Whether labels are numbers with fractions, or, in a column that is not called label, all different numbers."""
    if not labels or not all(map(_is_number, labels)):
        return False
    fractions = any(not float(label).is_integer() for label in labels)
    return fractions or (plain(column) not in LABEL_NAMES and len(set(labels)) == len(labels))


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
